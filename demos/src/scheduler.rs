//! The scheduler: each tick of a job runs on one of several instances, whichever is first.
//!
//! The other instances skip the tick. A job that takes long is renewed, and not started twice by its own instance. The lock
//! is kept for a while after a short job, so that an instance whose clock is behind does not run the same tick again.

mod analysis;
mod config;
mod crew;
mod instance;
mod locker;
mod storm;

use std::path::PathBuf;
use std::time::Duration;

use lock::parse_duration;

use crate::servers::Servers;
use crate::story::Result;

/// What to do with the scheduler.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Scheduler {
    /// One instance, until its input ends
    Run(Run),
    /// Several instances over each backend, with faults, and the count of their runs
    Storm(storm::Storm),
}

/// One instance.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the locks are
    #[arg(long, value_name = "URL")]
    locks: String,
    /// How far this instance's clock is behind
    #[arg(long, default_value = "0", value_parser = duration, value_name = "DURATION")]
    behind: Duration,
}

fn duration(text: &str) -> lock::Result<Duration> {
    parse_duration(text)
}

impl Scheduler {
    pub(crate) async fn run(&self, servers: &mut Servers) -> Result {
        match self {
            Self::Run(run) => instance::run(run).await,
            Self::Storm(storm) => storm::run(storm, servers).await,
        }
    }
}
