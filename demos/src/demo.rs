//! The demos: what each is called, and how it is run.

mod advisory;
mod backoff;
mod expiry;
mod fair;
mod fencing;
mod load;
mod metrics;
mod monitoring;
mod optimistic;
mod overhead;
mod race;
mod redlock;
mod row_lock;
mod set_nx;
mod table;
mod typed;

use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;

/// One of the demos.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Demo {
    /// Two payments at a time: lost without a lock, kept with one on each backend
    #[command(name = "1")]
    Race,
    /// `SET NX PX`: ours beside a client that is not ours
    #[command(name = "2")]
    SetNx,
    /// A TTL frees what a crash left; renewal keeps what is in use
    #[command(name = "3")]
    Expiry,
    /// A fence refuses a holder who comes late, with HTTP 409
    #[command(name = "4")]
    Fencing,
    /// Advisory locks of Postgres, ours and by hand
    #[command(name = "5")]
    Advisory,
    /// Row locks: wait, NOWAIT, SKIP LOCKED
    #[command(name = "6")]
    RowLock,
    /// Retries after 100, 200, 400 … ms and a random part
    #[command(name = "7")]
    Backoff,
    /// Redlock over five servers, of which two and then three are down
    #[command(name = "8")]
    Redlock,
    /// A queue: who came first is served first
    #[command(name = "9")]
    Fair,
    /// Versions instead of locks: write only what has not changed since it was read
    #[command(name = "10")]
    Optimistic,
    /// What `redis-cli` shows of locks, and what we show
    Monitoring,
    /// Orders at a steady rate against an API that locks
    Load(load::Rate),
    /// What a lock around a query costs
    Overhead,
    /// The commands of the ten demos, typed into redis-cli and psql
    Typed,
    /// MySQL's table of locks, indexed, read and cleaned by hand
    Table,
    /// What is counted of locks, as Prometheus reads it
    Metrics,
}

impl Demo {
    /// All of them, in order.
    pub(crate) fn all() -> Vec<Self> {
        vec![
            Self::Race,
            Self::SetNx,
            Self::Expiry,
            Self::Fencing,
            Self::Advisory,
            Self::RowLock,
            Self::Backoff,
            Self::Redlock,
            Self::Fair,
            Self::Optimistic,
            Self::Monitoring,
            Self::Load(load::Rate::default()),
            Self::Overhead,
            Self::Typed,
            Self::Table,
            Self::Metrics,
        ]
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Race => "Demo 1: a race, and a lock that ends it",
            Self::SetNx => "Demo 2: SET NX PX, by hand and by us",
            Self::Expiry => "Demo 3: a TTL against crashes",
            Self::Fencing => "Demo 4: a fence against late writes",
            Self::Advisory => "Demo 5: advisory locks of Postgres",
            Self::RowLock => "Demo 6: SELECT … FOR UPDATE",
            Self::Backoff => "Demo 7: retry with backoff and jitter",
            Self::Redlock => "Demo 8: Redlock over five servers",
            Self::Fair => "Demo 9: a fair queue",
            Self::Optimistic => "Demo 10: versions instead of locks",
            Self::Monitoring => "Monitoring: who holds what",
            Self::Load(_) => "Load: orders at a steady rate",
            Self::Overhead => "Overhead: a query with and without a lock",
            Self::Typed => "Typed: redis-cli and psql beside us",
            Self::Table => "Table: MySQL's locks by hand",
            Self::Metrics => "Metrics: what is counted of locks",
        }
    }

    /// Runs it to its end; an error says what was not as it should be.
    pub(crate) async fn run(&self, servers: &mut Servers) -> Result {
        let story = Story::begin(self.title());
        match self {
            Self::Race => race::run(&story, servers).await,
            Self::SetNx => set_nx::run(&story, servers).await,
            Self::Expiry => expiry::run(&story, servers).await,
            Self::Fencing => fencing::run(&story, servers).await,
            Self::Advisory => advisory::run(&story, servers).await,
            Self::RowLock => row_lock::run(&story, servers).await,
            Self::Backoff => backoff::run(&story, servers).await,
            Self::Redlock => redlock::run(&story, servers).await,
            Self::Fair => fair::run(&story, servers).await,
            Self::Optimistic => optimistic::run(&story, servers).await,
            Self::Monitoring => monitoring::run(&story, servers).await,
            Self::Load(rate) => load::run(&story, servers, rate).await,
            Self::Overhead => overhead::run(&story, servers).await,
            Self::Typed => typed::run(&story, servers).await,
            Self::Table => table::run(&story, servers).await,
            Self::Metrics => metrics::run(&story).await,
        }
    }
}
