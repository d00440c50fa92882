//! One hold: the state that its guards share, its timer on the clock thread, and its end.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use super::call::Call;
use super::keeper::Seat;
use super::release::release_now;
use super::release::release_surely;
use super::release::shorten;
use super::term::Phase;
use super::term::Term;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Handle;
use crate::Kept;
use crate::LeaseKind;
use crate::Loss;
use crate::Renew;
use crate::Result;
use crate::Watch;
use crate::clock::TimerId;

/// One acquisition, until it is lost or its last guard lets go.
pub(crate) struct Held {
    shared: Arc<Shared>,
    claim: Claim,
    fence: Fence,
    acquired_at: BootInstant,
    min_hold: Duration,
    renew: Renew,
    guards: AtomicUsize,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    term: Term,
    timer: Option<TimerId>,
    seat: Option<Seat>,
    watch: Option<Watch>,
}

/// What a new hold starts from.
pub(crate) struct Opening {
    pub(crate) claim: Claim,
    pub(crate) fence: Fence,
    pub(crate) term: Term,
    pub(crate) min_hold: Duration,
    pub(crate) renew: Renew,
}

/// What a guard finds when it lets go.
enum Leaving {
    /// Other guards still hold.
    Shared,
    Lost(Loss),
    Last,
    /// The last guard, but the lock has to stay taken for so long.
    Linger(Duration),
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

    fn state(&self) -> MutexGuard<'_, State> {
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

    /// Keeps a hint for evictions armed while the hold lasts.
    pub(crate) fn keep_watch(&self, watch: Watch) {
        let mut state = self.state();
        if !state.term.is_over() {
            state.watch = Some(watch);
        }
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

    async fn is_over(&self) {
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
    fn lost(&self, loss: Loss) {
        self.shared.metrics.lost();
        let watch = self.retire();
        let (shared, claim) = (self.shared.clone(), self.keep_claim());
        self.shared.executor.spawn_debt(async move {
            // Disarmed and logged here because both may block, and the clock thread must not.
            drop(watch);
            let (backend, key) = (shared.profile.name, shared.strip(claim.key.as_str()));
            tracing::warn!(backend, key, %loss, "lock lost");
            release_surely(shared, claim).await;
        });
    }

    /// Takes the hold out of all that looks after it, and returns the watch to be dropped.
    fn retire(&self) -> Option<Watch> {
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
    pub(crate) fn eviction_hint(self: &Arc<Self>) -> crate::Hint {
        crate::Hint::new(Waker::from(Arc::new(KeepNow(Arc::downgrade(self)))))
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

    /// Lets one guard go and tells what came of it.
    #[tracing::instrument(
        level = "debug",
        skip_all,
        fields(backend = self.shared.profile.name, key = self.key(), fence = self.fence.get())
    )]
    pub(crate) async fn unlock(self: &Arc<Self>) -> Result<()> {
        let outcome = match self.leave() {
            Leaving::Shared => Ok(()),
            Leaving::Lost(loss) => Err(lost(loss)),
            Leaving::Last => Call::new(&self.shared, release_now(self.clone())).await,
            Leaving::Linger(left) => self.linger(left).await,
        };
        outcome.map_err(|error| self.stamp(error, "unlock"))
    }

    pub(crate) fn min_hold_left(&self, now: BootInstant) -> Duration {
        (self.acquired_at + self.min_hold).saturating_since(now)
    }

    /// Lets one guard go without waiting for anything.
    pub(crate) fn release_in_background(self: &Arc<Self>) {
        match self.leave() {
            Leaving::Shared | Leaving::Lost(_) => {}
            Leaving::Last => self.shared.release_later(self.keep_claim()),
            Leaving::Linger(left) if self.keeps_to_the_end() => self.release_after(left),
            Leaving::Linger(_) => {
                self.shared.executor.spawn_debt(drop_result(shorten(self.clone())));
            }
        }
    }

    fn leave(&self) -> Leaving {
        let now = self.now();
        let last = self.guards.fetch_sub(1, Ordering::AcqRel) == 1;
        let left = self.min_hold_left(now);
        let linger = last && !left.is_zero();
        let mut state = match self.live(now) {
            Ok(state) => state,
            Err(loss) => return Leaving::Lost(loss),
        };
        if !last {
            return Leaving::Shared;
        }
        if linger && self.keeps_to_the_end() {
            return Leaving::Linger(left);
        }
        state.term.finish(Phase::Released);
        drop(state);
        drop(self.retire());
        if linger { Leaving::Linger(left) } else { Leaving::Last }
    }

    /// The state at `now` unless the hold is lost. A loss, or a risk, that the clock has not seen yet
    /// is told here, for the clock will find nothing new.
    fn live(&self, now: BootInstant) -> Result<MutexGuard<'_, State>, Loss> {
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

    /// Whether a minimum hold needs this process, because the lock ends with its session.
    fn keeps_to_the_end(&self) -> bool {
        self.shared.profile.lease == LeaseKind::Session
    }

    async fn linger(self: &Arc<Self>, left: Duration) -> Result<()> {
        if self.keeps_to_the_end() {
            self.release_after(left);
            return Ok(());
        }
        Call::new(&self.shared, shorten(self.clone())).await
    }

    fn release_after(self: &Arc<Self>, left: Duration) {
        let held = self.clone();
        let sleep = self.shared.clock().sleep(left);
        self.shared.executor.spawn_debt(async move {
            tokio::select! {
                () = sleep => {}
                () = held.is_over() => return,
            }
            if held.state().term.finish(Phase::Released) {
                drop(held.retire());
                held.shared.release_later(held.keep_claim());
            }
        });
    }

    /// Ends the hold because the provider shuts down.
    ///
    /// A minimum hold that nobody guards any more goes on, for the shutdown waits for it.
    pub(crate) fn close(&self) {
        let unguarded = self.guards.load(Ordering::Acquire) == 0;
        if unguarded && self.keeps_to_the_end() && !self.min_hold_left(self.now()).is_zero() {
            return;
        }
        if self.state().term.finish(Phase::Lost(Loss::Closed)) {
            self.lost(Loss::Closed);
        }
    }

    /// Lets the lock go on without this process.
    pub(crate) fn detach(&self) -> Result<Handle> {
        if self.keeps_to_the_end() {
            let message = format!(
                "locks of backend {} end with the session that took them, so they cannot be detached",
                self.shared.profile.name
            );
            return Err(self.stamp(Error::new(ErrorKind::Unsupported, message), "detach"));
        }
        self.leave_detached().map_err(|error| self.stamp(error, "detach"))?;
        Ok(self.handle())
    }

    fn leave_detached(&self) -> Result<()> {
        let mut state = self.live(self.now()).map_err(lost)?;
        // In one step, so that nobody enters a hold that is about to leave.
        if self.guards.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            let message = "the lock is shared with other guards of its owner: release them first";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        state.term.finish(Phase::Released);
        drop(state);
        drop(self.retire());
        Ok(())
    }

    fn handle(&self) -> Handle {
        Handle {
            key: self.key().to_owned(),
            token: self.claim.token,
            mode: self.claim.mode,
            fence: self.fence,
            owner: self.claim.owner.clone(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

fn lost(loss: Loss) -> Error {
    Error::new(ErrorKind::Lost, format!("the lock was lost: {loss}"))
}

async fn drop_result(future: impl Future<Output = Result<()>>) {
    drop(future.await);
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
