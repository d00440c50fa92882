//! A place in a store's line, which has to be refreshed while its waiter waits.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use super::Shared;
use super::register::Seat;
use super::waiters::Waiter;
use crate::BootInstant;
use crate::Claim;
use crate::Kept;
use crate::LeaseKind;
use crate::Observer;
use crate::Waiting;
use crate::sync::Mutex;
use crate::sync::MutexGuard;

/// One claim that stands in line.
#[derive(Debug)]
pub(crate) struct Place {
    claim: Claim,
    waiter: Arc<Waiter>,
    observer: Option<Observer>,
    /// How long the place lives unrefreshed: on a session no longer than that.
    ttl: Duration,
    seat: Seat,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kept_at: BootInstant,
    keep_at: BootInstant,
    keeping: bool,
}

impl Place {
    fn ttl(shared: &Shared, claim: &Claim) -> Duration {
        match shared.profile.lease {
            LeaseKind::PerLock => claim.place_ttl(),
            LeaseKind::Session => claim.place_ttl().min(shared.profile.ttl_min),
        }
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
        if let (Some(Kept::Queued { ahead }), Some(observer)) = (outcome, &self.observer) {
            observer.tell(Waiting::Queued { ahead });
        }
        if !matches!(outcome, None | Some(Kept::Queued { ahead: 1.. })) {
            self.waiter.notify();
        }
    }
}

/// A place while the keeper looks after it.
pub(crate) struct InLine {
    shared: Arc<Shared>,
    place: Arc<Place>,
}

impl InLine {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        claim: &Claim,
        waiter: &Arc<Waiter>,
        observer: Option<&Observer>,
    ) -> Self {
        let ttl = Place::ttl(shared, claim);
        let now = shared.now();
        let make = |seat| {
            let state = State { kept_at: now, keep_at: now + ttl / 3, keeping: false };
            let (claim, waiter, observer) = (claim.clone(), waiter.clone(), observer.cloned());
            Arc::new(Place { claim, waiter, observer, ttl, seat, state: Mutex::new(state) })
        };
        let place = shared.register.enter(shared, Some(now + ttl / 3), BootInstant::FAR, make);
        Self { shared: shared.clone(), place }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.shared.register.leave(self.place.seat);
    }
}
