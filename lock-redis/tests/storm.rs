//! Random faults: of one server by default; with `LOCK_TEST_FULL`, or if a length is given, also of what
//! sentinels watch, of a cluster, and of Redlock. `cargo xtask storm redis --minutes 30` runs them for long.

#![allow(clippy::unwrap_used, reason = "a server that cannot be struck must end the storm")]

mod servers;
mod storm {
    pub(crate) mod cluster;
    pub(crate) mod one;
    pub(crate) mod quorum;
    pub(crate) mod watched;
}

use std::process::ExitCode;
use std::time::Duration;

use conformance_tests::storm::Storms;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_redis::DRIVER;

use crate::servers::Server;
use crate::storm::cluster::Shards;
use crate::storm::quorum::Redlock;
use crate::storm::watched::Sentinel;

fn main() -> ExitCode {
    Storms::default().usual::<Server>().rare::<Sentinel>().rare::<Shards>().rare::<Redlock>().run()
}

async fn connect(url: &str) -> Result<SharedBackend> {
    let url = format!("{url}?reply_timeout=2s&connect_timeout=1s");
    DRIVER.open(ConnectUrl::parse(&url)?).await
}

/// Silence is taken for an outage sooner than users would.
fn options(options: EngineOptions) -> EngineOptions {
    options.operation_timeout(Duration::from_secs(2))
}

/// A request that is given up, the connection that follows, the longest pause after failures.
const RECOVERY: Duration = Duration::from_secs(4);
