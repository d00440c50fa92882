//! The instances of a storm and the servers of their locks, and what is done to both.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use super::customers::Market;
use super::shop::TTL;
use super::storm::Storm;
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

/// How many servers of the locks there are; two of them may be away.
const NODES: usize = 5;

/// The instances and what they rest on.
pub(super) struct Shops {
    fleet: Option<Fleet>,
    pub(super) locks: String,
    pub(super) db: String,
    arguments: Vec<String>,
    instances: Vec<(Instance, SocketAddr)>,
}

impl Shops {
    pub(super) async fn open(options: &Storm, servers: &mut Servers) -> Result<Self> {
        let (fleet, locks) = match &options.locks {
            Some(name) => (None, servers.store(name).await?),
            None => {
                let fleet = servers.fleet(NODES)?;
                fleet.await_age(TTL).await?;
                let url = fleet.url(&format!("ttl_max={}ms", TTL.as_millis()));
                (Some(fleet), url)
            }
        };
        let db = match &options.db {
            Some(url) => url.clone(),
            None => servers.postgres().await?,
        };
        let delay = format!("{}ms", options.patience.retry_delay.as_millis());
        let retries = options.patience.retries.to_string();
        let arguments = ["orders", "serve", "--locks", &locks, "--db", &db];
        let patience = ["--retries", &retries, "--retry-delay", &delay];
        let without = options.without_locks.then_some("--without-locks");
        let arguments = arguments.into_iter().chain(patience).chain(without);
        let arguments = arguments.map(str::to_owned).collect();
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

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.instances.iter().map(|(_, address)| *address).collect()
    }

    /// Does one harm after the other until the time is over; returns how many.
    pub(super) async fn hurt(
        &mut self,
        story: &Story,
        market: &Market,
        time: Duration,
    ) -> Result<u64> {
        let (begun, mut faults) = (Instant::now(), 0);
        while begun.elapsed() < time {
            pause(ms(400)).await;
            match faults % 4 {
                0 => self.kill(story, market).await?,
                1 => self.freeze(story).await?,
                2 => self.kill_nodes(story).await?,
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
    async fn kill_nodes(&mut self, story: &Story) -> Result {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        let first = fastrand::usize(..NODES);
        let both = [first, (first + 1) % NODES];
        story.tell("fault", format!("redis-{} and redis-{} are killed", both[0] + 1, both[1] + 1));
        for at in both {
            fleet.servers[at].kill()?;
        }
        pause(ms(1000)).await;
        for at in both {
            fleet.servers[at].restart()?;
        }
        fleet.await_age(TTL).await
    }

    async fn freeze_node(&self, story: &Story) -> Result {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let at = fastrand::usize(..NODES);
        story.tell("fault", format!("redis-{} is frozen for a second", at + 1));
        fleet.servers[at].freeze()?;
        pause(ms(1000)).await;
        Ok(fleet.servers[at].thaw()?)
    }
}
