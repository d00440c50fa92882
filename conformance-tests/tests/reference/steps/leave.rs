//! Keeping, releasing, forcing open and cleaning up.

use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Evicted;
use lock_core::Kept;
use lock_core::Mode;
use lock_core::Release;
use lock_core::Token;

use super::Steps;
use super::time::end_of_place;
use super::time::now;
use crate::reference::Flaw;
use crate::reference::store::Held;
use crate::reference::store::Slot;
use crate::reference::store::State;

/// Who holds what a flaw takes for nobody.
pub(super) fn nobody(owner: &str) -> Held {
    let (token, mode, owner) = (Token::random(), Mode::Exclusive, owner.to_owned());
    Held { token, mode, owner, fence: 1, until: BootInstant::FAR, behind: None }
}

impl Steps {
    pub(super) fn keep_one(&self, state: &mut State, claim: &Claim) -> Kept {
        let lease = self.lease(claim);
        let Some(slot) = state.keys.get_mut(&self.name(&claim.key)) else {
            return if self.has(Flaw::KeepSaysRenewed) {
                Kept::Renewed { lease }
            } else {
                Kept::Gone
            };
        };
        self.expire(slot);
        let end = match self.flaw {
            Some(Flaw::KeepIgnoresTtl) => now() + Duration::from_secs(60),
            _ => self.end(lease),
        };
        if let Some((_, fence)) = slot.released.filter(|(token, _)| *token == claim.token)
            && self.revives()
            && self.may_go(slot, 0, claim.mode)
            && !slot.holders.iter().any(|held| held.token == claim.token)
        {
            slot.holders.push(Held { fence, ..self.held(claim, lease) });
        }
        if self.renew(slot, claim, end) {
            return Kept::Renewed { lease };
        }
        match slot.line.iter().position(|place| place.token == claim.token) {
            Some(n) => {
                if !self.has(Flaw::LineIgnoresKeep) {
                    slot.line[n].until = end_of_place(lease);
                }
                let least = u64::from(self.has(Flaw::KeepHidesTurn));
                Kept::Queued { ahead: self.ahead(slot, n).max(least) }
            }
            None if self.has(Flaw::KeepSaysRenewed) => Kept::Renewed { lease },
            None => Kept::Gone,
        }
    }

    /// Renews the hold of `claim`, if there is one.
    fn renew(&self, slot: &mut Slot, claim: &Claim, end: BootInstant) -> bool {
        let any = self.has(Flaw::KeepIgnoresToken);
        let mine = |held: &&mut Held| held.token == claim.token || any;
        let Some(held) = slot.holders.iter_mut().find(mine) else { return false };
        held.token = claim.token;
        if !self.has(Flaw::KeepDoesNothing) {
            held.until = end;
        }
        if self.has(Flaw::KeepRenewsAll) {
            slot.holders.iter_mut().for_each(|held| held.until = end);
        }
        true
    }

    pub(super) fn release_step(&self, state: &mut State, claim: &Claim) -> Release {
        let name = self.name(&claim.key);
        if self.has(Flaw::ReleaseOfNothingBlocks) && !state.keys.contains_key(&name) {
            let holders = vec![nobody("nobody")];
            state.keys.insert(name, Slot { holders, ..Slot::default() });
            return Release::NotHeld;
        }
        let slot = state.keys.entry(name.clone()).or_default();
        self.expire(slot);
        if self.has(Flaw::ReleaseDoesNothing) {
            return Release::Released;
        }
        let places = slot.line.len();
        if !self.has(Flaw::LineForgetsRelease) {
            slot.line.retain(|place| place.token != claim.token);
        }
        let left = slot.line.len() < places;
        let eaten = std::mem::take(&mut state.eaten);
        let freed = !eaten && self.free(slot, claim);
        let silent = self.has(Flaw::HintsMissing) || self.has(Flaw::LeaveSilent) && left;
        if (freed || left) && !silent {
            self.tell(state, &name);
        }
        let always = self.has(Flaw::ReleaseAlwaysReleased) || self.has(Flaw::LossHidden);
        if freed || left || always { Release::Released } else { Release::NotHeld }
    }

    /// Ends the hold of `claim`, if there is one.
    fn free(&self, slot: &mut Slot, claim: &Claim) -> bool {
        let any = self.has(Flaw::ReleaseIgnoresToken);
        let mine = |held: &Held| held.token == claim.token || any;
        let Some(at) = slot.holders.iter().position(mine) else { return false };
        let held = slot.holders.remove(at);
        if self.has(Flaw::ReleaseFreesAll) {
            slot.holders.clear();
        }
        slot.released = Some((held.token, held.fence));
        slot.forgot |= self.has(Flaw::FenceResetsOnRelease);
        true
    }

    pub(super) fn evict_step(&self, state: &mut State, name: &str) -> Evicted {
        if self.has(Flaw::EvictTakesPrefix) {
            for (_, slot) in state.keys.iter_mut().filter(|(key, _)| key.starts_with(name)) {
                slot.holders.clear();
            }
        }
        let slot = state.keys.entry(name.into()).or_default();
        self.expire(slot);
        if self.has(Flaw::EvictOfFreeTakes) && slot.holders.is_empty() {
            slot.holders.push(nobody("evictor"));
            return Evicted::new(1, 0);
        }
        if self.has(Flaw::EvictDoesNothing) {
            return Evicted::new(1, 0);
        }
        let most = if self.has(Flaw::EvictTakesOne) { 1 } else { usize::MAX };
        let hit = slot.holders.drain(..most.min(slot.holders.len())).count();
        slot.forgot |= self.has(Flaw::FenceResetsOnEvict);
        if self.has(Flaw::EvictLeavesFenceToClock) {
            slot.fence = 0;
        }
        if !self.has(Flaw::EvictSilent) && !self.has(Flaw::LossHidden) {
            self.tell(state, name);
        }
        Evicted::new((hit as u64).max(u64::from(self.has(Flaw::EvictOvercounts))), 0)
    }

    pub(super) fn purge_step(&self, state: &mut State) -> u64 {
        if self.has(Flaw::PurgeDeletesLive) {
            state.keys.clear();
        }
        let (clock, before) = (Clock::system().unix_micros(), state.keys.len());
        for slot in state.keys.values_mut() {
            self.expire(slot);
        }
        let resets = self.has(Flaw::FenceResetsOnPurge);
        state.keys.retain(|_, slot| {
            let used = !slot.holders.is_empty() || !slot.line.is_empty();
            let dead = slot.dead && self.has(Flaw::PurgeTakesAllOfAKey);
            !dead && (used || !resets && slot.fence >= clock)
        });
        (before - state.keys.len()) as u64
    }
}
