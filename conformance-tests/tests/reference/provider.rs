//! A provider around the engine that breaks what the engine promises.

use std::fmt;
use std::time::Duration;

use conformance_tests::async_trait;
use lock_core::Clock;
use lock_core::Engine;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Handle;
use lock_core::KeyState;
use lock_core::LockGuard;
use lock_core::LockGuards;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_core::Profile;
use lock_core::Renew;
use lock_core::Result;
use lock_core::TryLock;
use lock_core::Wait;

use super::Flaw;
use super::many;

/// An engine with a flaw.
pub(crate) struct FlawedProvider {
    engine: Engine,
    flaw: Flaw,
}

impl FlawedProvider {
    pub(crate) fn new(engine: Engine, flaw: Flaw) -> Self {
        Self { engine, flaw }
    }

    fn changed(&self, options: &LockOptions) -> LockOptions {
        let mut options = options.clone();
        match self.flaw {
            Flaw::FairIgnored => options.fair = false,
            Flaw::NeverRenews => options.renew = Renew::Never,
            Flaw::AlwaysRenews => options.renew = Renew::UntilReleased,
            Flaw::GraceIgnored => options.grace = None,
            Flaw::MaxHoldIgnored => options.max_hold = None,
            Flaw::MinHoldIgnored => options.min_hold = Duration::ZERO,
            Flaw::OwnerIgnored => options.owner = None,
            Flaw::OwnerForAll => options.owner = Some("everybody".into()),
            Flaw::ModesIgnored | Flaw::AllExclusive => options.mode = Mode::Exclusive,
            _ => options.wait = options.wait.map(|wait| self.wait(wait)),
        }
        options
    }

    fn wait(&self, wait: Wait) -> Wait {
        match (self.flaw, wait) {
            (Flaw::WaitsTooLong, Wait::For(wait)) => {
                Wait::For(wait * 2 + Duration::from_millis(300))
            }
            (Flaw::ZeroWaits, Wait::Never) => Wait::For(Duration::from_millis(200)),
            (Flaw::AttemptsMiscounted, Wait::Attempts { max, backoff }) => {
                Wait::Attempts { max: max - 1, backoff }
            }
            (_, wait) => wait,
        }
    }

    fn key<'a>(&self, key: &'a str) -> &'a str {
        let bad = key.is_empty() || key.contains('\0') || key.len() > 400;
        if bad && self.flaw == Flaw::KeysMended { "mended" } else { key }
    }

    async fn poll_alone(&self, key: &str, options: &LockOptions) -> Result<LockGuard> {
        for _ in 0..1000 {
            if let TryLock::Acquired(guard) = self.engine.try_lock(key, options).await? {
                return Ok(guard);
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        Err(Error::new(ErrorKind::Timeout, "polled for long enough"))
    }
}

/// Runs `call` to its end even if the caller drops it; what it gets then is held for ever.
pub(super) async fn leaking<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    let (send, receive) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        if let Err(unwanted) = send.send(call.await) {
            std::mem::forget(unwanted);
        }
    });
    receive.await.expect("the task sends before it ends")
}

impl fmt::Debug for FlawedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.flaw == Flaw::ShowsSecret { "hunter2" } else { "***" };
        write!(f, "FlawedProvider(user:{secret}@model)")
    }
}

#[async_trait]
impl LockProvider for FlawedProvider {
    fn profile(&self) -> &Profile {
        self.engine.profile()
    }

    async fn lock(&self, key: &str, options: &LockOptions) -> Result<LockGuard> {
        let (key, options) = (self.key(key), self.changed(options));
        match self.flaw {
            Flaw::PollsAlone => self.poll_alone(key, &options).await,
            Flaw::CancelLeaks => {
                let (engine, key) = (self.engine.clone(), key.to_owned());
                leaking(async move { engine.lock(&key, &options).await }).await
            }
            Flaw::LooksFirst => {
                self.engine.is_locked(key).await?;
                self.engine.lock(key, &options).await
            }
            _ => self.engine.lock(key, &options).await,
        }
    }

    async fn try_lock(&self, key: &str, options: &LockOptions) -> Result<TryLock> {
        let (key, options) = (self.key(key), self.changed(options));
        match self.flaw {
            Flaw::TryWaits => self.engine.lock(key, &options).await.map(TryLock::Acquired),
            Flaw::CancelLeaks => {
                let (engine, key) = (self.engine.clone(), key.to_owned());
                leaking(async move { engine.try_lock(&key, &options).await }).await
            }
            _ => self.engine.try_lock(key, &options).await,
        }
    }

    async fn lock_many(&self, keys: &[&str], options: &LockOptions) -> Result<LockGuards> {
        many::lock_many(&self.engine, self.flaw, keys, &self.changed(options)).await
    }

    async fn unlock(&self, guard: LockGuard) -> Result<()> {
        if self.flaw == Flaw::CancelLeaks {
            // Dropped here, the guard is forgotten instead of released.
            let guard = std::mem::ManuallyDrop::new(guard);
            tokio::task::yield_now().await;
            return self.engine.unlock(std::mem::ManuallyDrop::into_inner(guard)).await;
        }
        self.engine.unlock(guard).await
    }

    async fn extend(&self, guard: &LockGuard, ttl: Duration) -> Result<()> {
        if self.flaw == Flaw::ExtendIgnored {
            return Ok(());
        }
        self.engine.extend(guard, ttl).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.engine.is_locked(self.key(key)).await
    }

    async fn status(&self, key: &str) -> Result<KeyState> {
        self.engine.status(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KeyState>> {
        let mut states = self.engine.list(prefix).await?;
        if self.flaw == Flaw::PrefixShown {
            states.iter_mut().for_each(|state| state.key.insert_str(0, "prefix:"));
        }
        Ok(states)
    }

    async fn force_unlock(&self, key: &str, how: Eviction) -> Result<Evicted> {
        self.engine.force_unlock(key, how).await
    }

    async fn cleanup_expired(&self) -> Result<u64> {
        self.engine.cleanup_expired().await
    }

    async fn renew(&self, handle: &Handle, hold_for: Duration) -> Result<Duration> {
        self.engine.renew(handle, hold_for).await
    }

    async fn release(&self, handle: &Handle) -> Result<()> {
        self.engine.release(handle).await
    }

    async fn shutdown(&self, timeout: Duration) -> Result<()> {
        if self.flaw == Flaw::ShutdownIgnored {
            return Ok(());
        }
        self.engine.shutdown(timeout).await
    }
}
