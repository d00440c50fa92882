//! Where a storm takes place: a target that runs, and how the processes reach it.

use std::env;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::Failure;
use crate::Fixture;
use crate::Outcome;

use super::Forgot;
use super::Line;
use super::Target;

/// Tells a process where the store is.
const URL: &str = "LOCK_STORM_CHILD_URL";

/// A store that runs from [`begin`](Self::begin) to [`end`](Self::end).
pub(super) struct Stage<T> {
    target: Mutex<Option<T>>,
    ways: OnceLock<Ways>,
}

/// How the store is reached.
struct Ways {
    url: String,
    lines: Vec<Line>,
}

impl<T> Default for Stage<T> {
    fn default() -> Self {
        Self { target: Mutex::default(), ways: OnceLock::new() }
    }
}

impl<T: Target> Stage<T> {
    pub(super) fn begin(&self) -> Outcome {
        let (target, lines) = wait(async {
            let target = T::start().await?;
            let lines = target.lines().await?;
            Outcome::Ok((target, lines))
        })?;
        self.ways.get_or_init(|| Ways { url: target.url(), lines });
        *self.lock() = Some(target);
        Ok(())
    }

    pub(super) fn end(&self) {
        drop(self.lock().take());
    }

    /// See [`Target::strike`].
    pub(super) fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        self.running(async |target: &mut T| target.strike(blow, long, keys).await)
    }

    /// See [`Target::mend`].
    pub(super) fn mend(&self) -> Outcome<Option<&'static str>> {
        self.running(async |target: &mut T| target.mend().await)
    }

    pub(super) fn lines(&self) -> &[Line] {
        self.ways.get().map_or(&[], |ways| &ways.lines)
    }

    /// Returns the environments with which processes reach the store.
    pub(super) fn environments(&self) -> Vec<Vec<(String, String)>> {
        let Some(Ways { url, lines }) = self.ways.get() else { return Vec::new() };
        let mut urls: Vec<_> = lines.iter().map(|line| line.url.clone()).collect();
        if urls.is_empty() {
            urls.push(url.clone());
        }
        urls.into_iter().map(|url| vec![(URL.to_owned(), url)]).collect()
    }

    fn running<U>(&self, act: impl AsyncFnOnce(&mut T) -> Outcome<U>) -> Outcome<U> {
        let mut target = self.lock();
        let target = target.as_mut().ok_or_else(|| Failure::new("the store does not run"))?;
        wait(act(target))
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for what may block, while others run on.
fn wait<U>(action: impl Future<Output = U>) -> U {
    block_in_place(|| Handle::current().block_on(action))
}

#[async_trait]
impl<T: Target> Fixture for Stage<T> {
    fn name(&self) -> &str {
        T::NAME
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let own = || self.ways.get().map(|ways| ways.url.clone()).unwrap_or_default();
        T::connect(&env::var(URL).unwrap_or_else(|_| own())).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        T::options(options)
    }
}
