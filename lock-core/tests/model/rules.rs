//! What has to be true after every step (G1, G3, G4, G5, G6, G8).

use lock_core::BootInstant;
use lock_core::Loss;

use super::call::Call;
use super::hold::Hold;
use super::ledger::Ledger;
use super::ledger::UNHINTED;
use super::program::KEYS;
use super::program::ms;
use super::truth::Truth;
use super::truth::admits;

type Check = Result<(), String>;

impl Ledger {
    /// Checks that nobody believes in more than the store has promised. True at every instant, also
    /// before anything could run.
    pub(crate) fn check_claims(&self, truth: &Truth) -> Check {
        let claims =
            |hold: &&Hold| hold.is_guarded() && hold.robbed.is_none() && hold.view.is_valid();
        for hold in self.holds.iter().filter(claims) {
            let Some(holding) = truth.key(hold.key).find(hold.fence) else {
                return Err(format!("G1: fence {} says it is valid, not so the store", hold.fence));
            };
            let believed = hold.view.valid_for();
            if believed > holding.left || hold.asked.mode != holding.mode {
                return Err(format!(
                    "G3: fence {} believes {believed:?} of {holding:?}",
                    hold.fence
                ));
            }
        }
        (0..KEYS.len()).try_for_each(|key| self.check_exclusion(key))
    }

    fn check_exclusion(&self, key: usize) -> Check {
        let valid = |hold: &&Hold| {
            hold.key == key && hold.robbed.is_none() && hold.view.is_valid() && hold.is_guarded()
        };
        let valid: Vec<_> = self.holds.iter().filter(valid).collect();
        for (at, hold) in valid.iter().enumerate() {
            let others = valid.iter().enumerate().filter(|(other, _)| *other != at);
            if !admits(others.map(|(_, other)| other.asked.mode), hold.asked.mode) {
                return Err(format!("G1: fence {} is valid beside others", hold.fence));
            }
        }
        Ok(())
    }

    /// Checks all that has to be true once everything has come to rest; `loud` tells that whatever
    /// became free in the last step was told to waiters.
    pub(crate) fn check(
        &mut self,
        now: BootInstant,
        truth: &Truth,
        calls: &[Call],
        loud: bool,
    ) -> Check {
        self.check_claims(truth)?;
        for at in 0..self.holds.len() {
            let fence = self.holds[at].fence;
            self.check_hold(at, now, truth).map_err(|wrong| format!("{wrong} (fence {fence})"))?;
        }
        self.check_closed(now, calls)?;
        self.check_owners(now, calls)?;
        for key in 0..KEYS.len() {
            self.check_waiters(key, now, truth, calls, loud)?;
            if self.all_calm(now) {
                self.check_store(key, now, truth, calls)?;
            }
        }
        Ok(())
    }

    /// Checks that nobody goes on waiting for a lock of a provider that was shut down.
    fn check_closed(&self, now: BootInstant, calls: &[Call]) -> Check {
        let left = |call: &&Call| self.sites[call.site].closed && call.lock().is_some();
        match calls.iter().find(|call| left(call) && self.is_calm(call.site, now)) {
            None => Ok(()),
            Some(call) => Err(format!("G5: call {} waits after the shutdown", call.number)),
        }
    }

    /// Checks that nobody waits for what its owner has got meanwhile (G8).
    fn check_owners(&self, now: BootInstant, calls: &[Call]) -> Check {
        for call in calls.iter().filter(|call| self.is_calm(call.site, now)) {
            let Some((key, asked, _)) = call.lock() else { continue };
            let enters = asked.owner.is_some_and(|owner| {
                let entries = self.entries(call.site, key, owner);
                entries.iter().any(|hold| hold.asked.mode == asked.mode && !hold.blended)
            });
            if enters {
                return Err(format!("G8: call {} waits for its own lock", call.number));
            }
        }
        Ok(())
    }

    fn check_hold(&mut self, at: usize, now: BootInstant, truth: &Truth) -> Check {
        let hold = &self.holds[at];
        let valid = hold.view.is_valid();
        if valid && hold.over {
            return Err("G4: it was lost and is valid again".into());
        }
        if !hold.is_guarded() {
            let lingers = self.session && now < hold.min_end() && !hold.detached;
            return if valid && !lingers { Err("valid without a guard".into()) } else { Ok(()) };
        }
        hold.check_told(now, |at| self.ran(at))?;
        if valid {
            let gone = truth.key(hold.key).find(hold.fence).is_none();
            return self.check_overdue(hold, now, gone);
        }
        if !hold.over {
            self.check_loss(hold)?;
        }
        self.holds[at].over = true;
        Ok(())
    }

    /// Checks that a hold which is still believed in is not long gone.
    fn check_overdue(&self, hold: &Hold, now: BootInstant, gone: bool) -> Check {
        if hold.last_end(self.session).is_some_and(|end| now >= end) {
            return Err("valid after its TTL without renewal, or its maximum".into());
        }
        if self.sites[hold.site].closed {
            return Err("valid after the shutdown".into());
        }
        let Some(robbed) = hold.robbed.filter(|_| self.is_calm(hold.site, hold.granted_at)) else {
            return Ok(());
        };
        let keeps = hold.asked.renews || self.session;
        if gone && keeps && !hold.excused && now > self.ran(robbed + hold.view.ttl() / 3) + ms(50) {
            return Err("G4: the next renewal did not tell of the eviction".into());
        }
        Ok(())
    }

    /// Checks that there was a reason for the loss.
    fn check_loss(&self, hold: &Hold) -> Check {
        let calm = self.is_calm(hold.site, hold.granted_at) && !hold.excused;
        let closed = self.sites[hold.site].closed;
        match hold.loss() {
            Some(Loss::Closed) if closed => Ok(()),
            Some(Loss::Evicted) if hold.robbed.is_some() || !calm => Ok(()),
            Some(Loss::Expired) if !calm || hold.robbed.is_some() || !hold.asked.renews => Ok(()),
            Some(Loss::Expired) => {
                let last = hold.asked.max_hold.map(|limit| self.ran(hold.granted_at + ms(limit)));
                if last.is_some_and(|last| hold.lost_at() >= Some(last)) {
                    return Ok(());
                }
                Err("expired although nothing hindered its renewal".into())
            }
            loss => Err(format!("lost for no reason: {loss:?}")),
        }
    }

    /// Checks that nobody waits for what is free (G6).
    fn check_waiters(
        &mut self,
        key: usize,
        now: BootInstant,
        truth: &Truth,
        calls: &[Call],
        loud: bool,
    ) -> Check {
        let waiting: Vec<_> = calls.iter().filter(|call| call.waits_for(key)).collect();
        let idle = truth.key(key).is_free() && !waiting.is_empty();
        let known = self.keys[key].free_since;
        self.keys[key].free_since = if idle { known.or(Some(now)) } else { None };
        if !idle || !self.all_calm(now) {
            return Ok(());
        }
        // A counted attempt comes when it comes, if no hint brings it forward.
        let polled = waiting.iter().any(|call| call.lock().is_some_and(|it| !it.1.counts()));
        let since = known.unwrap_or(now);
        if polled && now.saturating_since(since) > UNHINTED {
            return Err(format!("G6: key {} free since {since:?}, with a waiter", KEYS[key]));
        }
        let told = self.all_prompt(now) && self.keys[key].quiet_until <= now;
        if loud && told && known.is_none() {
            return Err(format!("G6: key {} was freed, and a waiter still waits", KEYS[key]));
        }
        Ok(())
    }

    /// Checks that the store has nothing for which there is no reason, and that it has what it must.
    fn check_store(&self, key: usize, now: BootInstant, truth: &Truth, calls: &[Call]) -> Check {
        for holding in &truth.key(key).holders {
            if !self.is_explained(key, holding.fence, now) {
                return Err(format!("G5: the store still has fence {}", holding.fence));
            }
        }
        for hold in self.holds.iter().filter(|hold| hold.key == key && hold.robbed.is_none()) {
            let ends = hold.left.is_some() && now < hold.min_end() && !hold.excused;
            let stays = !(self.session && self.sites[hold.site].closed);
            if ends && stays && truth.key(key).find(hold.fence).is_none() {
                return Err(format!("fence {} is gone before its minimum", hold.fence));
            }
        }
        // Who is not fair takes a place only where a line, or holders of another mode, are met.
        let may = calls.iter().filter(|call| call.waits_for(key));
        let must = may.clone().filter(|call| call.stands_in_line(key)).count();
        let waiting = usize::try_from(truth.key(key).waiting).unwrap_or(usize::MAX);
        let disturbed = may.clone().any(|call| call.disturbed);
        if !disturbed && !(must..=may.clone().count()).contains(&waiting) {
            let numbers: Vec<_> = may.map(|call| call.number).collect();
            return Err(format!("G5: {waiting} stand in line for the calls {numbers:?}"));
        }
        Ok(())
    }

    fn is_explained(&self, key: usize, fence: u64, now: BootInstant) -> bool {
        let hold = self.holds.iter().find(|hold| (hold.key, hold.fence) == (key, fence));
        let ours = hold.is_some_and(|hold| {
            let held = hold.is_guarded() && hold.view.is_valid();
            held || now < hold.min_end() + ms(10)
        });
        ours || self.strangers.contains(&(key, fence))
    }
}
