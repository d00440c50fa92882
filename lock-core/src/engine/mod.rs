//! The one implementation of [`LockProvider`]: all that is the same on every store.
//!
//! A lock call is an [`acquire`], which ends in a [`held::Held`]; its renewals are the [`keeper`]'s,
//! its deadlines the clock thread's, its end [`release`]'s. What no caller waits for runs in the
//! [`background`]. Everything decided by time is pure: [`term`], [`pace`].

mod acquire;
mod background;
mod call;
mod held;
mod keeper;
mod observe;
mod options;
mod pace;
mod place;
mod reentry;
mod release;
mod request;
mod slots;
mod term;
mod waiters;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

pub(crate) use self::held::Held;
pub use self::options::Background;
pub use self::options::EngineOptions;
pub(crate) use self::term::Phase;

use self::acquire::acquire;
use self::acquire::closed;
use self::background::Executor;
use self::keeper::Keeper;
use self::observe::Metrics;
use self::reentry::Reentry;
use self::request::Request;
use self::slots::Slots;
use self::waiters::Waiters;
use crate::Backend;
use crate::BootInstant;
use crate::Claim;
use crate::Clock;
use crate::Error;
use crate::ErrorKind;
use crate::Evicted;
use crate::Eviction;
use crate::Handle;
use crate::Kept;
use crate::KeyState;
use crate::LockGuard;
use crate::LockOptions;
use crate::LockProvider;
use crate::Owner;
use crate::Profile;
use crate::Release;
use crate::Result;
use crate::TryLock;
use crate::Wait;

/// How many keys one page of a listing holds.
const PAGE: usize = 500;

/// How often a request that only reads, or that may be repeated, is repeated after a failure.
const TRIES: usize = 3;

/// The engine over one backend. Cloning it shares it.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

/// What an engine's parts share.
pub(crate) struct Shared {
    backend: Arc<dyn Backend>,
    profile: Profile,
    options: EngineOptions,
    owner: Owner,
    executor: Executor,
    keeper: Keeper,
    slots: Slots,
    waiters: Waiters,
    reentry: Reentry,
    metrics: Metrics,
    closed: AtomicBool,
    closing: Notify,
}

impl Engine {
    /// Puts the engine over `backend`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the owner or the default TTL of `options` cannot be.
    pub fn new(backend: Arc<dyn Backend>, options: EngineOptions) -> Result<Self> {
        let executor = Executor::new(options.background.clone());
        Self::over(backend, options, executor)
    }

    /// Puts the engine over the backend that `connect` makes, with all of the backend's I/O on the
    /// engine's own thread, so that a blocked runtime of the caller loses no lock.
    ///
    /// # Errors
    ///
    /// What `connect` returned, and as for [`new`](Self::new).
    ///
    /// # Cancel safety
    ///
    /// The connection is closed in the background.
    pub async fn connect(
        connect: impl Future<Output = Result<Arc<dyn Backend>>> + Send + 'static,
        options: EngineOptions,
    ) -> Result<Self> {
        let executor = Executor::new(options.background.clone());
        let task = executor.runtime().spawn(connect);
        let backend = task.await.map_err(|failure| {
            Error::new(ErrorKind::Unavailable, "connecting was aborted").with_source(failure)
        })??;
        Self::over(backend, options, executor)
    }

    fn over(backend: Arc<dyn Backend>, options: EngineOptions, executor: Executor) -> Result<Self> {
        let mut profile = backend.profile().clone();
        profile.batch = profile.batch.max(1);
        let owner = match &options.owner {
            Some(name) => Owner::new(name)?,
            None => default_owner()?,
        };
        let shared = Shared {
            metrics: Metrics::new(profile.name),
            backend,
            profile,
            options,
            owner,
            executor,
            keeper: Keeper::new(),
            slots: Slots::default(),
            waiters: Waiters::new(),
            reentry: Reentry::default(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        };
        shared.parse_ttl(None)?;
        Ok(Self(Arc::new(shared)))
    }

    #[tracing::instrument(
        name = "lock",
        level = "debug",
        skip_all,
        fields(backend = self.0.profile.name, key, owner, fence)
    )]
    async fn acquire(&self, key: &str, options: &LockOptions, wait: &Wait) -> Result<TryLock> {
        // No time at all would not even do for the answer to one attempt.
        let none = *wait == Wait::For(Duration::ZERO);
        let wait = if none { &Wait::Never } else { wait };
        let waits = *wait != Wait::Never;
        let request = Request::parse(&self.0, key, options, waits)?;
        self.0.check_open()?;
        let span = tracing::Span::current();
        span.record("key", key).record("owner", request.claim.owner.as_str());
        let outcome = acquire(&self.0, request, wait).await?;
        if let TryLock::Acquired(guard) = &outcome {
            span.record("fence", guard.fence().get());
        }
        Ok(outcome)
    }

    /// The claim of a handle, as this provider would have made it.
    fn claim_of(&self, handle: &Handle, ttl: Duration) -> Result<Claim> {
        let mut claim = Claim::new(self.0.parse_key(&handle.key)?, handle.owner.clone(), ttl);
        claim.token = handle.token;
        claim.mode = handle.mode;
        Ok(claim)
    }

    async fn renew_handle(&self, handle: &Handle, hold_for: Duration) -> Result<Duration> {
        self.0.check_open()?;
        let ttl = self.0.parse_ttl(Some(hold_for))?;
        let claims = [self.claim_of(handle, ttl)?];
        let keep = || self.0.backend.keep(&claims);
        let kept = self.0.repeated("renew", keep).await?;
        match self.0.expect_answers(kept, 1)?[0] {
            Kept::Renewed { lease } => {
                let until = lease.valid_until(self.0.profile.granularity);
                Ok(until.saturating_since(self.0.now()))
            }
            Kept::Queued { .. } | Kept::Gone => Err(not_held()),
        }
    }

    async fn release_handle(&self, handle: &Handle) -> Result<()> {
        self.0.check_open()?;
        let claim = self.claim_of(handle, self.0.options.ttl)?;
        match release::release_patiently(&self.0, &claim).await? {
            Release::Released => Ok(()),
            Release::NotHeld => Err(not_held()),
        }
    }

    async fn status_of(&self, key: &str) -> Result<KeyState> {
        self.0.check_open()?;
        let key = self.0.parse_key(key)?;
        let mut state = self.0.repeated("status", || self.0.backend.inspect(&key)).await?;
        state.key = self.0.strip(&state.key).to_owned();
        Ok(state)
    }

    async fn list_all(&self, prefix: &str) -> Result<Vec<KeyState>> {
        self.0.check_open()?;
        let prefix = [self.0.options.prefix.as_str(), prefix].concat();
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let list = || self.0.backend.list(&prefix, cursor.clone(), PAGE);
            let page = self.0.repeated("list", list).await?;
            all.extend(page.items.into_iter().map(|mut state| {
                state.key = self.0.strip(&state.key).to_owned();
                state
            }));
            if page.next.is_none() {
                return Ok(all);
            }
            cursor = page.next;
        }
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Unavailable, "the backend panicked: a bug in it").ambiguous().permanent()
}

fn not_held() -> Error {
    Error::new(ErrorKind::NotHeld, "the handle holds nothing: released, expired or taken away")
}

/// `host:pid`, for people who look for a holder.
fn default_owner() -> Result<Owner> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Owner::new(&format!("{host}:{}", std::process::id()))
}

impl Shared {
    pub(crate) fn clock(&self) -> &Clock {
        &self.options.clock
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.options.clock.now()
    }

    /// The key as the caller wrote it.
    pub(crate) fn strip<'a>(&self, full: &'a str) -> &'a str {
        full.strip_prefix(self.options.prefix.as_str()).unwrap_or(full)
    }

    pub(crate) fn stamp(&self, error: Error, operation: &'static str, key: Option<&str>) -> Error {
        error.in_context(operation, self.profile.name, key)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    /// Completes when the provider begins to shut down.
    pub(crate) async fn closing(&self) {
        loop {
            let closing = self.closing.notified();
            tokio::pin!(closing);
            closing.as_mut().enable();
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            closing.await;
        }
    }

    pub(crate) fn no_answer(&self) -> Error {
        let limit = self.options.operation_timeout;
        Error::new(ErrorKind::Unavailable, format!("the store gave no answer within {limit:?}"))
            .ambiguous()
    }

    /// Bounds one request by the operation's time limit and says what it was. A backend that panics
    /// fails: it must not end the task that keeps all other locks.
    pub(crate) async fn limited<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.limited_to(self.options.operation_timeout, operation, request).await
    }

    pub(crate) async fn limited_to<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = limit.min(self.options.operation_timeout);
        let request = AssertUnwindSafe(request).catch_unwind();
        let answer = tokio::select! {
            biased;
            answer = request => answer.unwrap_or_else(|_| Err(panicked())),
            () = self.options.clock.sleep(limit) => Err(self.no_answer()),
        };
        answer.map_err(|error| self.stamp(error, operation, None))
    }

    /// Repeats a request that may be repeated while its failures are of the passing kind.
    async fn repeated<T, F>(&self, operation: &'static str, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut pace = pace::Pace::new(&Wait::Never, self.now());
        for _ in 1..TRIES {
            match self.limited(operation, request()).await {
                Err(error) if error.is_retryable() => {
                    let Some(at) = pace.next_retry(self.now()) else { return Err(error) };
                    self.options.clock.sleep_until(at).await;
                }
                answer => return answer,
            }
        }
        self.limited(operation, request()).await
    }

    pub(crate) fn expect_answers(&self, kept: Vec<Kept>, claims: usize) -> Result<Vec<Kept>> {
        if kept.len() == claims {
            return Ok(kept);
        }
        let message = format!("the backend answered for {} of {claims} claims", kept.len());
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// Releases a claim in the background, until it is certain.
    pub(crate) fn release_later(self: &Arc<Self>, claim: Claim) {
        self.executor.spawn_debt(release::release_surely(self.clone(), claim));
    }

    /// Begins to shut down: no new calls, no waits, no holds.
    fn begin_close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        self.waiters.wake_all();
        for held in self.keeper.holds() {
            held.close();
        }
    }

    async fn finish_close(self: Arc<Self>, timeout: Duration) -> Result<()> {
        let settled = tokio::select! {
            biased;
            () = self.executor.settled() => true,
            () = self.options.clock.sleep(timeout) => false,
        };
        let unpaid = self.executor.debts();
        self.limited_to(timeout.max(Duration::from_secs(1)), "shutdown", self.backend.close())
            .await?;
        if settled {
            return Ok(());
        }
        let message =
            format!("{unpaid} releases are not confirmed after {timeout:?}; TTLs end them");
        Err(Error::new(ErrorKind::Timeout, message))
    }
}

/// Ends the tasks that wait for something to do.
impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.look_again();
        self.waiters.wake_all();
    }
}

#[async_trait]
impl LockProvider for Engine {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn lock(&self, key: &str, options: &LockOptions) -> Result<LockGuard> {
        let wait = options.wait.as_ref().unwrap_or(&self.0.options.wait);
        let outcome = match self.acquire(key, options, wait).await {
            Ok(TryLock::Acquired(guard)) => Ok(guard),
            Ok(TryLock::Held(holders)) => {
                let message = "somebody else holds the lock";
                Err(Error::new(ErrorKind::Held, message).with_holders(holders))
            }
            Err(error) => Err(error),
        };
        outcome.map_err(|error| self.0.stamp(error, "lock", Some(key)))
    }

    async fn try_lock(&self, key: &str, options: &LockOptions) -> Result<TryLock> {
        let outcome = self.acquire(key, options, &Wait::Never).await;
        outcome.map_err(|error| self.0.stamp(error, "try_lock", Some(key)))
    }

    async fn unlock(&self, guard: LockGuard) -> Result<()> {
        guard.unlock().await
    }

    async fn extend(&self, guard: &LockGuard, ttl: Duration) -> Result<()> {
        guard.extend(ttl).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        Ok(self.status(key).await?.is_locked())
    }

    async fn status(&self, key: &str) -> Result<KeyState> {
        self.status_of(key).await.map_err(|error| self.0.stamp(error, "status", Some(key)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KeyState>> {
        self.list_all(prefix).await.map_err(|error| self.0.stamp(error, "list", None))
    }

    async fn force_unlock(&self, key: &str, how: Eviction) -> Result<Evicted> {
        let evict = async {
            self.0.check_open()?;
            let key = self.0.parse_key(key)?;
            // Not repeated: after a lost reply it could hit the next holder.
            let evict = self.0.backend.evict(&key, how);
            let evicted = self.0.limited("force_unlock", evict).await?;
            self.0.waiters.wake_key(&key);
            Ok(evicted)
        };
        evict.await.map_err(|error: Error| self.0.stamp(error, "force_unlock", Some(key)))
    }

    async fn cleanup_expired(&self) -> Result<u64> {
        let purge = async {
            self.0.check_open()?;
            self.0.repeated("cleanup_expired", || self.0.backend.purge()).await
        };
        purge.await.map_err(|error| self.0.stamp(error, "cleanup_expired", None))
    }

    async fn renew(&self, handle: &Handle, hold_for: Duration) -> Result<Duration> {
        let renewed = self.renew_handle(handle, hold_for).await;
        renewed.map_err(|error| self.0.stamp(error, "renew", Some(&handle.key)))
    }

    async fn release(&self, handle: &Handle) -> Result<()> {
        let released = self.release_handle(handle).await;
        released.map_err(|error| self.0.stamp(error, "release", Some(&handle.key)))
    }

    async fn shutdown(&self, timeout: Duration) -> Result<()> {
        self.0.begin_close();
        let finish = self.0.clone().finish_close(timeout);
        let task = self.0.executor.runtime().spawn(finish);
        let outcome = task.await.unwrap_or_else(|_| Ok(()));
        outcome.map_err(|error| self.0.stamp(error, "shutdown", None))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.0.profile.name)
            .field("prefix", &self.0.options.prefix)
            .field("keeper", &self.0.keeper)
            .finish_non_exhaustive()
    }
}
