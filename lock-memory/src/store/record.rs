//! One key: who holds it, who stands in line, who wants a hint, and the highest fence.

use std::time::Duration;
use std::time::SystemTime;

use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Crowd;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::Result;
use lock_core::Token;

use super::Now;
use super::outcome::Fate;
use super::outcome::Own;
use super::outcome::Tried;
use super::session::Anchor;
use super::session::SessionId;
use super::session::Sessions;
use super::watchers::Bell;
use super::watchers::Watchers;

/// The present, as one step of the store sees it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) now: BootInstant,
    pub(super) sessions: &'a Sessions,
}

impl View<'_> {
    fn alive(&self, anchor: Anchor) -> bool {
        self.now < anchor.ends_at(self.sessions)
    }
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) mode: Mode,
    pub(super) owner: Owner,
    pub(super) fence: Fence,
    /// The wall clock in µs, for people.
    pub(super) acquired: u64,
    pub(super) anchor: Anchor,
    /// How often its session took it; it has to release as often.
    pub(super) stacked: u32,
}

#[derive(Debug)]
struct Place {
    token: Token,
    mode: Mode,
    until: BootInstant,
    anchor: Anchor,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    /// The highest fence drawn; kept after a release.
    last: u64,
    pub(super) holders: Vec<Held>,
    line: Vec<Place>,
    pub(super) watchers: Watchers,
}

impl Record {
    /// Takes the key for `claim` if it is its turn.
    pub(super) fn attempt(
        &mut self,
        view: View<'_>,
        now: Now<'_>,
        claim: &Claim,
        anchor: Anchor,
        bells: &mut Vec<Bell>,
    ) -> Result<Tried> {
        self.expire(view);
        self.check(claim)?;
        if let Some(held) = self.holders.iter_mut().find(|held| held.token == claim.token) {
            held.anchor = anchor;
            held.fence = held.fence.max(claim.fence_floor.unwrap_or(held.fence));
            self.last = self.last.max(held.fence.get());
            return Ok(Tried::Granted { fence: held.fence });
        }
        let place = self.place(claim.token);
        if !self.is_turn(view.now, place, claim) {
            return Ok(self.refuse(view, claim, anchor, place));
        }
        let fence = self.force(now.micros(), claim, anchor)?;
        self.watchers.granted(claim.token);
        if let Some(at) = place {
            self.line.remove(at);
            // The line may have been all that kept others back.
            self.wake(view, bells);
        }
        Ok(Tried::Granted { fence })
    }

    /// Renews the hold of `claim` or refreshes its place in line.
    pub(super) fn keep(&mut self, view: View<'_>, claim: &Claim, anchor: Anchor) -> Fate {
        self.expire(view);
        if let Some(held) = self.holders.iter_mut().find(|held| held.token == claim.token) {
            held.anchor = anchor;
            return Fate::Holds;
        }
        let Some(place) = self.place(claim.token) else { return Fate::Gone };
        self.line[place].refresh(view.now, claim.place_ttl(), anchor);
        Fate::Queued { ahead: self.ahead(place) }
    }

    /// Ends the hold of `token`, or its place in line, and tells whether there was one.
    pub(super) fn release(
        &mut self,
        view: View<'_>,
        token: Token,
        session: Option<SessionId>,
        bells: &mut Vec<Bell>,
    ) -> bool {
        self.expire(view);
        let mine = |held: &Held| held.token == token && held.anchor.session() == session;
        if let Some(at) = self.holders.iter().position(mine) {
            self.holders[at].stacked -= 1;
            if self.holders[at].stacked == 0 {
                self.holders.swap_remove(at);
            }
        } else if let Some(at) = self.place(token) {
            self.line.remove(at);
        } else {
            return false;
        }
        self.wake(view, bells);
        true
    }

    /// Takes the key from those holders that `falls` names, hints them, and counts them.
    pub(super) fn evict(
        &mut self,
        view: View<'_>,
        falls: impl Fn(&Held) -> bool,
        bells: &mut Vec<Bell>,
    ) -> u64 {
        let mut fallen = 0;
        let watchers = &mut self.watchers;
        self.holders.retain(|held| {
            let falls = view.alive(held.anchor) && falls(held);
            if falls {
                fallen += 1;
                watchers.hint(view.now, held.token, bells);
            }
            !falls
        });
        if fallen > 0 {
            self.wake(view, bells);
        }
        fallen
    }

    /// Hints whoever could be served now: the line in order; without a line, those who poll.
    pub(super) fn wake(&mut self, view: View<'_>, bells: &mut Vec<Bell>) {
        if self.watchers.is_empty() {
            return;
        }
        let alive = self.holders.iter().filter(|held| view.alive(held.anchor));
        let mut crowd = Crowd::of(alive.map(|held| held.mode));
        let mut line = self.line.iter().filter(|place| place.is_alive(view)).peekable();
        if line.peek().is_none() {
            return self.watchers.hint_waiting(view.now, crowd, bells);
        }
        for place in line {
            if !crowd.admits(place.mode) {
                return;
            }
            crowd.add(place.mode);
            self.watchers.hint(view.now, place.token, bells);
        }
    }

    /// Adds a holder that nobody asked for and returns its fence.
    pub(super) fn force(&mut self, micros: u64, claim: &Claim, anchor: Anchor) -> Result<Fence> {
        let fence = self.draw(micros, claim.fence_floor)?;
        self.holders.push(Held {
            token: claim.token,
            mode: claim.mode,
            owner: claim.owner.clone(),
            fence,
            acquired: micros,
            anchor,
            stacked: 1,
        });
        Ok(fence)
    }

    /// Drops the dead and returns how many there were.
    pub(super) fn expire(&mut self, view: View<'_>) -> usize {
        let before = self.holders.len() + self.line.len();
        self.holders.retain(|held| view.alive(held.anchor));
        self.line.retain(|place| place.is_alive(view));
        before - self.holders.len() - self.line.len()
    }

    /// Tells whether nothing would be lost with this record: a later fence is higher anyway.
    pub(super) fn is_forgettable(&self, micros: u64) -> bool {
        let unused = self.holders.is_empty() && self.line.is_empty() && self.watchers.is_empty();
        unused && self.last < micros
    }

    /// Loses all but the armed hints, as a server that restarts without persistence.
    pub(super) fn forget(&mut self) {
        self.last = 0;
        self.holders.clear();
        self.line.clear();
    }

    fn check(&self, claim: &Claim) -> Result<()> {
        let holders = self.holders.iter().map(|held| (held.token, held.mode));
        let mut known = holders.chain(self.line.iter().map(|place| (place.token, place.mode)));
        known.try_for_each(|(token, mode)| claim.check_beside(token, mode))
    }

    fn is_turn(&self, now: BootInstant, place: Option<usize>, claim: &Claim) -> bool {
        match place {
            Some(at) => self.crowd_before(at).admits(claim.mode),
            None => {
                self.line.is_empty()
                    && self.crowd_before(0).admits(claim.mode)
                    && !self.watchers.stop(now, claim.token, claim.mode)
            }
        }
    }

    fn refuse(
        &mut self,
        view: View<'_>,
        claim: &Claim,
        anchor: Anchor,
        place: Option<usize>,
    ) -> Tried {
        self.watchers.refused(claim.token);
        let place = match place {
            None if claim.queue => Some(self.line_up(claim, anchor)),
            place => place,
        };
        if let Some(at) = place {
            self.line[at].refresh(view.now, claim.place_ttl(), anchor);
        }
        let holders = self.holders.iter().map(|held| held.describe(view)).collect();
        let before = &self.line[..place.unwrap_or(self.line.len())];
        Tried::Refused {
            holders,
            retry_in: earliest(view, &self.holders, before),
            ahead: match place {
                Some(at) => Some(self.ahead(at)),
                None => {
                    (!self.line.is_empty()).then(|| count(self.holders.len() + self.line.len()))
                }
            },
        }
    }

    fn line_up(&mut self, claim: &Claim, anchor: Anchor) -> usize {
        let until = BootInstant::from_nanos(0);
        self.line.push(Place { token: claim.token, mode: claim.mode, until, anchor });
        self.line.len() - 1
    }

    fn draw(&mut self, micros: u64, floor: Option<Fence>) -> Result<Fence> {
        let next = (self.last + 1).max(micros).max(floor.map_or(0, Fence::get));
        let fence = Fence::new(next)?;
        self.last = next;
        Ok(fence)
    }

    fn place(&self, token: Token) -> Option<usize> {
        self.line.iter().position(|place| place.token == token)
    }

    /// Returns who would hold if all before place `at` were served.
    fn crowd_before(&self, at: usize) -> Crowd {
        let holders = self.holders.iter().map(|held| held.mode);
        Crowd::of(holders.chain(self.line[..at].iter().map(|place| place.mode)))
    }

    /// Returns how many hold or stand before place `at`, zero if they do not hinder it.
    fn ahead(&self, at: usize) -> u64 {
        if self.crowd_before(at).admits(self.line[at].mode) {
            return 0;
        }
        count(self.holders.len() + at)
    }
}

/// What can be told of a key without touching it (S10).
impl Record {
    pub(super) fn inspect(&self, view: View<'_>, key: &LockKey) -> KeyState {
        let alive = self.holders.iter().filter(|held| view.alive(held.anchor));
        let holders = alive.map(|held| held.describe(view)).collect();
        let waiting = self.line.iter().filter(|place| place.is_alive(view)).count();
        KeyState::new(key.as_str(), holders, count(waiting))
    }

    pub(super) fn peek(&self, view: View<'_>, claim: &Claim) -> Peek {
        let alive = self.holders.iter().filter(|held| view.alive(held.anchor));
        let mut crowd = Crowd::of(alive.map(|held| held.mode));
        let before = self.line.iter().take_while(|place| place.token != claim.token);
        for place in before.filter(|place| place.is_alive(view)) {
            crowd.add(place.mode);
        }
        let retry_in = earliest(view, &self.holders, &[]);
        if crowd.admits(claim.mode) {
            return Peek::Free;
        }
        if self.place(claim.token).is_none() && self.is_crowded(view, claim.mode) {
            return Peek::Crowded { retry_in };
        }
        Peek::Held { retry_in, fence: None }
    }

    /// Whether a claim that only polls may be overtaken for ever.
    fn is_crowded(&self, view: View<'_>, mode: Mode) -> bool {
        let in_line = self.line.iter().any(|place| place.is_alive(view));
        in_line || self.holds(view, |held| held.mode != mode)
    }

    pub(super) fn is_in_use(&self, view: View<'_>) -> bool {
        self.holds(view, |_| true) || self.line.iter().any(|place| place.is_alive(view))
    }

    pub(super) fn holds(&self, view: View<'_>, who: impl Fn(&Held) -> bool) -> bool {
        self.holders.iter().any(|held| view.alive(held.anchor) && who(held))
    }
}

impl Held {
    pub(super) fn own(&self, view: View<'_>) -> Own {
        Own { token: self.token, mode: self.mode, holder: self.describe(view) }
    }

    fn describe(&self, view: View<'_>) -> Holder {
        Holder::new()
            .owned_by(self.owner.as_str())
            .in_mode(self.mode)
            .with_fence(self.fence)
            .since(SystemTime::UNIX_EPOCH + Duration::from_micros(self.acquired))
            .expiring_in(self.anchor.ends_at(view.sessions).saturating_since(view.now))
    }
}

impl Place {
    fn is_alive(&self, view: View<'_>) -> bool {
        view.now < self.until && view.alive(self.anchor)
    }

    fn refresh(&mut self, now: BootInstant, ttl: Duration, anchor: Anchor) {
        self.until = now + ttl;
        self.anchor = anchor;
    }
}

/// Returns when something may change that gives no hint: a lease or a place that ends.
fn earliest(view: View<'_>, holders: &[Held], line: &[Place]) -> Option<Duration> {
    let leases = holders.iter().map(|held| held.anchor.ends_at(view.sessions));
    let next = leases.chain(line.iter().map(|place| place.until)).filter(|at| *at > view.now).min();
    next.map(|at| at.saturating_since(view.now))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
