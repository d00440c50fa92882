//! Which server of a cluster has a slot, learned from the cluster and corrected by its redirections.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use redis::Value;

use crate::error::During;
use crate::error::Failure;
use crate::node::Node;
use crate::node::Pool;
use crate::reply;
use crate::server::Address;

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) pool: Pool,
    seeds: Vec<Address>,
    map: Mutex<Map>,
    /// Held while the map is being asked for, so that many callers ask once.
    asking: tokio::sync::Mutex<()>,
}

/// Who has which slots, as far as is known.
#[derive(Debug, Default)]
struct Map {
    ranges: Vec<Range>,
    /// Those of whom something happened that the map does not explain.
    doubted: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    owner: Address,
}

impl Cluster {
    pub(crate) fn new(pool: Pool, seeds: Vec<Address>) -> Self {
        let asking = tokio::sync::Mutex::new(());
        Self { pool, seeds, map: Mutex::default(), asking }
    }

    /// Returns the server that has `slot`.
    pub(crate) async fn node(&self, slot: u16) -> Result<Node> {
        // Whoever has a slot that nothing has happened to is asked, whatever is wrong with others.
        self.refresh(|map| map.is_good_for(slot)).await?;
        let owner = self.map().owner(slot);
        // Whoever drew the map may not have known all of it yet.
        let unserved = || Error::new(ErrorKind::Unavailable, "the cluster does not serve the slot");
        Ok(self.pool.node(&owner.ok_or_else(unserved)?))
    }

    /// Numbers the shards, as far as they are known: each by its first slot.
    pub(crate) fn part(&self, slot: u16) -> u64 {
        let map = self.map();
        let owner = map.owner(slot);
        let first = map.ranges.iter().find(|range| Some(&range.owner) == owner.as_ref());
        first.map_or(u64::MAX, |range| u64::from(range.first))
    }

    /// Returns every primary.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        self.refresh(Map::is_good).await?;
        let mut owners: Vec<_> =
            self.map().ranges.iter().map(|range| range.owner.clone()).collect();
        owners.sort_by_key(Address::to_string);
        owners.dedup();
        Ok(owners.iter().map(|owner| self.pool.node(owner)).collect())
    }

    /// Takes in a failure about `slot`, and returns where else to ask, and whether only for this once.
    pub(crate) fn learn(&self, failure: &Failure, slot: u16) -> Option<(Address, Once)> {
        let Failure::Driver(failure) = failure else {
            self.map().doubt(slot);
            return None;
        };
        let once = match failure.code() {
            Some("ASK") => Once::Yes,
            Some("MOVED") => Once::No,
            Some("CLUSTERDOWN" | "READONLY" | "MASTERDOWN") | None => {
                self.map().doubt(slot);
                return None;
            }
            Some(_) => return None,
        };
        if once == Once::No {
            self.map().doubt(slot);
        }
        let (host, port) = failure.redirect_node()?;
        Some((Address { host: host.to_owned(), port }, once))
    }

    /// Asks for the map unless it is good enough.
    async fn refresh(&self, is_good: impl Fn(&Map) -> bool) -> Result<()> {
        if is_good(&self.map()) {
            return Ok(());
        }
        let _one = self.asking.lock().await;
        if is_good(&self.map()) {
            return Ok(());
        }
        let ranges = self.ask().await?;
        *self.map() = Map { ranges, doubted: Vec::new() };
        Ok(())
    }

    /// Asks one server after another: those that had slots first, then those that are doubted and those of the URL.
    async fn ask(&self) -> Result<Vec<Range>> {
        let mut last = Error::new(ErrorKind::Unavailable, "no server of the cluster is known");
        let known = self.map().owners();
        let mut asked = Vec::new();
        for address in known.into_iter().chain(self.seeds.clone()) {
            if asked.contains(&address) {
                continue;
            }
            match self.ask_one(&address).await {
                Ok(ranges) if !ranges.is_empty() => return Ok(ranges),
                Ok(_) => last = Error::new(ErrorKind::Unavailable, "the cluster serves no slots"),
                Err(error) => last = error,
            }
            asked.push(address);
        }
        Err(last)
    }

    async fn ask_one(&self, address: &Address) -> Result<Vec<Range>> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = self.pool.node(address).ask(command).await;
        let answer = answer.map_err(|failure| failure.into_error(During::Connect))?;
        reply::list(answer)?.into_iter().map(|range| read(range, address)).collect()
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a redirection holds for one command only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Once {
    Yes,
    No,
}

impl Map {
    fn is_good(&self) -> bool {
        self.doubted.is_empty() && !self.ranges.is_empty()
    }

    fn is_good_for(&self, slot: u16) -> bool {
        self.owner(slot).is_some_and(|owner| !self.doubted.contains(&owner))
    }

    fn doubt(&mut self, slot: u16) {
        let owner = self.owner(slot).filter(|owner| !self.doubted.contains(owner));
        self.doubted.extend(owner);
    }

    /// Those who have slots, the doubted last.
    fn owners(&self) -> Vec<Address> {
        let mut owners: Vec<_> = self.ranges.iter().map(|range| range.owner.clone()).collect();
        owners.sort_by_key(|owner| self.doubted.contains(owner));
        owners
    }

    fn owner(&self, slot: u16) -> Option<Address> {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        Some(range.owner.clone())
    }
}

/// Reads first slot, last slot, and the primary's host and port. A server that does not know its own host
/// is where the question went.
fn read(range: Value, asked: &Address) -> Result<Range> {
    let mut parts = reply::list(range)?.into_iter();
    let (first, last) = (slot(parts.next())?, slot(parts.next())?);
    let mut owner = reply::list(parts.next().unwrap_or(Value::Nil))?.into_iter();
    let host = reply::text(owner.next())?;
    let host = if host.is_empty() || host == "?" { asked.host.clone() } else { host };
    Ok(Range { first, last, owner: Address { host, port: slot(owner.next())? } })
}

fn slot(number: Option<Value>) -> Result<u16> {
    let number = reply::number(number)?;
    u16::try_from(number).map_err(|_| Error::new(ErrorKind::Corrupt, "no slot has that number"))
}
