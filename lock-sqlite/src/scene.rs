//! What the rows of one key mean together: who holds it, who stands in line, whose turn it is. Pure.
//!
//! A claim is served when it can hold beside all who hold and all who stand before it; one without a
//! place counts as the last of the line. So nobody overtakes, and neighbours in line that can hold
//! together are served together.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Crowd;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Peek;
use lock_core::Result;
use lock_core::Token;

use crate::boot::Moment;
use crate::row::Row;
use crate::row::Stake;
use crate::row::Standing;

/// One key at one moment.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    /// In the order of their fences.
    holders: Vec<Hold>,
    /// In the order of their places.
    line: Vec<Spot>,
    /// The highest fence there is a trace of.
    last: i64,
    /// Whether the second table has rows of the dead.
    pub(crate) has_dead: bool,
}

#[derive(Debug)]
struct Hold {
    token: Token,
    mode: Mode,
    fence: Fence,
    shown: Holder,
    left: Duration,
}

#[derive(Debug)]
struct Spot {
    token: Token,
    mode: Mode,
    place: i64,
    left: Duration,
}

/// What is to be done with a claim that tries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It holds already, under this fence.
    Holds(Fence),
    /// It is its turn.
    Serve {
        /// Whether it stands in line.
        from_line: bool,
    },
    /// Others come first.
    Refuse {
        answer: Attempt,
        /// Whether it is to be put in line, or its place there refreshed.
        stands: bool,
    },
}

impl Scene {
    /// Reads the rows of one key.
    ///
    /// # Errors
    ///
    /// As for [`Row::stake`].
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Row>, at: &Moment) -> Result<Self> {
        let mut scene = Self::default();
        for row in rows {
            scene.last = scene.last.max(row.fence.unwrap_or(0));
            match row.stake(at)? {
                Some(stake) => scene.add(stake),
                None => scene.has_dead |= row.place > 0,
            }
        }
        scene.holders.sort_unstable_by_key(|held| held.fence);
        scene.line.sort_unstable_by_key(|spot| spot.place);
        Ok(scene)
    }

    fn add(&mut self, stake: Stake) {
        let Stake { token, mode, left, standing } = stake;
        match standing {
            Standing::Holds { fence, shown } => {
                self.holders.push(Hold { token, mode, fence, shown, left });
            }
            Standing::Waits { place } => self.line.push(Spot { token, mode, place, left }),
        }
    }

    /// Decides what comes of an attempt.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the claim contradicts what is stored.
    pub(crate) fn judge(&self, claim: &Claim) -> Result<Verdict> {
        self.known().try_for_each(|(token, mode)| claim.check_beside(token, mode))?;
        if let Some(held) = self.holders.iter().find(|held| held.token == claim.token) {
            return Ok(Verdict::Holds(held.fence));
        }
        let place = self.place(claim.token);
        let before = place.unwrap_or(self.line.len());
        if self.crowd_before(before).admits(claim.mode) {
            return Ok(Verdict::Serve { from_line: place.is_some() });
        }
        let queued = place.is_some() || claim.queue;
        let answer = Attempt::Held {
            holders: self.holders.iter().map(|held| held.shown.clone()).collect(),
            retry_in: self.earliest(before),
            ahead: (queued || before > 0).then(|| count(self.holders.len() + before)),
        };
        let fresh = place.is_some_and(|at| is_fresh(self.line[at].left, claim.place_ttl()));
        Ok(Verdict::Refuse { answer, stands: queued && !fresh })
    }

    /// Tells a waiter what would come of an attempt.
    pub(crate) fn peek(&self, claim: &Claim) -> Peek {
        let place = self.place(claim.token);
        let before = place.unwrap_or(self.line.len());
        let retry_in = self.earliest(before);
        let meets = self.holders.iter().any(|held| held.mode != claim.mode);
        match place {
            _ if self.crowd_before(before).admits(claim.mode) => Peek::Free,
            None if before > 0 || meets => Peek::Crowded { retry_in },
            _ => Peek::Held { retry_in },
        }
    }

    /// Returns how many hold or stand before a claim in line, zero if they do not hinder it.
    pub(crate) fn ahead(&self, claim: &Claim) -> u64 {
        let Some(at) = self.place(claim.token) else { return 0 };
        if self.crowd_before(at).admits(claim.mode) {
            return 0;
        }
        count(self.holders.len() + at)
    }

    /// Shows the key to people.
    pub(crate) fn state(&self, key: &str) -> KeyState {
        let holders = self.holders.iter().map(|held| held.shown.clone()).collect();
        KeyState::new(key, holders, count(self.line.len()))
    }

    /// Returns the lowest fence that the next grant may have: also where the key's own row was
    /// deleted by hand, none is lower than those that are still held.
    ///
    /// # Errors
    ///
    /// `Corrupt` if there can be no higher fence.
    pub(crate) fn floor(&self, claim: &Claim) -> Result<i64> {
        let next = u64::try_from(self.last).unwrap_or(0) + 1;
        let next = Fence::new(next).map_err(|_| no_higher_fence(&claim.key))?;
        Ok(stored(claim.fence_floor.map_or(next, |floor| floor.max(next))))
    }

    fn known(&self) -> impl Iterator<Item = (Token, Mode)> {
        let holders = self.holders.iter().map(|held| (held.token, held.mode));
        holders.chain(self.line.iter().map(|spot| (spot.token, spot.mode)))
    }

    fn place(&self, token: Token) -> Option<usize> {
        self.line.iter().position(|spot| spot.token == token)
    }

    /// Returns who would hold if the first `before` in line were served.
    fn crowd_before(&self, before: usize) -> Crowd {
        let holders = self.holders.iter().map(|held| held.mode);
        Crowd::of(holders.chain(self.line[..before].iter().map(|spot| spot.mode)))
    }

    /// Returns when something may change that gives no hint: a lease or a place before that ends.
    fn earliest(&self, before: usize) -> Option<Duration> {
        let leases = self.holders.iter().map(|held| held.left);
        leases.chain(self.line[..before].iter().map(|spot| spot.left)).min()
    }
}

/// The error for a key whose fence has reached the highest.
pub(crate) fn no_higher_fence(key: &LockKey) -> Error {
    let (key, max) = (key.as_str(), Fence::MAX);
    Error::new(
        ErrorKind::Corrupt,
        format!("the row of {key:?} has fence {max}, and there is no higher one"),
    )
}

/// A fence as it is stored: below 2^53.
pub(crate) fn stored(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(i64::MAX)
}

/// Whether a place needs no refresh yet: many who ask at once shall not all write.
fn is_fresh(left: Duration, ttl: Duration) -> bool {
    left > ttl / 4 * 3
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
