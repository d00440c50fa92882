//! The acquiring step: who may hold beside whom, whose turn it is, and the fence.

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Lease;
use lock_core::Mode;
use lock_core::Result;

use super::Steps;
use super::time::end_of_place;
use super::time::now;
use crate::reference::Flaw;
use crate::reference::store::Held;
use crate::reference::store::Slot;
use crate::reference::store::State;

impl Steps {
    pub(super) fn take(
        &self,
        state: &mut State,
        name: &str,
        claim: &Claim,
        drawn: Option<u64>,
    ) -> Result<Attempt> {
        state.attempts += 1;
        let moody = self.has(Flaw::RefusesFree) && state.attempts.is_multiple_of(5);
        let stopped = state.writer_waits(name, claim.token);
        let slot = state.keys.entry(name.into()).or_default();
        self.checked(&claim.key, slot)?;
        self.expire(slot);
        self.check_mode(slot, claim)?;
        if let Some(again) = self.repeat(slot, claim)? {
            return Ok(again);
        }
        let position = slot.line.iter().position(|place| place.token == claim.token);
        if moody || !self.is_turn(slot, position, claim, stopped) {
            return Ok(self.refuse(slot, claim, position));
        }
        self.grant(slot, claim, drawn)
    }

    /// Refuses what contradicts the modes that are there.
    fn check_mode(&self, slot: &Slot, claim: &Claim) -> Result<()> {
        let permits = |mode| matches!(mode, Mode::Permits { .. });
        let mixes = self.has(Flaw::MixedPermitsAccepted);
        for held in slot.holders.iter().filter(|held| held.mode != claim.mode) {
            let token = held.token == claim.token && !self.has(Flaw::TokenChangesMode);
            if token || permits(held.mode) && permits(claim.mode) && !mixes {
                return Err(clash(held.mode));
            }
        }
        match slot.last.filter(|_| self.has(Flaw::PermitsNumberForEver)) {
            Some(last) if permits(last) && permits(claim.mode) && last != claim.mode => {
                Err(clash(last))
            }
            _ => Ok(()),
        }
    }

    /// Answers an attempt of a token that holds, or that a flaw takes for one.
    fn repeat(&self, slot: &mut Slot, claim: &Claim) -> Result<Option<Attempt>> {
        let lease = self.lease(claim);
        if let Some(held) = slot.holders.iter_mut().find(|held| held.token == claim.token)
            && !self.has(Flaw::RepeatRefused)
        {
            if !self.has(Flaw::RepeatKeepsOldLease) {
                held.until = self.end(lease);
            }
            let floor = claim.fence_floor.filter(|_| !self.has(Flaw::FloorIgnored));
            held.fence = held.fence.max(floor.map_or(0, Fence::get));
            held.fence += u64::from(self.has(Flaw::RepeatGivesNewFence));
            let held = held.clone();
            slot.fence = slot.fence.max(held.fence);
            let fence = Fence::new(held.fence)?;
            slot.holders.extend(self.has(Flaw::RepeatTakesAnother).then_some(held));
            return Ok(Some(Attempt::Acquired { fence, lease }));
        }
        let dead = self.has(Flaw::RepeatAfterRelease) || self.has(Flaw::RepeatAfterExpiry);
        match slot.released.filter(|(token, _)| dead && *token == claim.token) {
            Some((_, fence)) => Ok(Some(Attempt::Acquired { fence: Fence::new(fence)?, lease })),
            None => Ok(None),
        }
    }

    fn is_turn(&self, slot: &Slot, position: Option<usize>, claim: &Claim, stopped: bool) -> bool {
        let free = || self.admits(slot.holders.iter().map(|held| held.mode), claim.mode);
        let before = position.unwrap_or(slot.line.len());
        let reads = claim.mode == Mode::Shared;
        match self.flaw {
            Some(Flaw::NoExclusion) => true,
            Some(Flaw::LineOvertaken) => free(),
            Some(Flaw::ReadersOvertake) if reads => free(),
            Some(Flaw::WritersFirst) if reads => {
                free() && slot.line.iter().all(|place| place.mode == Mode::Shared)
            }
            Some(Flaw::LineOneAtATime) => before == 0 && free(),
            Some(Flaw::LineBackwards) => {
                free() && position.is_none_or(|n| n + 1 == slot.line.len())
            }
            Some(Flaw::DeadLetsOthersIn) if position.is_some() => {
                let behind = slot.line[before].behind;
                let mut there = slot.holders.iter().chain(&slot.line);
                !there.any(|other| Some(other.token) == behind)
            }
            // Without a place it is the last, and stops for a writer that waits without one too.
            _ => {
                let stops = stopped && position.is_none() && claim.mode != Mode::Exclusive;
                self.may_go(slot, before, claim.mode) && !stops
            }
        }
    }

    /// Tells whether `mode` can hold beside those who hold and all before a place in line.
    pub(super) fn may_go(&self, slot: &Slot, before: usize, mode: Mode) -> bool {
        let before = slot.holders.iter().chain(&slot.line[..before]);
        self.admits(before.map(|other| other.mode), mode)
    }

    pub(super) fn admits(&self, mut others: impl Iterator<Item = Mode>, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive if self.has(Flaw::WriterBesideReaders) => {
                others.all(|other| other == Mode::Shared)
            }
            Mode::Shared if self.has(Flaw::ReaderBesideWriter) => {
                others.all(|other| !matches!(other, Mode::Permits { .. }))
            }
            Mode::Shared if !self.has(Flaw::ReadersExclude) => {
                others.all(|other| other == Mode::Shared)
            }
            Mode::Exclusive | Mode::Shared => others.next().is_none(),
            Mode::Permits { of } => {
                let most = of.get() as usize + usize::from(self.has(Flaw::OnePermitMore));
                let others: Vec<_> = others.collect();
                let mixes = self.has(Flaw::MixedPermitsAccepted);
                others.iter().all(|other| *other == mode || mixes) && others.len() < most
            }
        }
    }

    fn grant(&self, slot: &mut Slot, claim: &Claim, drawn: Option<u64>) -> Result<Attempt> {
        slot.forgot |= self.has(Flaw::FenceResetsOnMode) && slot.last != Some(claim.mode);
        let together = slot.holders.first().filter(|held| held.mode == Mode::Shared);
        let together = together.filter(|_| self.has(Flaw::FenceSharedByReaders));
        let fence = together.map(|held| held.fence).or(drawn);
        let fence = fence.unwrap_or_else(|| self.next_fence(slot, claim));
        slot.line.retain(|place| place.token != claim.token);
        (slot.fence, slot.last, slot.forgot) = (fence, Some(claim.mode), false);
        let lease = self.lease(claim);
        slot.holders.push(Held { fence, ..self.held(claim, lease) });
        Ok(Attempt::Acquired { fence: Fence::new(fence)?, lease })
    }

    pub(super) fn held(&self, claim: &Claim, lease: Lease) -> Held {
        let (token, mode, owner) = (claim.token, claim.mode, claim.owner.to_string());
        Held { token, mode, owner, fence: 0, until: self.end(lease), behind: None }
    }

    fn refuse(&self, slot: &mut Slot, claim: &Claim, mut position: Option<usize>) -> Attempt {
        let banned = self.has(Flaw::PlaceGoneForGood) && slot.dropped.contains(&claim.token);
        if claim.queue && !banned {
            let lease = self.lease(claim);
            let last = slot.line.last().or_else(|| slot.holders.last());
            let behind = last.map(|other| other.token);
            let place = Held { until: end_of_place(lease), behind, ..self.held(claim, lease) };
            if let Some(old) = position.filter(|_| self.has(Flaw::LineLosesPlace)) {
                slot.line.remove(old);
                position = None;
            }
            match position {
                Some(n) => slot.line[n].until = place.until,
                None => slot.line.push(place),
            }
            position = position.or(Some(slot.line.len() - 1));
        }
        let ahead = position.map(|n| self.ahead(slot, n));
        Attempt::Held { holders: self.holders(slot), retry_in: first_end(slot), ahead }
    }

    fn next_fence(&self, slot: &Slot, claim: &Claim) -> u64 {
        let clock =
            if self.has(Flaw::FenceWithoutClock) { 1 } else { Clock::system().unix_micros() };
        let next = if slot.forgot { slot.fence } else { clock.max(slot.fence + 1) };
        match claim.fence_floor {
            Some(floor) if !self.has(Flaw::FloorIgnored) => next.max(floor.get()),
            _ => next,
        }
    }

    /// Draws a fence before the lock is won.
    pub(super) fn draw(&self, name: &str, claim: &Claim) -> u64 {
        let mut state = self.store.lock();
        let slot = state.keys.entry(name.into()).or_default();
        slot.fence = self.next_fence(slot, claim);
        slot.fence
    }
}

fn clash(stored: Mode) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the lock is there as {stored}"))
}

/// When the first lease ends.
pub(super) fn first_end(slot: &Slot) -> Option<std::time::Duration> {
    let first = slot.holders.iter().map(|held| held.until).min();
    first.map(|until| until.saturating_since(now()))
}
