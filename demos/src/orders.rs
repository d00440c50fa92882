//! The order service: instances of an API that sell from one stock, and never more than there is.
//!
//! An order locks all its articles at once, waits 3 × 200 ms at most, and writes under the fences of its locks. Everything may
//! fail in between: instances are killed and frozen, servers of the locks as well.

mod customers;
mod postgres;
mod service;
mod sqlite;
mod statements;
mod store;
mod storm;

use std::time::Duration;

use lock::parse_duration;

use crate::servers::Servers;
use crate::story::Result;

/// What to do with the order service.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Orders {
    /// One instance, until its input ends
    Serve(Serve),
    /// Several instances, customers and faults, and the audit of what was sold
    Storm(storm::Storm),
}

/// One instance.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where the locks are
    #[arg(long, value_name = "URL")]
    locks: String,
    /// Where the stock is: postgres://… or sqlite:PATH
    #[arg(long, value_name = "URL")]
    db: String,
    /// Where to listen; any free port unless set
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: String,
    /// How long a payment takes, between the look at the stock and the change of it
    #[arg(long, default_value = "20ms", value_parser = duration, value_name = "DURATION")]
    payment: Duration,
    /// Sell without locks, and see what comes of it
    #[arg(long)]
    without_locks: bool,
}

fn duration(text: &str) -> lock::Result<Duration> {
    parse_duration(text)
}

impl Orders {
    pub(crate) async fn run(&self, servers: &mut Servers) -> Result {
        match self {
            Self::Serve(serve) => service::serve(serve).await,
            Self::Storm(storm) => storm::run(storm, servers).await,
        }
    }
}
