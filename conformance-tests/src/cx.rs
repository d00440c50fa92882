//! What a case gets to work with.

use std::env;
use std::fmt::Debug;
use std::num::NonZeroU32;
use std::panic::Location;
use std::slice;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LeaseKind;
use lock_core::LockGuard;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Profile;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_core::TryLock;
use lock_core::Wakeup;

use crate::Failure;
use crate::Fault;
use crate::Fixture;
use crate::Link;
use crate::Outcome;
use crate::Tap;

/// How late anything may be on a busy machine.
pub(crate) const SLACK: Duration = ms(300);

/// How much later than it told a store may end a lease on a busy machine.
const LAG: Duration = ms(30);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn now() -> BootInstant {
    Clock::system().now()
}

/// Sleeps on the clock that leases run on.
pub(crate) async fn sleep(duration: Duration) {
    Clock::system().sleep(duration).await;
}

pub(crate) async fn sleep_until(at: BootInstant) {
    Clock::system().sleep_until(at).await;
}

/// What users of the store see.
pub(crate) type Provider = Arc<dyn LockProvider>;

/// The store, in a namespace of the case's own.
#[derive(Clone)]
pub struct Cx {
    fixture: Arc<dyn Fixture>,
    namespace: Arc<str>,
}

impl Cx {
    pub(crate) fn new(fixture: Arc<dyn Fixture>, namespace: &str) -> Self {
        Self { fixture, namespace: namespace.into() }
    }

    pub(crate) fn fixture(&self) -> &dyn Fixture {
        &*self.fixture
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Connects a client of its own.
    pub(crate) async fn client(&self) -> Outcome<SharedBackend> {
        Ok(self.fixture.connect(&self.namespace).await?)
    }

    /// Connects a client whose calls are counted and can be disturbed.
    pub(crate) async fn tapped(&self) -> Outcome<Arc<Tap>> {
        Ok(Arc::new(Tap::new(self.client().await?)))
    }

    /// Puts an engine over a new client.
    pub(crate) async fn engine(&self) -> Outcome<Provider> {
        self.engine_over(self.client().await?)
    }

    pub(crate) fn engine_over(&self, backend: SharedBackend) -> Outcome<Provider> {
        Ok(self.fixture.provider(Engine::new(backend, self.options())?))
    }

    /// Lets an engine connect by itself, so that all I/O is on its own thread.
    pub(crate) async fn connected(&self) -> Outcome<Provider> {
        let cx = self.clone();
        let connect = async move { cx.fixture.connect(&cx.namespace).await };
        Ok(self.fixture.provider(Engine::connect(connect, self.options()).await?))
    }

    fn options(&self) -> EngineOptions {
        self.fixture.options(EngineOptions::new().prefix(&*self.namespace))
    }

    /// Puts an engine over a link that can be disturbed.
    pub(crate) async fn proxied(&self) -> Outcome<(Provider, Arc<dyn Link>)> {
        let (backend, link) = self.fixture.proxied(&self.namespace).await?;
        Ok((self.engine_over(backend)?, link))
    }

    pub(crate) async fn fault(&self, fault: Fault) -> Outcome {
        self.fixture.fault(&self.namespace, fault).await.map_err(Failure::skipped)
    }

    /// Returns the full name of the case's key `name`.
    pub(crate) fn key(&self, name: &str) -> LockKey {
        LockKey::prefixed(&self.namespace, name).expect("the keys of cases are valid")
    }

    /// Returns a claim with a TTL that no case outlives.
    pub(crate) fn claim(&self, name: &str) -> Claim {
        self.claim_for(name, Duration::from_secs(60))
    }

    pub(crate) fn claim_for(&self, name: &str, ttl: Duration) -> Claim {
        let owner = Owner::new("suite").expect("a valid owner");
        Claim::new(self.key(name), owner, ttl)
    }

    /// Returns a claim of `mode` with a TTL that no case outlives.
    pub(crate) fn claim_in(&self, name: &str, mode: Mode) -> Claim {
        let mut claim = self.claim(name);
        claim.mode = mode;
        claim
    }

    pub(crate) fn reader(&self, name: &str) -> Claim {
        self.claim_in(name, Mode::Shared)
    }

    pub(crate) fn in_line(&self, name: &str) -> Claim {
        let mut claim = self.claim(name);
        claim.queue = true;
        claim
    }

    /// Returns a short TTL that the store of `client` can run, with room for a busy machine.
    pub(crate) fn ttl(&self, client: &dyn Backend) -> Duration {
        client.profile().ttl_min.max(ms(500)) + client.profile().granularity
    }

    /// Whether an attempt that returned `again` repeats one that returned `first`.
    pub(crate) fn repeats(&self, first: Fence, again: Fence) -> bool {
        again == first || (again > first && !self.fixture.repeats_fences())
    }

    /// Waits until the store has noticed that all but `left` holders of `key` are dead.
    pub(crate) async fn rid_of(&self, client: &dyn Backend, key: &LockKey, left: usize) -> Outcome {
        settled(client, key, SLACK, |state| state.holders.len() == left).await
    }

    /// Ends the hold of a client that is heard of no more: waits for the lease, or ends the session.
    pub(crate) async fn lapse(&self, client: &dyn Backend, key: &LockKey, lease: Lease) -> Outcome {
        match client.profile().lease {
            LeaseKind::Session => {
                self.client().await?.evict(key, Eviction::EndSession).await?;
            }
            _ => {
                // The lease counts from before the request was sent, the store from when it came.
                sleep_until(lease.since + lease.ttl + LAG).await;
                free(client, key, SLACK).await?;
            }
        }
        Ok(())
    }
}

/// Ends one client as a crash does: ends its session, or waits for the lease of what it holds.
pub(crate) async fn dies(client: &dyn Backend, lease: Lease) -> Outcome {
    match client.profile().lease {
        LeaseKind::Session => client.close().await?,
        _ => sleep_until(lease.since + lease.ttl).await,
    }
    Ok(())
}

/// Returns the mode in which `of` may hold at once.
pub(crate) fn permits(of: u32) -> Mode {
    Mode::Permits { of: NonZeroU32::new(of).expect("cases ask for one permit at least") }
}

/// Whether the long forms of cases are to run.
pub(crate) fn in_full() -> bool {
    env::var_os("LOCK_TEST_FULL").is_some()
}

/// Shows figures of a case where somebody looks for them.
pub(crate) fn tell(figures: &str) {
    if in_full() || env::args().any(|argument| argument == "--nocapture") {
        println!("{figures}");
    }
}

pub(crate) fn opts() -> LockOptions {
    LockOptions::new()
}

/// Locks, with patience.
#[track_caller]
pub(crate) fn lock(
    engine: &Provider,
    key: &str,
    options: LockOptions,
) -> impl Future<Output = Outcome<LockGuard>> {
    blaming_caller(async move {
        let options = if options.wait.is_none() { options.wait(ms(10_000)) } else { options };
        Ok(engine.lock(key, &options).await?)
    })
}

/// Tries and must find the key held.
#[track_caller]
pub(crate) fn excluded(engine: &Provider, key: &str) -> impl Future<Output = Outcome> {
    blaming_caller(async move {
        match engine.try_lock(key, &opts()).await? {
            TryLock::Held(_) => Ok(()),
            TryLock::Acquired(guard) => Err(Failure::new(format!("a second guard: {guard:?}"))),
        }
    })
}

/// Blames the line that called the caller, which is that of a case, for what fails in `step`.
#[track_caller]
fn blaming_caller<T>(step: impl Future<Output = Outcome<T>>) -> impl Future<Output = Outcome<T>> {
    let line = Location::caller();
    async move { step.await.map_err(|failure| failure.at(line)) }
}

/// Takes the error that a call must end with.
#[track_caller]
pub(crate) fn failed<T: Debug>(result: Result<T>, kind: ErrorKind) -> Outcome<Error> {
    match result {
        Err(error) if error.kind() == kind => Ok(error),
        other => Err(Failure::new(format!("expected {kind:?}, got {other:?}"))),
    }
}

/// Within what time a waiter has to get a key that became free.
pub(crate) fn wake_bound(profile: &Profile) -> Duration {
    if profile.wakeup == Wakeup::Push { SLACK } else { profile.poll.max + SLACK }
}

/// Attempts and must succeed.
#[track_caller]
pub(crate) fn granted(attempt: Attempt) -> Outcome<(Fence, Lease)> {
    match attempt {
        Attempt::Acquired { fence, lease } => Ok((fence, lease)),
        held @ Attempt::Held { .. } => Err(Failure::new(format!("not acquired: {held:?}"))),
    }
}

#[track_caller]
pub(crate) fn acquire(
    client: &dyn Backend,
    claim: &Claim,
) -> impl Future<Output = Outcome<(Fence, Lease)>> {
    blaming_caller(async move { granted(client.attempt(claim).await?) })
}

/// Keeps one claim.
#[track_caller]
pub(crate) fn keep(client: &dyn Backend, claim: &Claim) -> impl Future<Output = Outcome<Kept>> {
    blaming_caller(async move {
        let kept = client.keep(slice::from_ref(claim)).await?;
        match kept[..] {
            [kept] => Ok(kept),
            _ => Err(Failure::new(format!("one claim was kept as {kept:?}"))),
        }
    })
}

/// Attempts and must find the key held.
#[track_caller]
pub(crate) fn refused(client: &dyn Backend, claim: &Claim) -> impl Future<Output = Outcome> {
    blaming_caller(async move {
        match client.attempt(claim).await? {
            Attempt::Held { .. } => Ok(()),
            Attempt::Acquired { fence, .. } => {
                Err(Failure::new(format!("{} was granted a second time, fence {fence}", claim.key)))
            }
        }
    })
}

/// Repeats `attempt` until it succeeds, and fails if that takes longer than `bound`.
#[track_caller]
pub(crate) fn acquired_within(
    client: &dyn Backend,
    claim: &Claim,
    bound: Duration,
) -> impl Future<Output = Outcome<(Fence, Lease)>> {
    blaming_caller(async move {
        let until = now() + bound;
        loop {
            if let Attempt::Acquired { fence, lease } = client.attempt(claim).await? {
                return Ok((fence, lease));
            }
            if now() > until {
                return Err(Failure::new(format!(
                    "{} was not granted within {bound:?}",
                    claim.key
                )));
            }
            sleep(ms(5)).await;
        }
    })
}

/// Waits until nobody holds `key` or stands in its line.
#[track_caller]
pub(crate) fn free(
    client: &dyn Backend,
    key: &LockKey,
    bound: Duration,
) -> impl Future<Output = Outcome> {
    blaming_caller(async move {
        settled(client, key, bound, |state| !state.is_locked() && state.waiting == 0).await
    })
}

/// Waits until the store says of `key` what it should.
#[track_caller]
pub(crate) fn settled(
    client: &dyn Backend,
    key: &LockKey,
    bound: Duration,
    good: impl Fn(&KeyState) -> bool,
) -> impl Future<Output = Outcome> {
    blaming_caller(async move {
        let until = now() + bound;
        loop {
            let state = client.inspect(key).await?;
            if good(&state) {
                return Ok(());
            }
            if now() > until {
                return Err(Failure::new(format!("after {bound:?} still {state:?}")));
            }
            sleep(ms(5)).await;
        }
    })
}

/// Polls `future` at most `polls` times, each time it is woken, and drops it then.
pub(crate) async fn drop_after<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits for `future` and fails if it takes longer than `bound`.
#[track_caller]
pub(crate) fn within<T>(
    bound: Duration,
    future: impl Future<Output = T>,
) -> impl Future<Output = Outcome<T>> {
    blaming_caller(async move {
        match tokio::time::timeout(bound, future).await {
            Ok(output) => Ok(output),
            Err(_) => Err(Failure::new(format!("took longer than {bound:?}"))),
        }
    })
}
