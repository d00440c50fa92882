//! What the parts of an engine share, and how each request to the store is made.

use std::future::Future;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::acquire::closed;
use super::background::Executor;
use super::limits::Limits;
use super::observe::Metrics;
use super::options::EngineOptions;
use super::pace::Pace;
use super::reentry::Reentry;
use super::register::Register;
use super::release;
use super::slots::Slots;
use super::waiters::Waiters;
use crate::Backend;
use crate::BootInstant;
use crate::Claim;
use crate::Clock;
use crate::Error;
use crate::ErrorKind;
use crate::Kept;
use crate::Owner;
use crate::Profile;
use crate::Result;
use crate::Wait;
use crate::sync::Notify;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering;

/// What an engine's parts share.
pub(crate) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) profile: Profile,
    pub(super) options: EngineOptions,
    pub(super) owner: Owner,
    pub(super) executor: Executor,
    pub(super) register: Register,
    pub(super) slots: Slots,
    pub(super) waiters: Waiters,
    pub(super) reentry: Reentry,
    pub(super) metrics: Metrics,
    /// Those of whole operations.
    pub(super) limits: Limits,
    closed: AtomicBool,
    closing: Notify,
}

impl Shared {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        options: EngineOptions,
        executor: Executor,
    ) -> Result<Self> {
        let mut profile = backend.profile().clone();
        profile.batch = profile.batch.max(1);
        let owner = match &options.owner {
            Some(name) => Owner::new(name)?,
            None => default_owner()?,
        };
        let shared = Self {
            metrics: Metrics::new(profile.name),
            limits: Limits::new(options.clock.clone(), options.operation_timeout),
            backend,
            profile,
            options,
            owner,
            executor,
            register: Register::new(),
            slots: Slots::default(),
            waiters: Waiters::new(),
            reentry: Reentry::default(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        };
        let ttl = shared.parse_ttl(None)?;
        shared.profile.check_validity(ttl)?;
        Ok(shared)
    }

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

    /// Completes when it is polled after the provider has begun to shut down, and wakes nobody for it.
    pub(super) fn is_closing(&self) -> impl Future<Output = ()> {
        poll_fn(|_| match self.closed.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    /// What a request is told that had all the time of an operation.
    pub(crate) fn no_answer(&self) -> Error {
        no_answer_within(self.options.operation_timeout)
    }

    /// Bounds one request by the operation's time limit and says what it was. A backend that panics
    /// fails: it must not end the task that keeps all other locks.
    pub(crate) fn limited<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        let too_late = async {
            self.limits.begin(self.now()).await;
            self.no_answer()
        };
        self.bounded(operation, request, too_late)
    }

    /// The same for a request with a limit of its own, if that is shorter.
    pub(crate) fn limited_to<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        let limit = limit.min(self.options.operation_timeout);
        let too_late = async move {
            self.options.clock.sleep(limit).await;
            no_answer_within(limit)
        };
        self.bounded(operation, request, too_late)
    }

    /// No clock is read and no timer set for a request that is answered at once.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
        too_late: impl Future<Output = Error>,
    ) -> Result<T> {
        let request = AssertUnwindSafe(request).catch_unwind();
        let answer = tokio::select! {
            biased;
            answer = request => answer.unwrap_or_else(|_| Err(panicked())),
            error = too_late => Err(error),
        };
        answer.map_err(|error| self.stamp(error, operation, None))
    }

    /// Repeats a request that may be repeated while its failures are of the passing kind.
    pub(super) async fn repeated<T, F>(
        &self,
        operation: &'static str,
        request: impl Fn() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut pace = self.pace(&Wait::Never, self.now());
        loop {
            match self.limited(operation, request()).await {
                Err(error) if error.is_retryable() => {
                    let Some(at) = pace.next_retry(self.now()) else { return Err(error) };
                    self.options.clock.sleep_until(at).await;
                }
                answer => return answer,
            }
        }
    }

    pub(super) fn pace(&self, wait: &Wait, now: BootInstant) -> Pace {
        Pace::new(wait, now, self.options.operation_timeout)
    }

    pub(crate) fn expect_answers(&self, kept: Vec<Kept>, claims: usize) -> Result<Vec<Kept>> {
        if kept.len() == claims {
            let unknown = claims > 0 && kept.iter().all(|kept| *kept == Kept::Unknown);
            return if unknown { Err(self.no_answer()) } else { Ok(kept) };
        }
        let message = format!("the backend answered for {} of {claims} claims", kept.len());
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// Releases a claim in the background, until it is certain.
    pub(crate) fn release_later(self: &Arc<Self>, claim: Claim) {
        self.executor.spawn_debt(release::release_surely(self.clone(), claim));
    }

    /// Begins to shut down: no new calls, no waits, no holds.
    pub(super) fn begin_close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        self.limits.wake_all();
        self.waiters.wake_all();
        for held in self.register.holds() {
            held.close();
        }
    }

    pub(super) async fn finish_close(self: Arc<Self>, timeout: Duration) -> Result<()> {
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
        let message = match unpaid {
            1 => format!("1 release is not confirmed after {timeout:?}: the TTL ends the lock"),
            n => format!("{n} releases are not confirmed after {timeout:?}: TTLs end the locks"),
        };
        Err(Error::new(ErrorKind::Timeout, message))
    }
}

fn no_answer_within(limit: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the store gave no answer within {limit:?}"))
        .ambiguous()
}

fn panicked() -> Error {
    Error::new(ErrorKind::Unavailable, "the backend panicked: a bug in it").ambiguous().permanent()
}

/// `host:pid`, for people who look for a holder.
fn default_owner() -> Result<Owner> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Owner::new(&format!("{host}:{}", std::process::id()))
}

/// Ends the tasks that wait for something to do.
impl Drop for Shared {
    fn drop(&mut self) {
        self.register.look_again();
        self.register.close(self.clock());
        self.waiters.wake_all();
    }
}
