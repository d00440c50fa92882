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
use crate::elect::elect;

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

    /// Contends for `key` and runs `body` while this candidate leads, as often as it takes.
    ///
    /// When leadership is lost, the body is stopped by dropping its future, and the candidate contends
    /// again. The election ends when a body ends while it leads; the key is released at once then, so
    /// that the next candidate takes over. A candidate waits for ever unless the options say otherwise.
    ///
    /// A leader is never the only one for certain: it can be paused right before a write, lose its key, and
    /// write after its successor. **Send the fence with each write**, so that the resource refuses that one.
    ///
    /// ```
    /// # use std::sync::Mutex;
    /// use lock_core::{Error, ErrorKind, Fence, Hold, LockOptions, LockProvider, LockProviderExt, Result};
    ///
    /// /// The resource keeps the highest fence it has seen.
    /// #[derive(Default)]
    /// struct Ledger(Mutex<(Option<Fence>, Vec<String>)>);
    ///
    /// impl Ledger {
    ///     fn write(&self, entry: &str, fence: Fence) -> Result<()> {
    ///         let mut ledger = self.0.lock().expect("nobody panics");
    ///         if ledger.0 > Some(fence) {
    ///             return Err(Error::new(ErrorKind::Lost, "a later leader has written"));
    ///         }
    ///         *ledger = (Some(fence), [&ledger.1[..], &[entry.to_owned()]].concat());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// async fn serve(locks: &dyn LockProvider, ledger: &Ledger) -> Result<()> {
    ///     let lead = |hold: Hold| async move { ledger.write("billed", hold.fence()) };
    ///     locks.elect("billing", &LockOptions::new(), lead).await
    /// }
    /// # use std::sync::Arc;
    /// # use lock_core::{Engine, EngineOptions};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// # let store = lock_memory::Memory::connect(&lock_memory::Config::private());
    /// # let locks = Engine::new(Arc::new(store), EngineOptions::new())?;
    /// # let ledger = Ledger::default();
    /// # serve(&locks, &ledger).await?;
    /// # assert_eq!(ledger.0.lock().unwrap().1, ["billed"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// - A body is stopped at its next await only: one that computes for long must ask
    ///   [`Hold::check`] in between. An error that it returns once leadership is lost is taken for
    ///   having noticed, and the candidate contends again.
    /// - Dropping the body does not stop what it has spawned; a `JoinSet` inside it does.
    /// - An owner named in the options may re-enter: two candidates of one provider with the same owner
    ///   lead together. To give each process a name, name the owner of the provider.
    /// - With `max_hold` leadership goes round; with permits there are several leaders.
    ///
    /// # Errors
    ///
    /// As for [`with_lock`](Self::with_lock), except that a loss ends nothing. A failure of the store that
    /// may pass does not end the election either: while the candidate waits, the request is repeated with
    /// growing pauses of up to a second. `Held` or `Timeout` if a wait that the options limit is over;
    /// it begins anew each time the candidate contends.
    ///
    /// # Cancel safety
    ///
    /// The body is dropped first, then the candidate steps down in the background.
    fn elect<T, E, F, Fut>(
        &self,
        key: &str,
        options: &LockOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send,
        E: From<Error> + Send,
        F: FnMut(Hold) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        elect(self, key, options, body)
    }

    /// Tells who leads the election of `key` now, as far as the store can tell. A snapshot: it may be
    /// over at once.
    ///
    /// # Errors
    ///
    /// As for [`LockProvider::status`].
    ///
    /// # Cancel safety
    ///
    /// Reads only; dropping it changes nothing.
    fn leader(&self, key: &str) -> impl Future<Output = Result<Option<Holder>>> + Send {
        async move { Ok(self.status(key).await?.holders.into_iter().next()) }
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
    finish(guard, output).await
}

/// Releases the lock of a body that has ended.
pub(crate) async fn finish<T, E>(guard: LockGuard, output: Result<T, E>) -> Result<T, E>
where
    E: From<Error>,
{
    // The body's own error comes before anything the release may say (G7).
    let unlocked = guard.unlock().await;
    let output = output?;
    unlocked?;
    Ok(output)
}
