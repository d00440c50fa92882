//! One hold: the state that its guards share, and how it learns of its renewals, its deadlines and its
//! end.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use super::Shared;
use super::acquire::watch_holder;
use super::register::Seat;
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
use crate::LockOptions;
use crate::Loss;
use crate::Renew;
use crate::Result;
use crate::Watch;
use crate::backend::Hinted;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering;

/// One acquisition, until it is lost or its last guard lets go.
pub(crate) struct Held {
    pub(super) shared: Arc<Shared>,
    pub(super) claim: Claim,
    pub(super) fence: Fence,
    pub(super) acquired_at: BootInstant,
    /// In nanoseconds.
    pub(super) min_hold: AtomicU64,
    renew: Renew,
    reentrant: bool,
    pub(super) guards: AtomicUsize,
    pub(super) seat: Seat,
    /// The hint for evictions has broken.
    deaf: AtomicBool,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) term: Term,
    watch: Option<Watch>,
    /// There once somebody has asked to be told: most holds are over before anybody does.
    changed: Option<Arc<Notify>>,
}

/// What a new hold starts from.
pub(crate) struct Opening {
    pub(crate) claim: Claim,
    pub(crate) fence: Fence,
    pub(crate) term: Term,
    pub(crate) now: BootInstant,
}

impl Held {
    /// Starts the life of a hold: from here on it is renewed, and its deadlines are watched.
    pub(crate) fn open(shared: &Arc<Shared>, opening: Opening, options: &LockOptions) -> Arc<Self> {
        let Opening { claim, fence, mut term, now } = opening;
        term.tick(now);
        let keep_at = term.keep_due().map(|(at, _)| at);
        let make = |seat| {
            Arc::new(Self {
                shared: shared.clone(),
                claim,
                fence,
                acquired_at: now,
                min_hold: AtomicU64::new(as_nanos(options.min_hold)),
                renew: options.renew,
                reentrant: options.owner.is_some(),
                guards: AtomicUsize::new(1),
                seat,
                deaf: AtomicBool::new(false),
                state: Mutex::new(State { term, watch: None, changed: None }),
            })
        };
        shared.metrics.opened();
        shared.register.enter(shared, keep_at, term.changes_at(), make)
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
    pub(crate) fn keep_watch(&self, watch: Watch) {
        let mut state = self.state();
        if !state.term.is_over() {
            state.watch = Some(watch);
        }
    }

    /// A hint that makes this hold look whether it still holds.
    pub(crate) fn eviction_hint(held: &Arc<Self>) -> Hint {
        let weak: Weak<Self> = Arc::downgrade(held);
        Hint::to_holder(weak)
    }

    /// Takes a watch that has broken, to be armed anew.
    fn take_broken_watch(&self) -> Option<Watch> {
        let broken = self.deaf.load(Ordering::Acquire) && self.deaf.swap(false, Ordering::AcqRel);
        if broken { self.state().watch.take() } else { None }
    }

    /// Completes when `test` finds what it looks for in the state.
    pub(crate) async fn until<T>(&self, test: impl Fn(&Term) -> Option<T>) -> T {
        let notify = self.changed();
        loop {
            let changed = notify.notified();
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

    /// What is notified of each change.
    fn changed(&self) -> Arc<Notify> {
        self.state().changed.get_or_insert_default().clone()
    }

    fn tell(&self) {
        let changed = self.state().changed.clone();
        if let Some(changed) = changed {
            changed.notify_waiters();
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

    /// When time alone changes something.
    pub(super) fn changes_at(&self) -> BootInstant {
        self.state().term.changes_at()
    }

    /// Brings the phase up to the present and tells of a change.
    pub(super) fn look_at_the_clock(&self, now: BootInstant) {
        // What it finds is told where it is found.
        drop(self.live(now));
    }

    /// Cleans up after a loss: nothing may stay held for a holder who has given up.
    pub(super) fn lost(&self, loss: Loss) {
        self.shared.metrics.lost();
        let watch = self.retire(self.state(), self.now());
        let (shared, claim) = (self.shared.clone(), self.release_claim());
        self.shared.executor.spawn_debt(async move {
            // Disarmed and logged here because both may block, and the clock thread must not.
            drop(watch);
            let (backend, key) = (shared.profile.name, shared.strip(claim.key.as_str()));
            tracing::warn!(backend, key, %loss, "lock lost");
            release_surely(shared, claim).await;
        });
    }

    /// Takes the hold out of all that looks after it, once it is over, and returns the watch to be
    /// dropped.
    pub(super) fn retire(
        &self,
        mut state: MutexGuard<'_, State>,
        now: BootInstant,
    ) -> Option<Watch> {
        let (watch, changed) = (state.watch.take(), state.changed.take());
        drop(state);
        self.shared.register.leave(self.seat);
        if self.reentrant {
            self.shared.reentry.forget(&self.claim.key, &self.claim.owner, self);
        }
        self.shared.metrics.closed_after(now.saturating_since(self.acquired_at));
        if let Some(changed) = changed {
            changed.notify_waiters();
        }
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

    /// Takes in the outcome of a renewal; `None` is a failure. Whoever calls this lets the register know
    /// afterwards: the deadlines have moved.
    pub(crate) fn kept(self: &Arc<Self>, outcome: Option<Kept>, now: BootInstant) {
        let mut state = self.state();
        let before = state.term.phase();
        state.term.kept(outcome, now);
        state.term.tick(now);
        let after = state.term.phase();
        drop(state);
        if let (Phase::Held | Phase::AtRisk, Phase::Lost(loss)) = (before, after) {
            self.lost(loss);
            return;
        }
        self.tell();
        if let Some(broken) = self.take_broken_watch() {
            // The store answers again, so it may take a subscription again.
            drop(broken);
            self.shared.executor.spawn(watch_holder(self.clone()));
        }
    }

    /// Renews now with a new TTL.
    pub(crate) async fn extend(self: &Arc<Self>, ttl: Duration) -> Result<()> {
        let ttl = self.shared.parse_ttl(Some(ttl)).map_err(|error| self.stamp(error, "extend"))?;
        let renewal = self.clone().renew_with(ttl);
        let outcome = self.shared.executor.see_through(renewal).await;
        outcome.map_err(|error| self.stamp(error, "extend"))
    }

    async fn renew_with(self: Arc<Self>, ttl: Duration) -> Result<()> {
        self.turn_to_keep().await?;
        let now = self.now();
        self.state().term.change_ttl(ttl, now);
        self.look_at_the_clock(now);
        self.shared.register.expect_changes(&self.shared, [&self]);
        self.tell();
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
        self.kept(outcome, self.now());
        self.shared.register.expect_changes(&self.shared, [&self]);
        // The keeper planned without this hold while it was being kept here.
        self.shared.register.look_again();
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
        let notify = self.changed();
        loop {
            let changed = notify.notified();
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
        if state.term.tick(now) {
            let phase = state.term.phase();
            drop(state);
            self.tell();
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

/// A hint tells that the lock may have been taken away: a renewal finds out.
impl Hinted for Held {
    fn hint(&self) {
        self.state().term.keep_now(self.now());
        self.shared.register.look_again();
    }

    fn broken(&self) {
        self.deaf.store(true, Ordering::Release);
        self.hint();
    }

    fn is_broken(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }
}

/// Saturates after 584 years.
pub(super) fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?}, {:?})", self.claim.key, self.state().term)
    }
}
