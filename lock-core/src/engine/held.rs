//! One hold: the state that its guards share, its timer on the clock thread, and its end.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use super::Shared;
use super::acquire::watch_holder;
use super::call::Call;
use super::keeper::Seat;
use super::release::release_surely;
use super::term::Phase;
use super::term::Term;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Hint;
use crate::Kept;
use crate::Loss;
use crate::Renew;
use crate::Result;
use crate::Watch;
use crate::clock::TimerId;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering;

/// One acquisition, until it is lost or its last guard lets go.
pub(crate) struct Held {
    pub(super) shared: Arc<Shared>,
    pub(super) claim: Claim,
    pub(super) fence: Fence,
    pub(super) acquired_at: BootInstant,
    pub(super) min_hold: Duration,
    renew: Renew,
    pub(super) guards: AtomicUsize,
    state: Mutex<State>,
    changed: Notify,
}

pub(super) struct State {
    pub(super) term: Term,
    timer: Option<TimerId>,
    seat: Option<Seat>,
    watch: Option<(Watch, Hint)>,
}

/// What a new hold starts from.
pub(crate) struct Opening {
    pub(crate) claim: Claim,
    pub(crate) fence: Fence,
    pub(crate) term: Term,
    pub(crate) min_hold: Duration,
    pub(crate) renew: Renew,
}

impl Held {
    /// Starts the life of a hold: its timer, its renewals.
    pub(crate) fn open(shared: &Arc<Shared>, opening: Opening) -> Arc<Self> {
        let held = Arc::new(Self {
            shared: shared.clone(),
            claim: opening.claim,
            fence: opening.fence,
            acquired_at: shared.now(),
            min_hold: opening.min_hold,
            renew: opening.renew,
            guards: AtomicUsize::new(1),
            state: Mutex::new(State { term: opening.term, timer: None, seat: None, watch: None }),
            changed: Notify::new(),
        });
        held.sit(shared.keeper.add_hold(shared, &held));
        held.look_at_the_clock();
        held
    }

    /// Keeps the seat, unless the hold was closed while it was being opened.
    fn sit(&self, seat: Seat) {
        let mut state = self.state();
        if state.term.valid_until() == BootInstant::from_nanos(0) {
            drop(state);
            self.shared.keeper.remove(seat);
        } else {
            state.seat = Some(seat);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    pub(crate) fn key(&self) -> &str {
        self.shared.strip(self.claim.key.as_str())
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.shared.now()
    }

    pub(crate) fn term(&self) -> Term {
        self.state().term
    }

    pub(crate) fn stamp(&self, error: Error, operation: &'static str) -> Error {
        self.shared.stamp(error, operation, Some(self.key()))
    }

    /// The claim to send with a renewal.
    pub(crate) fn keep_claim(&self) -> Claim {
        let ttl = self.state().term.terms().ttl;
        Claim { ttl, ..self.claim.clone() }
    }

    /// The claim to release with: worth repeating for as long as the store may have it.
    pub(crate) fn release_claim(&self) -> Claim {
        let ttl = self.state().term.longest_ttl();
        Claim { ttl, ..self.claim.clone() }
    }

    /// Keeps a hint for evictions armed while the hold lasts.
    pub(crate) fn keep_watch(&self, watch: Watch, hint: Hint) {
        let mut state = self.state();
        if !state.term.is_over() {
            state.watch = Some((watch, hint));
        }
    }

    /// Takes a watch that has broken, to be armed anew.
    fn take_broken_watch(&self) -> Option<(Watch, Hint)> {
        self.state().watch.take_if(|(_, hint)| hint.is_broken())
    }

    /// Completes when `test` finds what it looks for in the state.
    pub(crate) async fn until<T>(&self, test: impl Fn(&Term) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut term = self.term();
            term.tick(self.now());
            if let Some(found) = test(&term) {
                return found;
            }
            changed.await;
        }
    }

    pub(super) async fn is_over(&self) {
        let over = BootInstant::from_nanos(0);
        self.until(|term| (term.valid_until() == over).then_some(())).await;
    }

    /// Counts one more guard, unless the hold is over.
    pub(crate) fn join(&self) -> bool {
        let more = |count| (count > 0).then_some(count + 1);
        let valid = self.term().valid_until() > self.now();
        valid && self.guards.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Brings the phase up to the present and sets the timer for the next change.
    fn look_at_the_clock(self: &Arc<Self>) {
        let now = self.now();
        let mut state = self.state();
        let tick = state.term.tick(now);
        let stale = state.timer.take();
        if let Some(next) = tick.next {
            let waker = Waker::from(self.clone());
            state.timer = Some(self.shared.clock().wake_at(next, waker));
        }
        let phase = state.term.phase();
        drop(state);
        if let Some(stale) = stale {
            self.shared.clock().cancel(stale);
        }
        if tick.changed {
            self.changed.notify_waiters();
            if let Phase::Lost(loss) = phase {
                self.lost(loss);
            }
        }
    }

    /// Cleans up after a loss: nothing may stay held for a holder who has given up.
    pub(super) fn lost(&self, loss: Loss) {
        self.shared.metrics.lost();
        let watch = self.retire();
        let (shared, claim) = (self.shared.clone(), self.release_claim());
        self.shared.executor.spawn_debt(async move {
            // Disarmed and logged here because both may block, and the clock thread must not.
            drop(watch);
            let (backend, key) = (shared.profile.name, shared.strip(claim.key.as_str()));
            tracing::warn!(backend, key, %loss, "lock lost");
            release_surely(shared, claim).await;
        });
    }

    /// Takes the hold out of all that looks after it, and returns the watch to be dropped.
    pub(super) fn retire(&self) -> Option<(Watch, Hint)> {
        let mut state = self.state();
        let (timer, seat, watch) = (state.timer.take(), state.seat.take(), state.watch.take());
        drop(state);
        if let Some(timer) = timer {
            self.shared.clock().cancel(timer);
        }
        if let Some(seat) = seat {
            self.shared.keeper.remove(seat);
        }
        self.shared.reentry.forget(&self.claim.key, &self.claim.owner, self);
        self.shared.metrics.held_for(self.now().saturating_since(self.acquired_at));
        self.changed.notify_waiters();
        watch
    }

    /// When a renewal is due and from when on it may be brought forward.
    pub(crate) fn keep_due(&self) -> Option<(BootInstant, BootInstant)> {
        self.state().term.keep_due()
    }

    pub(crate) fn begin_keep(&self) -> bool {
        self.state().term.begin_keep()
    }

    pub(crate) fn keep_limit(&self) -> Duration {
        self.state().term.keep_limit()
    }

    pub(crate) fn valid_until(&self) -> BootInstant {
        self.state().term.valid_until()
    }

    /// Makes a renewal due at once: somebody hinted at an eviction.
    fn keep_now(&self) {
        self.state().term.keep_now(self.now());
        self.shared.keeper.look_again();
    }

    /// A hint that makes this hold look whether it still holds.
    pub(crate) fn eviction_hint(self: &Arc<Self>) -> Hint {
        Hint::new(Waker::from(Arc::new(KeepNow(Arc::downgrade(self)))))
    }

    /// Takes in the outcome of a renewal; `None` is a failure.
    pub(crate) fn kept(self: &Arc<Self>, outcome: Option<Kept>) {
        let now = self.now();
        let mut state = self.state();
        let (before, risk_before) = (state.term.phase(), state.term.at_risk_at());
        state.term.kept(outcome, now);
        let (after, risk_after) = (state.term.phase(), state.term.at_risk_at());
        drop(state);
        if let (Phase::Held | Phase::AtRisk, Phase::Lost(loss)) = (before, after) {
            self.lost(loss);
            return;
        }
        self.changed.notify_waiters();
        if let Some(broken) = self.take_broken_watch() {
            // The store answers again, so it may take a subscription again.
            drop(broken);
            self.shared.executor.spawn(watch_holder(self.clone()));
        }
        if after == Phase::AtRisk || risk_after < risk_before {
            // Back to safety, perhaps, or a lease that the store shortened: the timer is stale.
            self.look_at_the_clock();
        }
    }

    /// Renews now with a new TTL.
    pub(crate) async fn extend(self: &Arc<Self>, ttl: Duration) -> Result<()> {
        let ttl = self.shared.parse_ttl(Some(ttl)).map_err(|error| self.stamp(error, "extend"))?;
        let renewal = self.clone().renew_with(ttl);
        let outcome = Call::new(&self.shared, renewal).await;
        outcome.map_err(|error| self.stamp(error, "extend"))
    }

    async fn renew_with(self: Arc<Self>, ttl: Duration) -> Result<()> {
        self.turn_to_keep().await?;
        let now = self.now();
        self.state().term.change_ttl(ttl, now);
        self.look_at_the_clock();
        self.changed.notify_waiters();
        let claims = [self.keep_claim()];
        // No longer than a renewal: there is never a second one on its way.
        let keep = self.shared.backend.keep(&claims);
        let kept = self.shared.limited_to(self.keep_limit(), "extend", keep).await;
        let kept = kept.and_then(|kept| self.shared.expect_answers(kept, 1));
        let outcome = kept.as_ref().ok().and_then(|kept| kept.first()).copied();
        if self.renew == Renew::Never && matches!(outcome, Some(Kept::Renewed { .. })) {
            let end = self.shared.end_without_renewal(now + ttl);
            self.state().term.set_end(end);
        }
        self.kept(outcome);
        self.look_at_the_clock();
        // The keeper planned without this hold while it was being kept here.
        self.shared.keeper.look_again();
        kept?;
        self.check()
    }

    fn check(&self) -> Result<()> {
        match self.term().phase() {
            Phase::Lost(loss) => Err(lost(loss)),
            Phase::Released => Err(Error::new(ErrorKind::NotHeld, "the lock has been released")),
            Phase::Held | Phase::AtRisk => Ok(()),
        }
    }

    /// Waits for a renewal on its way to end, and begins one.
    async fn turn_to_keep(&self) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.check()?;
            if self.begin_keep() {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Waits for a renewal on its way to end, after which no other is begun.
    pub(crate) async fn keep_is_over(&self) {
        self.until(|term| (!term.is_keeping()).then_some(())).await;
    }

    /// The state at `now` unless the hold is lost. A loss, or a risk, that the clock has not seen yet
    /// is told here, for the clock will find nothing new.
    pub(super) fn live(&self, now: BootInstant) -> Result<MutexGuard<'_, State>, Loss> {
        let mut state = self.state();
        let tick = state.term.tick(now);
        let phase = state.term.phase();
        if tick.changed {
            drop(state);
            self.changed.notify_waiters();
            if let Phase::Lost(loss) = phase {
                self.lost(loss);
            }
            state = self.state();
        }
        if let Phase::Lost(loss) = state.term.phase() { Err(loss) } else { Ok(state) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

pub(super) fn lost(loss: Loss) -> Error {
    Error::new(ErrorKind::Lost, format!("the lock was lost: {loss}"))
}

/// The clock thread calls here when something is due.
impl Wake for Held {
    fn wake(self: Arc<Self>) {
        self.look_at_the_clock();
    }
}

/// Wakes the keeper for one hold, without keeping that hold alive.
struct KeepNow(std::sync::Weak<Held>);

impl Wake for KeepNow {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(held) = self.0.upgrade() {
            held.keep_now();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?}, {:?})", self.claim.key, self.state().term)
    }
}
