//! Conveniences over any provider.

use std::future::Future;

use crate::Error;
use crate::ErrorKind;
use crate::Hold;
use crate::Holder;
use crate::LockGuard;
use crate::LockOptions;
use crate::LockProvider;
use crate::Result;
use crate::TryLock;
use crate::Wait;

/// What came of [`LockProviderExt::run_or_skip`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a skipped run did nothing"]
#[expect(clippy::exhaustive_enums, reason = "a run is either done or skipped")]
pub enum Run<T> {
    /// The body ran under the lock, which held to the end.
    Done(T),
    /// Somebody else holds the lock; the body did not run.
    Skipped(Holder),
}

/// Conveniences over any [`LockProvider`]; implemented for all of them.
pub trait LockProviderExt: LockProvider {
    /// Runs `body` under the lock and stops it, by dropping its future, when the lock is lost.
    ///
    /// `body` gets a [`Hold`], for the fence and for [`at_risk`](Hold::at_risk). The lock is released
    /// when it ends.
    ///
    /// # Errors
    ///
    /// What `body` returned, always; otherwise what [`LockProvider::lock`] or
    /// [`LockGuard::unlock`] returned, or `Lost` when the body was stopped.
    ///
    /// # Cancel safety
    ///
    /// The body is dropped first, then the lock is released in the background.
    fn with_lock<T, E, F, Fut>(
        &self,
        key: &str,
        options: &LockOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send,
        E: From<Error> + Send,
        F: FnOnce(Hold) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        async move { run(self.lock(key, options).await?, body).await }
    }

    /// Runs `body` like [`with_lock`](Self::with_lock) if the lock can be had, and skips it if
    /// somebody else has it. Waits only if the options say so.
    ///
    /// # Errors
    ///
    /// As for [`with_lock`](Self::with_lock), but contention is [`Run::Skipped`].
    ///
    /// # Cancel safety
    ///
    /// As for [`with_lock`](Self::with_lock).
    fn run_or_skip<T, E, F, Fut>(
        &self,
        key: &str,
        options: &LockOptions,
        body: F,
    ) -> impl Future<Output = Result<Run<T>, E>> + Send
    where
        T: Send,
        E: From<Error> + Send,
        F: FnOnce(Hold) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        async move {
            match acquire(self, key, options).await? {
                TryLock::Acquired(guard) => run(guard, body).await.map(Run::Done),
                TryLock::Held(holders) => {
                    Ok(Run::Skipped(holders.into_iter().next().unwrap_or_default()))
                }
            }
        }
    }
}

impl<P: LockProvider + ?Sized> LockProviderExt for P {}

async fn acquire<P>(provider: &P, key: &str, options: &LockOptions) -> Result<TryLock>
where
    P: LockProvider + ?Sized,
{
    if matches!(options.wait, None | Some(Wait::Never)) {
        return provider.try_lock(key, options).await;
    }
    match provider.lock(key, options).await {
        Ok(guard) => Ok(TryLock::Acquired(guard)),
        Err(error) if matches!(error.kind(), ErrorKind::Held | ErrorKind::Timeout) => {
            Ok(TryLock::Held(error.holders().to_vec()))
        }
        Err(error) => Err(error),
    }
}

async fn run<T, E, F, Fut>(guard: LockGuard, body: F) -> Result<T, E>
where
    E: From<Error>,
    F: FnOnce(Hold) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let hold = guard.hold();
    let output = tokio::select! {
        biased;
        reason = hold.lost() => return Err(hold.lost_error(reason).into()),
        output = body(guard.hold()) => output,
    };
    // The body's own error comes before anything the release may say (G7).
    let unlocked = guard.unlock().await;
    let output = output?;
    unlocked?;
    Ok(output)
}
