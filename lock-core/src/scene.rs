//! What the records of one key mean together, for backends that keep holders and line in tables: who
//! holds it, who stands in line, whose turn it is. Pure.
//!
//! A claim is served when it can hold beside all who hold and all who stand before it; one without a
//! place counts as the last of the line. So nobody overtakes, and neighbours in line that can hold
//! together are served together.

use std::time::Duration;

use crate::Attempt;
use crate::Claim;
use crate::Crowd;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Holder;
use crate::KeyState;
use crate::LockKey;
use crate::Mode;
use crate::Peek;
use crate::Result;
use crate::Token;

/// A claim that counts: it holds, or stands in line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "backends build it from a record")]
pub struct Stake {
    /// Whose it is.
    pub token: Token,
    /// How it excludes others.
    pub mode: Mode,
    /// Until its lease or its place ends.
    pub left: Duration,
    /// What it does.
    pub standing: Standing,
}

/// What a claim that counts does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a claim either holds or waits")]
pub enum Standing {
    /// It holds the key.
    Holds {
        /// The fence of the acquisition.
        fence: Fence,
        /// As people see it.
        shown: Holder,
    },
    /// It stands in line.
    Waits {
        /// Orders the line.
        place: i64,
    },
}

/// One key at one moment.
#[derive(Debug, Default)]
pub struct Scene {
    /// In the order of their fences.
    holders: Vec<Hold>,
    /// In the order of their places.
    line: Vec<Spot>,
    /// How many more stand behind the first in line and before all others of it.
    unseen: u64,
    /// The highest fence there is a trace of.
    last: u64,
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
#[expect(clippy::exhaustive_enums, reason = "a backend has to carry out each")]
pub enum Verdict {
    /// It holds already, under this fence.
    Holds(Fence),
    /// It is its turn.
    Serve {
        /// Whether it stands in line.
        from_line: bool,
    },
    /// Others come first.
    Refuse {
        /// What to answer.
        answer: Attempt,
        /// Whether it is to be put in line, or its place there refreshed.
        stands: bool,
    },
}

impl Scene {
    /// Adds a claim that counts.
    pub fn add(&mut self, stake: Stake) {
        let Stake { token, mode, left, standing } = stake;
        match standing {
            Standing::Holds { fence, shown } => {
                self.saw(fence);
                let at = self.holders.partition_point(|held| held.fence <= fence);
                self.holders.insert(at, Hold { token, mode, fence, shown, left });
            }
            Standing::Waits { place } => {
                let at = self.line.partition_point(|spot| spot.place <= place);
                self.line.insert(at, Spot { token, mode, place, left });
            }
        }
    }

    /// Notes a fence that was granted, also to a claim that counts no more.
    pub fn saw(&mut self, fence: Fence) {
        self.last = self.last.max(fence.get());
    }

    /// Notes that `count` more stand in line behind its first and before the rest: enough for an exclusive
    /// claim, which all of them hinder alike.
    pub fn leaves_out(&mut self, count: u64) {
        self.unseen = count;
    }

    /// Decides what comes of an attempt.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the claim contradicts what is stored.
    pub fn judge(&self, claim: &Claim) -> Result<Verdict> {
        self.known().try_for_each(|(token, mode)| claim.check_beside(token, mode))?;
        if let Some(held) = self.holders.iter().find(|held| held.token == claim.token) {
            return Ok(Verdict::Holds(held.fence));
        }
        let place = self.place(claim.token);
        let before = place.unwrap_or(self.line.len());
        if self.admits(claim.mode, before) {
            return Ok(Verdict::Serve { from_line: place.is_some() });
        }
        let queued = place.is_some() || claim.queue;
        let answer = Attempt::Held {
            holders: self.holders.iter().map(|held| held.shown.clone()).collect(),
            retry_in: self.earliest(before),
            ahead: (queued || before > 0).then(|| self.count_before(before)),
        };
        let fresh = place.is_some_and(|at| is_fresh(self.line[at].left, claim.place_ttl()));
        Ok(Verdict::Refuse { answer, stands: queued && !fresh })
    }

    /// Tells a waiter what would come of an attempt.
    pub fn peek(&self, claim: &Claim) -> Peek {
        let place = self.place(claim.token);
        let before = place.unwrap_or(self.line.len());
        let retry_in = self.earliest(before);
        let meets = self.holders.iter().any(|held| held.mode != claim.mode);
        match place {
            _ if self.admits(claim.mode, before) => Peek::Free,
            None if before > 0 || meets => Peek::Crowded { retry_in },
            _ => Peek::Held { retry_in, fence: Fence::new(self.last).ok() },
        }
    }

    /// Returns how many hold or stand before a claim in line, zero if they do not hinder it.
    pub fn ahead(&self, claim: &Claim) -> u64 {
        let Some(at) = self.place(claim.token) else { return 0 };
        if self.admits(claim.mode, at) { 0 } else { self.count_before(at) }
    }

    /// Returns how long a claim still counts, and whether it holds; `None` if it does neither.
    pub fn standing(&self, token: Token) -> Option<(Duration, bool)> {
        let held = self.holders.iter().find(|held| held.token == token);
        let held = held.map(|held| (held.left, true));
        held.or_else(|| self.place(token).map(|at| (self.line[at].left, false)))
    }

    /// Shows the key to people.
    pub fn state(&self, key: &str) -> KeyState {
        let holders = self.holders.iter().map(|held| held.shown.clone()).collect();
        KeyState::new(key, holders, count(self.line.len()))
    }

    /// Returns the lowest fence that the next grant may have: also where the key's own record was
    /// deleted by hand, none is lower than those that are still held.
    ///
    /// # Errors
    ///
    /// `Corrupt` if there can be no higher fence.
    pub fn floor(&self, claim: &Claim) -> Result<Fence> {
        let next = Fence::new(self.last + 1).map_err(|_| Self::no_higher_fence(&claim.key))?;
        Ok(claim.fence_floor.map_or(next, |floor| floor.max(next)))
    }

    /// The error for a key whose fence has reached the highest.
    pub fn no_higher_fence(key: &LockKey) -> Error {
        let (key, max) = (key.as_str(), Fence::MAX);
        Error::new(
            ErrorKind::Corrupt,
            format!("the row of {key:?} has fence {max}, and there is no higher one"),
        )
    }

    fn known(&self) -> impl Iterator<Item = (Token, Mode)> {
        let holders = self.holders.iter().map(|held| (held.token, held.mode));
        holders.chain(self.line.iter().map(|spot| (spot.token, spot.mode)))
    }

    fn place(&self, token: Token) -> Option<usize> {
        self.line.iter().position(|spot| spot.token == token)
    }

    /// Whether a claim can hold beside the holders and the first `before` in line. Most who wait are told
    /// by the first of them that it cannot.
    fn admits(&self, mode: Mode, before: usize) -> bool {
        let line = self.line[..before].iter().map(|spot| spot.mode);
        let mut crowd = Crowd::default();
        self.holders.iter().map(|held| held.mode).chain(line).all(|met| {
            crowd.add(met);
            crowd.admits(mode)
        })
    }

    fn count_before(&self, before: usize) -> u64 {
        let unseen = if before > 0 { self.unseen } else { 0 };
        count(self.holders.len() + before) + unseen
    }

    /// Returns when something may change that gives no hint: a holder's lease ends, or the place of the
    /// first in line. Those behind it come first one day, and are looked at then.
    fn earliest(&self, before: usize) -> Option<Duration> {
        let leases = self.holders.iter().map(|held| held.left);
        leases.chain(self.line[..before].first().map(|spot| spot.left)).min()
    }
}

/// Whether a place needs no refresh yet: many who ask at once shall not all write.
fn is_fresh(left: Duration, ttl: Duration) -> bool {
    left > ttl / 4 * 3
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
