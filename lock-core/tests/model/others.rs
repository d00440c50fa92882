//! The rest of what the reference notes and checks: detached locks, operators, shutdowns.

use std::time::Duration;

use lock_core::BootInstant;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::KeyState;
use lock_core::Result as LockResult;

use super::answers::PATIENCE;
use super::call::Call;
use super::call::What;
use super::ledger::Ledger;
use super::program::KEYS;
use super::program::ms;
use super::truth::Truth;

type Check = Result<(), String>;

/// What happened.
impl Ledger {
    /// One guard lets go.
    pub(crate) fn let_go(&mut self, hold: usize, now: BootInstant) {
        let hold = &mut self.holds[hold];
        hold.guards -= 1;
        if hold.guards == 0 && hold.view.is_valid() {
            hold.left = Some(now);
        }
    }

    pub(crate) fn detach(&mut self, hold: usize) {
        let hold = &mut self.holds[hold];
        hold.guards = 0;
        hold.detached = true;
        self.strangers.push((hold.key, hold.fence));
    }

    /// The key loses its holders, and nobody is told.
    pub(crate) fn take_away(&mut self, key: usize, now: BootInstant) {
        self.hush(key, now);
        self.rob(now, |hold| hold.key == key);
    }

    pub(crate) fn stolen(&mut self, key: usize, fence: u64) {
        self.strangers.push((key, fence));
        self.keys[key].fence = self.keys[key].fence.max(fence);
    }

    /// The key is forced open: its holders are told, and its waiters.
    pub(crate) fn force(&mut self, key: usize, session: bool, now: BootInstant) {
        let quiet = self.keys.map(|key| key.quiet_until);
        self.rob(now, |hold| hold.key == key || session);
        if !session {
            self.keys[key].quiet_until = quiet[key];
        }
    }

    pub(crate) fn end_session(&mut self, site: usize, now: BootInstant) {
        (0..KEYS.len()).for_each(|key| self.hush(key, now));
        self.rob(now, |hold| hold.site == site);
    }

    pub(crate) fn forget(&mut self, now: BootInstant) {
        (0..KEYS.len()).for_each(|key| self.hush(key, now));
        self.rob(now, |_| true);
    }
}

/// What was answered.
impl Ledger {
    pub(crate) fn renewed(
        &self,
        call: &Call,
        (at, now): (BootInstant, BootInstant),
        outcome: &LockResult<Duration>,
        truth: &Truth,
    ) -> Check {
        let What::Renew { key, fence } = call.what else { unreachable!() };
        let calm = self.is_calm(call.site, call.began);
        let had = call.before.key(key).find(fence).is_some();
        let has = truth.key(key).find(fence);
        let right = match outcome {
            Ok(valid) if at == now && calm => had && has.is_some_and(|it| *valid <= it.left),
            Ok(_) => !calm || had,
            Err(error) => match error.kind() {
                ErrorKind::NotHeld => !calm || !had,
                ErrorKind::Closed => self.sites[call.site].closed,
                _ => !calm,
            },
        };
        if !right {
            return Err(format!("renewing fence {fence} said {outcome:?}"));
        }
        self.check_patience(call, at, PATIENCE)
    }

    pub(crate) fn released(
        &self,
        call: &Call,
        at: BootInstant,
        outcome: &LockResult<()>,
        truth: &Truth,
    ) -> Check {
        let What::Release { key, fence } = call.what else { unreachable!() };
        let calm = self.is_calm(call.site, call.began);
        let had = call.before.key(key).find(fence).is_some();
        let right = match outcome {
            Ok(()) => truth.key(key).find(fence).is_none() && (had || !calm),
            Err(error) => match error.kind() {
                ErrorKind::NotHeld => !calm || !had,
                ErrorKind::Closed => self.sites[call.site].closed,
                _ => !calm,
            },
        };
        if !right {
            return Err(format!("G7: releasing fence {fence} said {outcome:?}"));
        }
        self.check_patience(call, at, PATIENCE)
    }

    pub(crate) fn looked(
        &self,
        call: &Call,
        at: BootInstant,
        outcome: &LockResult<(KeyState, bool, Vec<KeyState>)>,
    ) -> Check {
        let What::Look { key } = call.what else { unreachable!() };
        let calm = self.is_calm(call.site, call.began);
        let fences = |state: &KeyState| {
            let fences = state.holders.iter().flat_map(|holder| holder.fence);
            let mut fences: Vec<_> = fences.map(|fence| fence.get()).collect();
            fences.sort_unstable();
            (fences, state.waiting)
        };
        let shown = |key: usize| {
            let truth = call.before.key(key);
            (truth.fences(), truth.waiting)
        };
        let right = match outcome {
            Ok((state, locked, list)) if calm => {
                let used = (0..KEYS.len()).filter(|key| shown(*key) != (Vec::new(), 0));
                let listed: Vec<_> = list.iter().map(|it| (it.key.as_str(), fences(it))).collect();
                fences(state) == shown(key)
                    && *locked != shown(key).0.is_empty()
                    && listed == used.map(|key| (KEYS[key], shown(key))).collect::<Vec<_>>()
            }
            Ok(_) => true,
            Err(error) => !calm || self.is_closed(call, error.kind()),
        };
        if !right {
            return Err(format!("looking at {:?} showed {outcome:?}", call.before));
        }
        self.check_patience(call, at, PATIENCE * 3)
    }

    pub(crate) fn forced(
        &mut self,
        call: &Call,
        at: BootInstant,
        outcome: &LockResult<Evicted>,
        truth: &Truth,
    ) -> Check {
        let What::Force { key, session } = call.what else { unreachable!() };
        let calm = self.is_calm(call.site, call.began);
        if !calm {
            self.rob(at, |hold| hold.key == key || session);
        }
        let before = &call.before.key(key).fences();
        let right = match outcome {
            Ok(evicted) if calm => {
                let gone = before.iter().all(|fence| truth.key(key).find(*fence).is_none());
                gone && usize::try_from(evicted.holders) == Ok(before.len())
            }
            Ok(_) => true,
            Err(error) => !calm || self.is_closed(call, error.kind()),
        };
        if !right {
            return Err(format!("forcing {before:?} said {outcome:?}, leaving {truth:?}"));
        }
        let told = |site: usize| self.is_calm(site, call.began) && self.is_prompt(site, at);
        for hold in self.holds.iter().filter(|hold| hold.key == key && before.contains(&hold.fence))
        {
            // What is not renewed on a store with leases is not asked for either: its deadline tells.
            let told = told(hold.site) && (hold.asked.renews || self.session);
            let calm = calm && outcome.is_ok() && told && !hold.excused;
            if calm && hold.is_guarded() && hold.view.is_valid() {
                return Err(format!("G4: fence {} was not told of its eviction", hold.fence));
            }
        }
        self.check_patience(call, at, PATIENCE)
    }

    pub(crate) fn cleaned(
        &self,
        call: &Call,
        at: BootInstant,
        outcome: &LockResult<u64>,
        truth: &Truth,
    ) -> Check {
        let calm = self.is_calm(call.site, call.began);
        let right = match outcome {
            Ok(_) => !self.all_calm(call.began) || call.before.fences() == truth.fences(),
            Err(error) => !calm || self.is_closed(call, error.kind()),
        };
        if !right {
            return Err(format!("S10: cleaning {:?} said {outcome:?}", call.before));
        }
        self.check_patience(call, at, PATIENCE)
    }

    pub(crate) fn shut_down(
        &mut self,
        call: &Call,
        at: BootInstant,
        outcome: &LockResult<()>,
        truth: &Truth,
    ) -> Check {
        let What::Shutdown { timeout, first } = call.what else { unreachable!() };
        let calm = self.is_calm(call.site, call.began);
        let lingers = |min: BootInstant| self.session && min > call.began;
        let lingers = self.holds.iter().any(|it| it.site == call.site && lingers(it.min_end()));
        let right = match outcome {
            // A second one finds nothing to wait for, whatever the first has given up.
            Ok(()) => !first || !self.leaves_something(call.site, at, truth),
            // Without any time there is none for releases either.
            Err(error) => !calm || (lingers || timeout == 0) && error.kind() == ErrorKind::Timeout,
        };
        if outcome.is_err() {
            self.storm(call.site);
            self.heal(call.site, at);
        }
        if !right {
            return Err(format!("G5: the shutdown said {outcome:?}"));
        }
        let patience = ms(timeout) + ms(timeout.max(1_000));
        if calm && lingers { Ok(()) } else { self.check_patience(call, at, patience) }
    }

    /// Whether the store has something of `site` for longer than a release is repeated at all.
    fn leaves_something(&self, site: usize, now: BootInstant, truth: &Truth) -> bool {
        let ours = self.holds.iter().filter(|hold| hold.site == site && hold.is_done_with(now));
        let mut found = ours.flat_map(|hold| truth.key(hold.key).find(hold.fence));
        found.any(|holding| holding.left > ms(2_000))
    }

    fn is_closed(&self, call: &Call, kind: ErrorKind) -> bool {
        self.sites[call.site].closed && kind == ErrorKind::Closed
    }
}
