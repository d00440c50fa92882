//! Random faults: of one server by default; with `LOCK_TEST_FULL`, or if a length is given, also of what
//! sentinels watch, of a cluster, and of Redlock. `cargo xtask storm redis --minutes 30` runs them for long.

#![allow(clippy::unwrap_used, reason = "a server that cannot be struck must end the storm")]

mod servers;
mod storm {
    pub(crate) mod cluster;
    pub(crate) mod one;
    pub(crate) mod quorum;
    pub(crate) mod replaced;
    pub(crate) mod watched;
}

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conformance_tests::storm::SECONDS;
use conformance_tests::storm::Target;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_redis::DRIVER;

use crate::storm::replaced::Storm;

/// Tells a process where the servers are.
const URL: &str = "LOCK_STORM_REDIS_URL";

/// How long a request may take: silence is taken for an outage sooner than users would.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut targets: Vec<Arc<dyn Target>> = vec![Arc::new(storm::one::One::default())];
    let is = |name| env::var_os(name).is_some();
    if is("LOCK_TEST_FULL") || is(SECONDS) {
        targets.push(Arc::new(Storm::<storm::watched::Sentinel>::new()));
        targets.push(Arc::new(Storm::<storm::cluster::Shards>::new()));
        targets.push(Arc::new(storm::quorum::Redlock::default()));
    }
    conformance_tests::storm::run(targets)
}

/// Connects to what the environment names, or to `own`.
async fn connect(own: impl FnOnce() -> String) -> Result<SharedBackend> {
    let url = env::var(URL).unwrap_or_else(|_| own());
    let url = format!("{url}?reply_timeout=2s&connect_timeout=1s");
    DRIVER.open(ConnectUrl::parse(&url)?).await
}

fn options(options: EngineOptions) -> EngineOptions {
    options.operation_timeout(PATIENCE)
}

/// A request that is given up, the connection that follows, the longest pause after failures.
const RECOVERY: Duration = Duration::from_secs(4);
