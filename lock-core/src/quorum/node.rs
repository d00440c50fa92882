//! One member, as the combination uses it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::lane::Lanes;
use super::lane::Place;
use super::lane::Purpose;
use crate::Attempt;
use crate::Backoff;
use crate::Claim;
use crate::Clock;
use crate::Cursor;
use crate::Error;
use crate::ErrorKind;
use crate::Evicted;
use crate::Eviction;
use crate::Fence;
use crate::Hint;
use crate::Kept;
use crate::KeyState;
use crate::LockKey;
use crate::Page;
use crate::Peek;
use crate::Release;
use crate::Result;
use crate::SharedBackend;
use crate::Watch;
use crate::WatchFor;
use crate::drift;

/// A request to one member.
pub(super) type Flight<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// How many requests a member may leave unanswered before it is sent no more attempts: one that hangs
/// must not fill the memory of its clients.
const LATE_MAX: usize = 1024;

/// Between two tries of a release.
const RETRY: Backoff =
    Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jittered();

/// The longest that one try of a release may take before it is sent anew.
const TRY: Duration = Duration::from_secs(1);

/// One member.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) backend: SharedBackend,
    clock: Clock,
    /// How long it does not count after a start with which it forgets; `None` if it counts at once.
    out_after_start: Option<Duration>,
    lanes: Lanes,
    late: AtomicUsize,
    silent: AtomicBool,
}

impl Node {
    pub(super) fn new(
        name: String,
        backend: SharedBackend,
        clock: Clock,
        out_after_start: Option<Duration>,
    ) -> Self {
        let (lanes, late, silent) = Default::default();
        Self { name, backend, clock, out_after_start, lanes, late, silent }
    }

    /// Sends an attempt. One whose grant comes after the others have settled the acquisition, with a
    /// fence in `settled`, takes that fence over before it gives up its turn.
    pub(super) fn attempt(
        self: &Arc<Self>,
        claim: &Claim,
        settled: &Arc<OnceLock<Fence>>,
    ) -> Flight<Attempt> {
        let (node, mut claim, settled) = (self.clone(), claim.clone(), settled.clone());
        let place = self.lanes.enter(claim.token, Purpose::Attempt);
        let inherits = place.inherits();
        self.flight(async move {
            let _turn = place.turn().await;
            let attempt = node.attempt_in_turn(&mut claim, &settled).await;
            // With a release that was not certain yet it may hold, whatever came of this attempt.
            attempt.map_err(|error| if inherits { error.ambiguous() } else { error })
        })
    }

    async fn attempt_in_turn(
        &self,
        claim: &mut Claim,
        settled: &OnceLock<Fence>,
    ) -> Result<Attempt> {
        self.check_crowd()?;
        let mut attempt = self.backend.attempt(claim).await?;
        claim.fence_floor = settled.get().copied();
        if is_behind(&attempt, claim.fence_floor) {
            attempt = self.backend.attempt(claim).await?;
        }
        // It may be granted all the same.
        self.check_memory().map_err(Error::ambiguous)?;
        Ok(attempt)
    }

    pub(super) fn release(self: &Arc<Self>, claim: &Claim) -> Flight<Release> {
        let place = self.lanes.enter(claim.token, Purpose::Release);
        let (node, claim) = (self.clone(), claim.clone());
        self.flight(async move {
            let _turn = place.turn().await;
            let released = node.backend.release(&claim).await?;
            // One that has forgotten what it held has not seen that it was lost.
            if released == Release::NotHeld {
                node.check_memory().map_err(Error::ambiguous)?;
            }
            Ok(released)
        })
    }

    /// Takes the next place in the lane of `claim`, to release for so long.
    pub(super) fn enter_to_release(&self, claim: &Claim, patience: Duration) -> Place {
        let once = patience.is_zero();
        self.lanes.enter(claim.token, if once { Purpose::Release } else { Purpose::Duty })
    }

    /// Releases until it is certain, until an attempt takes over, or until `patience` is over; `first` is a
    /// try that is under way.
    pub(super) async fn release_surely(
        self: Arc<Self>,
        first: Option<Flight<Release>>,
        place: Place,
        claim: Claim,
        patience: Duration,
    ) {
        if let Some(first) = first
            && self.tried(first).await.is_ok()
        {
            return;
        }
        let mut turn = place.turn().await;
        let give_up = self.clock.now() + patience;
        for delay in RETRY.delays() {
            let (node, claim) = (self.clone(), claim.clone());
            let release = self.flight(async move { node.backend.release(&claim).await });
            let Err(error) = self.tried(release).await else { return };
            if !error.is_retryable() || self.clock.now() + delay > give_up {
                tracing::debug!(member = self.name, %error, "release not confirmed: the TTL ends it");
                return;
            }
            tokio::select! {
                () = self.clock.sleep(delay) => {}
                () = turn.superseded() => return,
            }
        }
    }

    async fn tried(&self, release: Flight<Release>) -> Result<Release> {
        tokio::select! {
            biased;
            released = release => released,
            () = self.clock.sleep(TRY) => Err(no_answer(TRY)),
        }
    }

    pub(super) fn keep(self: &Arc<Self>, claims: Arc<[Claim]>) -> Flight<Vec<Kept>> {
        let node = self.clone();
        self.flight(async move {
            let kept = node.backend.keep(&claims).await?;
            node.check(kept, claims.len())
        })
    }

    pub(super) fn peek(self: &Arc<Self>, claims: Arc<[Claim]>) -> Flight<Vec<Peek>> {
        let node = self.clone();
        self.flight(async move {
            let peeks = node.backend.peek(&claims).await?;
            node.check(peeks, claims.len())
        })
    }

    pub(super) fn inspect(self: &Arc<Self>, key: &LockKey) -> Flight<KeyState> {
        let (node, key) = (self.clone(), key.clone());
        self.flight(async move {
            let state = node.backend.inspect(&key).await?;
            node.check_memory().map(|()| state)
        })
    }

    pub(super) fn list(
        self: &Arc<Self>,
        prefix: &str,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Flight<Page> {
        let (node, prefix) = (self.clone(), prefix.to_owned());
        self.flight(async move {
            let page = node.backend.list(&prefix, cursor, limit).await?;
            node.check_memory().map(|()| page)
        })
    }

    pub(super) fn evict(self: &Arc<Self>, key: &LockKey, how: Eviction) -> Flight<Evicted> {
        let (node, key) = (self.clone(), key.clone());
        self.flight(async move { node.backend.evict(&key, how).await })
    }

    pub(super) fn purge(self: &Arc<Self>) -> Flight<u64> {
        let node = self.clone();
        self.flight(async move { node.backend.purge().await })
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        claim: &Claim,
        reason: WatchFor,
        hint: Hint,
    ) -> Flight<Watch> {
        let (node, claim) = (self.clone(), claim.clone());
        self.flight(async move { node.backend.watch(&claim, reason, hint).await })
    }

    pub(super) fn close(self: &Arc<Self>) -> Flight<()> {
        let node = self.clone();
        self.flight(async move { node.backend.close().await })
    }

    /// Boxes a request; one that panics fails, for the others must not fall with it.
    fn flight<T: 'static>(
        self: &Arc<Self>,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Flight<T> {
        let (node, caught) = (self.clone(), AssertUnwindSafe(request).catch_unwind());
        Box::pin(async move {
            let answer = caught.await;
            // A failure may be no more than the end of a long silence.
            if let Ok(Ok(_)) = answer {
                node.silent.store(false, Ordering::Relaxed);
            }
            answer.unwrap_or_else(|_| Err(panicked()))
        })
    }

    /// Counts a request that nobody waits for.
    pub(super) fn late(self: &Arc<Self>) -> Late {
        self.late.fetch_add(1, Ordering::Relaxed);
        Late(self.clone())
    }

    /// Whether it has done nothing that was asked since a round ended without it.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    pub(super) fn fell_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    fn check_crowd(&self) -> Result<()> {
        if self.late.load(Ordering::Relaxed) < LATE_MAX {
            return Ok(());
        }
        let message = format!("{LATE_MAX} requests are unanswered, no more are sent");
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Refuses the answer of a member that may have forgotten what it granted.
    fn check_memory(&self) -> Result<()> {
        let since = self.backend.remembers_since();
        let Some((since, out)) = since.zip(self.out_after_start) else { return Ok(()) };
        let (now, counts_at) = (self.clock.now(), since + out + drift(out));
        if now >= counts_at {
            return Ok(());
        }
        let message = format!(
            "it started {:.1} s ago and may have forgotten locks that still live: it counts again in {:.1} s",
            now.saturating_since(since).as_secs_f64(),
            counts_at.saturating_since(now).as_secs_f64()
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    fn check<T>(&self, answers: Vec<T>, claims: usize) -> Result<Vec<T>> {
        if answers.len() != claims {
            let message = format!("it answered for {} of {claims} claims", answers.len());
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        self.check_memory().map(|()| answers)
    }
}

/// A request that nobody waits for, while it is under way.
pub(super) struct Late(Arc<Node>);

impl Late {
    pub(super) fn node(&self) -> &Node {
        &self.0
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.0.late.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_behind(attempt: &Attempt, settled: Option<Fence>) -> bool {
    match (attempt, settled) {
        (Attempt::Acquired { fence, .. }, Some(settled)) => *fence < settled,
        _ => false,
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Unavailable, "it panicked: a bug in its backend").ambiguous().permanent()
}

/// The failure of a member that has not answered in time.
pub(super) fn no_answer(budget: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("no answer within {budget:?}")).ambiguous()
}
