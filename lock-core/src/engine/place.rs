//! A place in a store's line, which has to be refreshed while its waiter waits.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use super::Shared;
use super::keeper::Seat;
use super::waiters::Waiter;
use crate::BootInstant;
use crate::Claim;
use crate::Kept;
use crate::LeaseKind;
use crate::sync::Mutex;
use crate::sync::MutexGuard;

/// One claim that stands in line.
#[derive(Debug)]
pub(crate) struct Place {
    claim: Claim,
    waiter: Arc<Waiter>,
    /// How long the place lives unrefreshed: on a session no longer than that.
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kept_at: BootInstant,
    keep_at: BootInstant,
    keeping: bool,
}

impl Place {
    fn new(shared: &Shared, claim: Claim, waiter: Arc<Waiter>) -> Self {
        let ttl = match shared.profile.lease {
            LeaseKind::PerLock => claim.place_ttl(),
            LeaseKind::Session => claim.place_ttl().min(shared.profile.ttl_min),
        };
        let now = shared.now();
        let state = State { kept_at: now, keep_at: now + ttl / 3, keeping: false };
        Self { claim, waiter, ttl, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(crate) fn keep_due(&self) -> Option<(BootInstant, BootInstant)> {
        let state = self.state();
        let slack = state.keep_at.saturating_since(state.kept_at) / 2;
        (!state.keeping).then_some((state.keep_at, state.keep_at - slack))
    }

    pub(crate) fn begin_keep(&self) -> bool {
        !std::mem::replace(&mut self.state().keeping, true)
    }

    pub(crate) fn keep_limit(&self) -> Duration {
        self.ttl / 3
    }

    pub(crate) fn valid_until(&self) -> BootInstant {
        self.state().kept_at + self.ttl
    }

    /// Takes in the outcome of a refresh. A turn that has come, and a place that is gone, are both
    /// reasons to try again: the attempt finds out, and queues afresh if need be.
    pub(crate) fn kept(&self, outcome: Option<Kept>, now: BootInstant) {
        let mut state = self.state();
        state.keeping = false;
        if outcome.is_some() {
            state.kept_at = now;
        }
        state.keep_at = now + self.ttl / if outcome.is_some() { 3 } else { 15 };
        drop(state);
        if !matches!(outcome, None | Some(Kept::Queued { ahead: 1.. })) {
            self.waiter.notify();
        }
    }
}

/// A place while the keeper looks after it.
pub(crate) struct InLine {
    shared: Arc<Shared>,
    seat: Seat,
}

impl InLine {
    pub(crate) fn new(shared: &Arc<Shared>, claim: &Claim, waiter: &Arc<Waiter>) -> Self {
        let place = Arc::new(Place::new(shared, claim.clone(), waiter.clone()));
        let seat = shared.keeper.add_place(shared, &place);
        Self { shared: shared.clone(), seat }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.shared.keeper.remove(self.seat);
    }
}
