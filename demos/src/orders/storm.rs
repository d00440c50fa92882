//! The order service under faults: instances are killed and frozen, servers of the locks stopped; then the stock is audited.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::customers::Market;
use super::customers::sku;
use super::service::TTL;
use super::store;
use super::store::Store;
use crate::instance::Instance;
use crate::servers::Fleet;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

/// How many servers of the locks there are; two of them may be away.
const NODES: usize = 5;

/// A run under faults.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Storm {
    /// How long customers order
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many instances sell
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    instances: u64,
    /// How many customers order at a time
    #[arg(long, default_value_t = 24)]
    customers: u64,
    /// How much there is of each of the articles
    #[arg(long, default_value_t = 500)]
    stock: i64,
    /// How many articles there are
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    articles: u64,
    /// Where the locks are; five servers of our own with Redlock unless set, which are stopped as well
    #[arg(long, value_name = "URL")]
    locks: Option<String>,
    /// Where the stock is: postgres://… or sqlite:PATH; a Postgres of our own unless set
    #[arg(long, value_name = "URL")]
    db: Option<String>,
    /// Sell without locks, and see what comes of it
    #[arg(long)]
    without_locks: bool,
}

pub(super) async fn run(options: &Storm, servers: &mut Servers) -> Result {
    let story = Story::begin("Orders: one stock, several instances, and faults");
    let mut shops = Shops::open(options, servers).await?;
    story.tell("locks", &shops.locks);
    let skus = usize::try_from(options.articles)?;
    let db = store::open(&shops.db).await?;
    db.fill(&(0..skus).map(|at| (sku(at), options.stock)).collect::<Vec<_>>()).await?;

    let market = Market::new(skus, shops.addresses());
    let mut customers = market.open(options.customers);
    let faults = shops.hurt(&story, &market, Duration::from_secs(options.seconds)).await?;
    let during = market.told().confirmed.len();
    story.tell("all", "is well again, for two seconds");
    pause(ms(2000)).await;
    market.close();
    while let Some(left) = customers.join_next().await {
        left?;
    }
    audit(&story, options, &*db, &market, faults, during).await
}

/// The instances and what they rest on.
struct Shops {
    fleet: Option<Fleet>,
    locks: String,
    db: String,
    arguments: Vec<String>,
    instances: Vec<(Instance, SocketAddr)>,
}

impl Shops {
    async fn open(options: &Storm, servers: &mut Servers) -> Result<Self> {
        let (fleet, locks) = match &options.locks {
            Some(url) => (None, url.clone()),
            None => {
                let fleet = servers.fleet(NODES)?;
                fleet.await_age(TTL);
                let url = fleet.url(&format!("ttl_max={}ms", TTL.as_millis()));
                (Some(fleet), url)
            }
        };
        let db = match &options.db {
            Some(url) => url.clone(),
            None => servers.postgres().await?,
        };
        let mut arguments: Vec<String> =
            ["orders", "serve", "--locks", &locks, "--db", &db].map(str::to_owned).into();
        if options.without_locks {
            arguments.push("--without-locks".to_owned());
        }
        let mut shops = Self { fleet, locks, db, arguments, instances: Vec::new() };
        for _ in 0..options.instances {
            let instance = shops.start().await?;
            shops.instances.push(instance);
        }
        Ok(shops)
    }

    async fn start(&self) -> Result<(Instance, SocketAddr)> {
        let mut instance = Instance::start(&self.arguments)?;
        let address = instance.line().await?.parse()?;
        Ok((instance, address))
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.instances.iter().map(|(_, address)| *address).collect()
    }

    /// Does one harm after the other until the time is over; returns how many.
    async fn hurt(&mut self, story: &Story, market: &Arc<Market>, time: Duration) -> Result<u64> {
        let (begun, mut faults) = (Instant::now(), 0);
        while begun.elapsed() < time {
            pause(ms(400)).await;
            match faults % 4 {
                0 => self.kill(story, market).await?,
                1 => self.freeze(story).await?,
                2 => self.stop_nodes(story).await?,
                _ => self.freeze_node(story).await?,
            }
            faults += 1;
            let told = market.told();
            let (requests, sold) = (told.requests(), told.confirmed.len());
            story.tell("customers", format!("{requests} requests, {sold} orders confirmed"));
        }
        Ok(faults)
    }

    async fn kill(&mut self, story: &Story, market: &Market) -> Result {
        let place = fastrand::usize(..self.instances.len());
        story.tell("fault", format!("instance {} is killed", place + 1));
        let new = self.start().await?;
        let address = new.1;
        let (old, _) = std::mem::replace(&mut self.instances[place], new);
        old.kill().await?;
        market.moved(place, address);
        Ok(())
    }

    /// It goes on as if nothing had happened, after its locks have ended.
    async fn freeze(&self, story: &Story) -> Result {
        let place = fastrand::usize(..self.instances.len());
        story.tell("fault", format!("instance {} is frozen for two TTLs", place + 1));
        let (instance, _) = &self.instances[place];
        instance.freeze()?;
        pause(TTL * 2).await;
        instance.thaw()
    }

    /// Two of five: those who are left are a majority still.
    async fn stop_nodes(&mut self, story: &Story) -> Result {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        let first = fastrand::usize(..NODES);
        let both = [first, (first + 1) % NODES];
        story.tell("fault", format!("redis-{} and redis-{} are killed", both[0] + 1, both[1] + 1));
        for at in both {
            fleet.servers[at].kill();
        }
        pause(ms(1000)).await;
        for at in both {
            fleet.servers[at].restart();
        }
        // They count again when they have run for longer than any lock can last.
        fleet.await_age(TTL);
        Ok(())
    }

    async fn freeze_node(&self, story: &Story) -> Result {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let at = fastrand::usize(..NODES);
        story.tell("fault", format!("redis-{} is frozen for a second", at + 1));
        fleet.servers[at].freeze();
        pause(ms(1000)).await;
        fleet.servers[at].thaw();
        Ok(())
    }
}

async fn audit(
    story: &Story,
    options: &Storm,
    db: &dyn Store,
    market: &Market,
    faults: u64,
    during: usize,
) -> Result {
    let (stock, orders) = (db.audit().await?, db.orders().await?);
    let told = market.told();
    let oversold: i64 = stock.iter().map(|it| (it.sold - options.stock).max(0)).sum();
    let wrong: i64 = stock.iter().map(|it| (options.stock - it.sold - it.left).abs()).sum();
    let sold: i64 = stock.iter().map(|it| it.sold).sum();
    let known: BTreeSet<&String> = orders.iter().collect();
    let missing = told.confirmed.iter().filter(|id| !known.contains(id)).count();
    story.part("What came of it:");
    for (name, figure) in [
        ("faults", faults.to_string()),
        ("requests", told.requests().to_string()),
        ("orders confirmed (201)", told.confirmed.len().to_string()),
        ("orders written", orders.len().to_string()),
        ("articles sold", format!("{sold} of {}", options.stock * stock.len() as i64)),
        ("sold out (409)", (told.times(409) - told.stale).to_string()),
        ("overtaken, refused (409)", told.stale.to_string()),
        ("locked by others (423)", told.times(423).to_string()),
        ("locks not to be had (503)", told.times(503).to_string()),
        ("no answer", told.times(0).to_string()),
        ("oversold", oversold.to_string()),
        ("lost from the stock's count", wrong.to_string()),
    ] {
        story.line(format!("{name:<30}{figure:>12}"));
    }
    story.check(oversold == 0 && wrong == 0, "no article is sold that was not there")?;
    story.check(missing == 0, "every confirmed order is written")?;
    let calm = told.confirmed.len() - during;
    story.check(during > 0, "orders were sold while things failed")?;
    story.check(calm > 0 || sold == options.stock * stock.len() as i64, "and are when all is well")
}
