//! Servers that replace each other: what a cluster and what sentinels watch have in common in a storm.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use conformance_tests::Fixture;
use conformance_tests::Outcome;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Target;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use tokio::task::block_in_place;

pub(crate) const KILLED: &str = "primary killed, replica takes over";
pub(crate) const FROZEN: &str = "primary frozen, replica takes over";
pub(crate) const ORDERED: &str = "failover by command";
pub(crate) const BRIEFLY: &str = "primary frozen briefly";
pub(crate) const PAUSED: &str = "primary pauses its clients";
pub(crate) const SCRIPTS: &str = "forgets scripts";

/// Servers of which one takes over when another fails.
pub(crate) trait Replaced: Send + 'static {
    /// What the storm over them is called.
    const NAME: &str;

    /// What can happen to them.
    const BLOWS: &[&str];

    /// Starts them.
    fn start() -> Self;

    /// Where they are.
    fn url(&self) -> String;

    /// Hurts them, waits until all is well again, and returns what they may have forgotten.
    fn strike(&mut self, blow: &str, long: Duration, keys: &[LockKey]) -> Option<Forgot>;
}

/// A storm over such servers.
pub(crate) struct Storm<S>(Mutex<Option<S>>);

impl<S: Replaced> Storm<S> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn servers(&self) -> MutexGuard<'_, Option<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Replaced> Fixture for Storm<S> {
    fn name(&self) -> &str {
        S::NAME
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        crate::connect(|| self.servers().as_ref().unwrap().url()).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        crate::options(options)
    }

    async fn set_up(&self) -> Result<()> {
        let servers = block_in_place(S::start);
        *self.servers() = Some(servers);
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.servers().take());
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        let url = self.servers().as_ref()?.url();
        Some(vec![(crate::URL.to_owned(), url)])
    }
}

#[async_trait]
impl<S: Replaced> Target for Storm<S> {
    fn blows(&self) -> Vec<&'static str> {
        S::BLOWS.to_vec()
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        Ok(block_in_place(|| self.servers().as_mut().unwrap().strike(blow, long, keys)))
    }

    fn recovery(&self) -> Duration {
        crate::RECOVERY
    }
}
