//! One lock call: attempts, waits, and leaves nothing behind when it is dropped.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::Shared;
use super::held::Held;
use super::held::Opening;
use super::pace::Pace;
use super::pending::Flight;
use super::pending::Pending;
use super::place::InLine;
use super::request;
use super::slots::Seat;
use super::waiters::Waiting;
use crate::Attempt;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Hint;
use crate::Holder;
use crate::Lease;
use crate::LockGuard;
use crate::LockOptions;
use crate::Observer;
use crate::Result;
use crate::Token;
use crate::TryLock;
use crate::Waiting as News;
use crate::Watch;
use crate::WatchFor;

/// How long to try to arm a hint: without one there is still the poller.
const ARMING: Duration = Duration::from_secs(1);

/// Between two tries to arm a hint.
const REARMING: Duration = Duration::from_millis(100);

/// One lock call on its way.
pub(crate) struct Acquire<'a> {
    shared: &'a Arc<Shared>,
    options: &'a LockOptions,
    pace: &'a mut Pace,
    began: BootInstant,
    pending: Pending<'a>,
    waiting: Option<Box<Contention>>,
    holders: Vec<Holder>,
    /// When the next counted attempt is due, after a hint has brought another forward.
    until: Option<BootInstant>,
    /// Left after what is pending has been given back: dropped last.
    seat: Option<Seat<'a>>,
}

/// What a contender keeps alive while it waits.
struct Contention {
    waiting: Waiting,
    hint: Hint,
    /// From when on a hint that could not be armed, or has broken, may be armed again.
    rearm_at: BootInstant,
    /// Dropped with the rest, which disarms the hint and leaves the keeper's care.
    _armed: (Option<InLine>, Option<Watch>),
}

impl Contention {
    fn new(shared: &Arc<Shared>, claim: &Claim, polled: bool, observer: Option<&Observer>) -> Self {
        let waiting = Waiting::new(shared, claim, polled);
        let in_line = claim.queue.then(|| InLine::new(shared, claim, waiting.waiter(), observer));
        let hint = waiting.waiter().hint();
        Self { waiting, hint, rearm_at: BootInstant::FAR, _armed: (in_line, None) }
    }

    /// Whether no hint is armed, and the pause after the last try is over.
    fn is_deaf(&self, now: BootInstant) -> bool {
        self.hint.is_broken() && now >= self.rearm_at
    }

    /// Makes a new hint for the next try to arm one.
    fn renew(&mut self, now: BootInstant) -> Hint {
        self._armed.1 = None;
        self.rearm_at = now + REARMING;
        self.hint = self.waiting.waiter().hint();
        self.hint.clone()
    }
}

impl<'a> Acquire<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        claim: Claim,
        options: &'a LockOptions,
        pace: &'a mut Pace,
        began: BootInstant,
    ) -> Self {
        let pending = Pending::new(shared, claim);
        let (waiting, holders, until, seat) = (None, Vec::new(), None, None);
        Self { shared, options, pace, began, pending, waiting, holders, until, seat }
    }

    /// Acquires what the claim wants, with the patience that is left.
    ///
    /// What is not on the way of a free key is boxed: it would make the future of each call larger.
    pub(crate) async fn acquire(&mut self) -> Result<TryLock> {
        // A free key of a fast store is had without waiting: so that a task that takes one after the
        // other leaves its thread to the rest now and then.
        tokio::task::coop::consume_budget().await;
        // A counted attempt comes when it is due, whoever else waits here.
        if !self.pace.waits() || self.pace.counts() || self.pending.claim().queue {
            return self.run().await;
        }
        let claim = self.pending.claim();
        let mut seat = self.shared.slots.join(&claim.key);
        if self.options.owner.is_some() || !seat.is_at_turn() {
            let deadline = self.pace.deadline();
            let stand = stand(self.shared, self.options, claim, deadline, seat.turn());
            if let Some(guard) = Box::pin(stand).await? {
                return Ok(guard);
            }
        }
        self.seat = Some(seat);
        self.run().await
    }

    fn reenter(&self) -> Result<Option<TryLock>> {
        reenter(self.shared, self.options, self.pending.claim())
    }

    async fn run(&mut self) -> Result<TryLock> {
        loop {
            if let Some(guard) = self.reenter()? {
                return Ok(guard);
            }
            self.shared.check_open()?;
            self.shared.metrics.attempted();
            let done = match self.pending.attempt(self.pace.deadline()).await {
                Flight::Landed(Ok(Attempt::Acquired { fence, lease })) => {
                    match self.admit(fence, lease) {
                        Ok(held) => {
                            return Ok(TryLock::Acquired(hand_over(held)));
                        }
                        Err(error) => Box::pin(self.recover(error)).await,
                    }
                }
                Flight::Landed(Ok(Attempt::Held { holders, retry_in, ahead })) => {
                    self.pace.answered();
                    self.tell(|| News::Held { holders: holders.clone(), ahead });
                    self.shared.slots.note(&self.pending.claim().key, &holders);
                    self.holders = holders;
                    self.line_up_in_a_crowd(ahead);
                    Box::pin(self.contend(retry_in)).await
                }
                Flight::Landed(Err(error)) => Box::pin(self.recover(error)).await,
                Flight::Late => Err(self.out_of_time()),
                Flight::Closing => Err(closed()),
            };
            if let Some(outcome) = done? {
                return Ok(outcome);
            }
        }
    }

    /// Turns a grant into a hold, if it is still worth something.
    fn admit(&mut self, fence: Fence, lease: Lease) -> Result<Arc<Held>> {
        let now = self.shared.now();
        let term = request::term(self.shared, self.pending.claim(), self.options, lease, now);
        if term.valid_until() <= now {
            self.start_afresh();
            return Err(came_too_late(lease));
        }
        let claim = self.pending.acquired();
        let held = Held::open(self.shared, Opening { claim, fence, term, now }, self.options);
        if let Err(closed) = self.shared.check_open() {
            // The shutdown may have looked for holds just before this one opened.
            held.close();
            return Err(closed);
        }
        if self.options.owner.is_some() {
            self.shared.reentry.remember(&held);
            self.shared.waiters.wake_key(&held.claim().key);
        }
        self.shared.metrics.acquired_after(now.saturating_since(self.began));
        Ok(held)
    }

    /// Gives the old token back and goes on with another: a release that is on its way must not meet
    /// the next attempt.
    fn start_afresh(&mut self) {
        let fresh = Claim { token: Token::random(), ..self.pending.claim().clone() };
        self.waiting = None;
        self.pending = Pending::new(self.shared, fresh);
    }

    /// Stands in the store's line from now on if others do, or hold in another mode: whoever only polls
    /// would be starved by those in line, and by readers or permits that keep coming.
    fn line_up_in_a_crowd(&mut self, ahead: Option<u64>) {
        let claim = self.pending.claim();
        let (mine, mut modes) = (claim.mode, self.holders.iter().filter_map(|it| it.mode));
        let crowded = ahead.is_some() || modes.any(|mode| mode != mine);
        if crowded && self.pace.waits() && self.shared.profile.fair && !claim.queue {
            self.pending.line_up();
            // Armed anew, as one that stands in line.
            self.waiting = None;
        }
    }

    /// Waits for a reason to try again; `Some` if the call was not to wait.
    async fn contend(&mut self, retry_in: Option<Duration>) -> Result<Option<TryLock>> {
        if !self.pace.waits() {
            let entered = self.reenter()?;
            return Ok(entered.or_else(|| Some(TryLock::Held(std::mem::take(&mut self.holders)))));
        }
        let now = self.shared.now();
        if self.waiting.as_ref().is_none_or(|contention| contention.is_deaf(now)) {
            self.arm().await;
            if !self.pace.counts() {
                // Armed now: what was released before that shows in the next attempt.
                return Ok(None);
            }
        }
        let Some(until) = self.until.take().or_else(|| self.pace.next_attempt(now)) else {
            return Err(self.out_of_time());
        };
        let Some(contention) = &self.waiting else { return Ok(None) };
        contention.waiting.plan(retry_in);
        let rearm = if contention.hint.is_broken() { contention.rearm_at } else { until };
        tokio::select! {
            biased;
            // An attempt that a hint brings does not count.
            () = contention.waiting.waiter().hinted() => {
                self.until = self.pace.counts().then_some(until);
            }
            () = self.shared.closing() => return Err(closed()),
            () = self.shared.clock().sleep_until(until.min(rearm)) => {
                if until <= rearm && until == self.pace.deadline() {
                    return Err(self.out_of_time());
                }
                self.until = (rearm < until && self.pace.counts()).then_some(until);
            }
        }
        Ok(None)
    }

    /// Registers as a waiter, once, and arms a hint.
    async fn arm(&mut self) {
        let claim = self.pending.claim().clone();
        let counts = self.pace.counts();
        let observer = self.options.observer.as_ref();
        let contention = self
            .waiting
            .get_or_insert_with(|| Contention::new(self.shared, &claim, !counts, observer).into());
        let hint = contention.renew(self.shared.now());
        let arming = self.shared.backend.watch(&claim, WatchFor::Release, hint);
        let arming = self.shared.limited_to(ARMING, "watch", arming);
        let deadline = self.shared.clock().sleep_until(self.pace.deadline());
        let watch = tokio::select! {
            watch = arming => watch,
            () = deadline => return,
        };
        match watch {
            Ok(watch) => contention._armed.1 = Some(watch),
            Err(error) => {
                contention.hint.broken();
                let backend = self.shared.profile.name;
                tracing::debug!(backend, %error, "no wake-up could be armed: polling only");
            }
        }
    }

    /// Waits before a failed request is repeated, or gives its error back.
    async fn recover(&mut self, error: Error) -> Result<Option<TryLock>> {
        let again = error.is_retryable().then(|| self.pace.next_retry(self.shared.now()));
        let Some(at) = again.flatten() else { return Err(error) };
        tracing::debug!(backend = self.shared.profile.name, %error, "attempt failed, trying again");
        self.tell(|| News::Failed { error });
        tokio::select! {
            () = self.shared.clock().sleep_until(at) => Ok(None),
            () = self.shared.closing() => Err(closed()),
        }
    }

    /// Tells whoever wants to know.
    fn tell(&self, news: impl FnOnce() -> News) {
        if let Some(observer) = &self.options.observer {
            observer.tell(news());
        }
    }

    fn out_of_time(&mut self) -> Error {
        self.shared.metrics.timed_out();
        if self.waiting.is_none() && !self.pace.has_met_holders() {
            let message = "the store gave no answer within the time to wait";
            return Error::new(ErrorKind::Unavailable, message).ambiguous();
        }
        timed_out(std::mem::take(&mut self.holders))
    }
}

/// Stands in the local line until it is this call's turn, or its owner can enter what it holds.
async fn stand(
    shared: &Arc<Shared>,
    options: &LockOptions,
    claim: &Claim,
    deadline: BootInstant,
    turn: impl Future<Output = ()>,
) -> Result<Option<TryLock>> {
    tokio::pin!(turn);
    loop {
        let changed = shared.reentry.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(guard) = reenter(shared, options, claim)? {
            return Ok(Some(guard));
        }
        tokio::select! {
            biased;
            () = &mut turn => return Ok(None),
            () = shared.closing() => return Err(closed()),
            () = changed, if options.owner.is_some() => {}
            () = shared.clock().sleep_until(deadline) => {
                shared.metrics.timed_out();
                return Err(timed_out(shared.slots.noted(&claim.key)));
            }
        }
    }
}

/// Enters what an explicit owner holds already.
fn reenter(shared: &Arc<Shared>, options: &LockOptions, claim: &Claim) -> Result<Option<TryLock>> {
    if options.owner.is_none() {
        return Ok(None);
    }
    let held = shared.reentry.enter(&claim.key, &claim.owner, claim.mode)?;
    Ok(held.map(|held| TryLock::Acquired(LockGuard::new(held))))
}

/// Makes the guard, and arms a hint for evictions where the store can tell at no cost.
fn hand_over(held: Arc<Held>) -> LockGuard {
    if held.shared().profile.watches_holders {
        let arming = AssertUnwindSafe(watch_for_eviction(&held)).catch_unwind();
        match arming.now_or_never() {
            Some(Ok(Ok(watch))) => held.keep_watch(watch),
            // Without a hint it learns by its next renewal.
            Some(_) => {}
            // Nobody waits for a hint: it is armed in the background.
            None => held.shared().executor.spawn_debt(watch_holder(held.clone())),
        }
    }
    LockGuard::new(held)
}

/// Arms a hint for the eviction of `held`; without one it learns by its next renewal.
pub(crate) async fn watch_holder(held: Arc<Held>) {
    if let Ok(watch) = held.shared().limited("watch", watch_for_eviction(&held)).await {
        held.keep_watch(watch);
    }
}

fn watch_for_eviction(held: &Arc<Held>) -> impl Future<Output = Result<Watch>> {
    held.shared().backend.watch(held.claim(), WatchFor::Eviction, Held::eviction_hint(held))
}

fn came_too_late(lease: Lease) -> Error {
    let message = format!(
        "the store's answer came after the lease of {:?} that it granted had ended",
        lease.ttl
    );
    Error::new(ErrorKind::Unavailable, message)
}

fn timed_out(holders: Vec<Holder>) -> Error {
    Error::new(ErrorKind::Timeout, "the lock did not become free in time").with_holders(holders)
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the provider has been shut down")
}
