//! What calls may answer (G2, G3, G5, G6, G7, G8).

use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::Mode;
use lock_core::drift;

use super::call::Call;
use super::call::Expected;
use super::call::What;
use super::hold::Ears;
use super::hold::Hold;
use super::ledger::Ledger;
use super::program::Asked;
use super::program::SESSION;
use super::program::Waits;
use super::program::ms;
use super::truth::Truth;

type Check = Result<(), String>;

/// How long a call that is not to wait may take in a storm: it repeats what failed for 5 s, and the last
/// request may take 5 s.
pub(crate) const PATIENCE: Duration = ms(10_000);

impl Ledger {
    /// What a lock call has to come to, as far as that can be said.
    pub(crate) fn expected(
        &self,
        (site, key, now): (usize, usize, BootInstant),
        asked: &Asked,
        truth: &Truth,
        calls: &[Call],
    ) -> Expected {
        if asked.grace.is_some_and(|grace| grace >= self.granted_ttl(asked.ttl)) {
            return Expected::Invalid;
        }
        if self.sites[site].closed {
            return Expected::Closed;
        }
        let entries = asked.owner.map(|owner| self.entries(site, key, owner)).unwrap_or_default();
        match entries[..] {
            [hold] if hold.asked.mode == asked.mode => return Expected::Enter(hold.fence),
            [_] => return Expected::Clash,
            [_, _, ..] => return Expected::Open,
            [] => {}
        }
        let robbed = |hold: &Hold| hold.key == key && hold.site == site && hold.robbed.is_some();
        // A session's client answers for the store as long as it does not know better.
        let mistaken = self.session && self.holds.iter().any(|hold| robbed(hold) && !hold.over);
        if asked.waits() || mistaken || !self.is_calm(site, now) {
            return Expected::Open;
        }
        let truth = truth.key(key);
        if truth.waiting > 0 || !truth.admits(asked.mode) {
            return Expected::Refused;
        }
        // Readers do not overtake a writer that waits without a place in line.
        let exclusive = asked.mode == Mode::Exclusive;
        let alone = !calls.iter().any(|call| call.waits_for(key));
        if exclusive || alone { Expected::Taken } else { Expected::Open }
    }

    fn granted_ttl(&self, ttl: u64) -> u64 {
        if self.session { ttl.max(SESSION) } else { ttl }
    }

    /// Takes in a guard that a lock call has brought, and tells which hold it belongs to.
    pub(crate) fn locked(
        &mut self,
        call: &Call,
        at: BootInstant,
        (guard, ears): (&LockGuard, Ears),
        (now, calls, truth): (BootInstant, &[Call], &Truth),
    ) -> Result<usize, String> {
        let What::Lock { key, asked, expected, floor } = &call.what else { unreachable!() };
        let fence = guard.fence().get();
        let known = self.holds.iter().position(|hold| hold.fence == fence && hold.key == *key);
        self.check_ended_in_time(call, asked, at)?;
        if let Some(known) = known {
            let hold = &mut self.holds[known];
            let same = (hold.site, hold.asked.owner) == (call.site, asked.owner);
            let entered = matches!(expected, Expected::Open | Expected::Enter(_)) || call.blended;
            if !same || !entered || asked.owner.is_none() || hold.asked.mode != asked.mode {
                return Err(format!("G8: got into fence {fence}, expected {expected:?}"));
            }
            if !hold.is_guarded() {
                return Err(format!("G8: got into fence {fence}, which everybody had left"));
            }
            hold.guards += 1;
            return Ok(known);
        }
        if !matches!(expected, Expected::Open | Expected::Taken) {
            return Err(format!("G1, G8: got fence {fence}, expected {expected:?}"));
        }
        if fence <= *floor {
            return Err(format!("G2: got fence {fence}, not above {floor}"));
        }
        if !call.blended {
            self.check_order(call, *key, asked, calls)?;
        }
        self.keys[*key].fence = self.keys[*key].fence.max(fence);
        let (key, asked) = (*key, asked.clone());
        let mut hold = Hold::new((call.site, key), asked, (guard.hold(), ears), at);
        hold.blended = call.blended;
        hold.excused = call.blended || !self.is_calm(call.site, call.began);
        if truth.key(key).find(fence).is_none() {
            hold.robbed = self.may_be_robbed(call.began);
        }
        if !hold.excused {
            self.check_first_lease(&hold, now)?;
        }
        self.holds.push(hold);
        Ok(self.holds.len() - 1)
    }

    /// Checks that a guard is as good as it can be when it is new.
    fn check_first_lease(&self, hold: &Hold, now: BootInstant) -> Check {
        if self.session || hold.granted_at < now {
            return Ok(());
        }
        let ttl = ms(hold.asked.ttl);
        let lease = ttl - drift(ttl);
        let limit = hold.asked.max_hold.map_or(lease, |limit| lease.min(ms(limit)));
        if hold.view.valid_for() == limit && hold.view.ttl() == ttl {
            return Ok(());
        }
        Err(format!("valid for {:?} at first, not {limit:?}", hold.view.valid_for()))
    }

    /// Checks that nobody was overtaken who has a place in a line.
    fn check_order(&self, call: &Call, key: usize, asked: &Asked, calls: &[Call]) -> Check {
        for other in calls.iter().filter(|other| other.number < call.number) {
            let calm = self.is_calm(other.site, other.began) && self.is_calm(call.site, call.began);
            // Where there is room for both, who hears of it first is first.
            let beside = |mode| mode == asked.mode && mode != Mode::Exclusive;
            let beside = other.lock().is_some_and(|(_, asked, _)| beside(asked.mode));
            if !calm || beside || other.disturbed || call.disturbed || !other.waits_for(key) {
                continue;
            }
            let local = |it: &Call| {
                it.lock()
                    .is_some_and(|(_, asked, _)| !asked.fair && asked.waits() && !asked.counts())
            };
            let in_slot = other.site == call.site && local(other) && local(call);
            if other.stands_in_line(key) || in_slot && asked.waits() {
                return Err(format!("call {} was overtaken by {}", other.number, call.number));
            }
        }
        Ok(())
    }

    /// Checks the error of a lock call.
    pub(crate) fn not_locked(&self, call: &Call, at: BootInstant, error: &Error) -> Check {
        let What::Lock { key, asked, expected, .. } = &call.what else { unreachable!() };
        self.check_ended_in_time(call, asked, at)?;
        let calm = self.is_calm(call.site, call.began);
        let clashes = || {
            self.holds.iter().any(|hold| {
                let same =
                    (hold.site, hold.key, hold.asked.owner) == (call.site, *key, asked.owner);
                same && asked.owner.is_some() && hold.asked.mode != asked.mode
            })
        };
        let right = match error.kind() {
            ErrorKind::InvalidInput => match expected {
                Expected::Invalid | Expected::Clash => true,
                _ => clashes(),
            },
            ErrorKind::Closed => self.sites[call.site].closed && *expected != Expected::Invalid,
            ErrorKind::Held => {
                let refused = matches!(expected, Expected::Refused | Expected::Open);
                refused && !asked.waits() && (!calm || at == call.began)
            }
            ErrorKind::Timeout => {
                let open = *expected == Expected::Open && asked.waits();
                open && (!self.is_exact(call, asked) || Some(at) == self.last_moment(call, asked))
            }
            ErrorKind::Unavailable | ErrorKind::Corrupt => {
                !calm && matches!(expected, Expected::Open)
            }
            _ => false,
        };
        if right {
            Ok(())
        } else {
            Err(format!("G6: expected {expected:?} at {at:?}, got: {error}"))
        }
    }

    /// When a wait ends at the latest, faults left aside.
    fn last_moment(&self, call: &Call, asked: &Asked) -> Option<BootInstant> {
        let limit = match asked.wait {
            Waits::Never | Waits::For(0) => 0,
            Waits::For(limit) => limit,
            Waits::Attempts(max, pause) => u64::from(max.saturating_sub(1)) * pause,
            Waits::Forever => return None,
        };
        Some(self.ran(call.began + ms(limit)))
    }

    /// Whether the end of a wait is known to the nanosecond.
    fn is_exact(&self, call: &Call, asked: &Asked) -> bool {
        let calm = self.is_calm(call.site, call.began) && !self.has_jumped_since(call.began);
        matches!(asked.wait, Waits::For(_)) || calm
    }

    fn check_ended_in_time(&self, call: &Call, asked: &Asked, at: BootInstant) -> Check {
        let Some(mut last) = self.last_moment(call, asked) else { return Ok(()) };
        if !self.is_exact(call, asked) || asked.wait == Waits::For(0) {
            let tries = if let Waits::Attempts(max, _) = asked.wait { max } else { 1 };
            let slack = if self.is_calm(call.site, call.began) { ms(0) } else { PATIENCE * tries };
            last = self.ran(last + slack);
            if self.has_jumped_since(call.began) {
                return Ok(());
            }
        }
        if at <= last { Ok(()) } else { Err(format!("G6: ended {at:?} instead of {last:?}")) }
    }

    /// Checks what came of an unlock (G7).
    pub(crate) fn unlocked(
        &self,
        call: &Call,
        at: BootInstant,
        outcome: &lock_core::Result<()>,
        truth: &Truth,
    ) -> Check {
        let What::Unlock { hold, last, valid } = call.what else { unreachable!() };
        let hold = &self.holds[hold];
        // What is shortened too late, by a slow request, stays for as long as was left when it was sent.
        let lingers = call.began < hold.min_end();
        let calm = self.is_calm(call.site, call.began);
        let has = |truth: &Truth| truth.key(hold.key).find(hold.fence).is_some();
        let right = match outcome {
            Ok(()) if !valid => false,
            // The store has to have had it, as far as it could be seen.
            Ok(()) if last && !lingers => !has(truth) && (!calm || has(&call.before)),
            Ok(()) => true,
            Err(error) => match error.kind() {
                ErrorKind::Lost => !valid || !has(&call.before) || !calm || hold.excused,
                ErrorKind::Unavailable => error.is_ambiguous() && last && !calm,
                _ => false,
            },
        };
        if !right {
            return Err(format!("G7: unlock of fence {} said {outcome:?}", hold.fence));
        }
        self.check_patience(call, at, PATIENCE)
    }

    pub(crate) fn extended(
        &self,
        call: &Call,
        (at, now): (BootInstant, BootInstant),
        outcome: &lock_core::Result<()>,
    ) -> Check {
        let What::Extend { hold, ttl, valid } = call.what else { unreachable!() };
        let hold = &self.holds[hold];
        let calm = self.is_calm(call.site, call.began) && !hold.excused;
        let right = match outcome {
            Ok(()) if at == now && hold.is_guarded() && !self.session && calm => {
                valid && hold.view.ttl() == ms(ttl)
            }
            Ok(()) => valid,
            Err(error) => match error.kind() {
                ErrorKind::Lost => !valid || hold.robbed.is_some() || !calm || hold.over,
                ErrorKind::NotHeld => !hold.is_guarded(),
                ErrorKind::Unavailable | ErrorKind::Corrupt => !calm,
                _ => false,
            },
        };
        if !right {
            return Err(format!("extend of fence {} said {outcome:?}", hold.fence));
        }
        self.check_patience(call, at, PATIENCE)
    }

    /// Checks that a call which never waits for a lock ended at once, or in a storm with patience.
    pub(crate) fn check_patience(&self, call: &Call, at: BootInstant, patience: Duration) -> Check {
        let calm = self.is_calm(call.site, call.began);
        let last = call.began + if calm { ms(0) } else { patience };
        if at <= self.ran(last) || self.has_jumped_since(call.began) {
            return Ok(());
        }
        Err(format!("call {} ended {at:?}, not by {last:?}: {:?}", call.number, call.what))
    }
}
