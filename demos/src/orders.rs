//! The order service: instances of an API that sell from one stock, and never more than there is.
//!
//! An order locks all its articles at once, waits 3 × 200 ms at most, and writes under the fences of its locks. Everything may
//! fail in between: instances are killed and frozen, servers of the locks as well.

mod api;
mod audit;
mod customers;
mod postgres;
mod shop;
mod shops;
mod sqlite;
mod statements;
mod store;
mod storm;

use std::time::Duration;

use lock::Backoff;
use lock::Wait;
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
    #[command(flatten)]
    patience: Patience,
    /// Sell without locks, and see what comes of it
    #[arg(long)]
    without_locks: bool,
}

/// How long an order waits for articles that others have.
#[derive(Clone, Debug, clap::Args)]
struct Patience {
    /// How often to try again for articles that others have; 5 where many order the same
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    retries: u32,
    /// How far apart; 300ms where many order the same
    #[arg(long, default_value = "200ms", value_parser = duration, value_name = "DURATION")]
    retry_delay: Duration,
}

impl Patience {
    /// One attempt and the retries.
    fn wait(&self) -> Wait {
        let (max, backoff) = (self.retries.saturating_add(1), Backoff::fixed(self.retry_delay));
        Wait::Attempts { max, backoff }
    }
}

fn duration(text: &str) -> lock::Result<Duration> {
    parse_duration(text)
}

impl Orders {
    pub(crate) async fn run(&self, servers: &mut Servers) -> Result {
        match self {
            Self::Serve(serve) => api::serve(serve).await,
            Self::Storm(storm) => storm::run(storm, servers).await,
        }
    }
}
