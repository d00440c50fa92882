//! A cluster of three primaries, each with a replica.

use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Outcome;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Target;
use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::servers::Cluster;
use crate::servers::Server;
use crate::servers::until;

const MOVED: &str = "slot moved";
const KILLED: &str = "primary killed, replica takes over";
const FROZEN: &str = "primary frozen, replica takes over";
const ORDERED: &str = "failover by command";
const BRIEFLY: &str = "primary frozen briefly";
const PAUSED: &str = "primary pauses its clients";
const SCRIPTS: &str = "forgets scripts";

pub(crate) struct Shards {
    cluster: Cluster,
    /// Who had each key, and when.
    known: (Vec<usize>, BootInstant),
    /// Which key is next to be hurt.
    turn: usize,
}

#[async_trait]
impl Target for Shards {
    const NAME: &str = "redis-cluster";
    const BLOWS: &[&str] = &[KILLED, FROZEN, ORDERED, MOVED, BRIEFLY, PAUSED, SCRIPTS];
    const RECOVERY: Duration = crate::RECOVERY;

    async fn start() -> Outcome<Self> {
        let known = (Vec::new(), Clock::system().now());
        Ok(Self { cluster: Cluster::start(), known, turn: 0 })
    }

    fn url(&self) -> String {
        self.cluster.url()
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        crate::connect(url).await
    }

    fn options(options: EngineOptions) -> EngineOptions {
        crate::options(options)
    }

    /// Hurts the shard of one key. A replica that takes over may lack the last writes of its shard, unless the
    /// primary has handed over by itself; a slot that moves takes everything along.
    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        if self.known.0.is_empty() {
            self.known = (self.owners(keys), Clock::system().now());
        }
        let (before, from) = self.known.clone();
        let owners = self.owners(keys);
        self.turn = (self.turn + 1) % keys.len();
        let (key, primary) = (&keys[self.turn], owners[self.turn]);
        let servers = &mut self.cluster.servers;
        let mut expected = owners.clone();
        match blow {
            KILLED => {
                servers[primary].kill();
                self.await_failover(primary);
                self.cluster.servers[primary].restart();
            }
            FROZEN => {
                servers[primary].freeze();
                self.await_failover(primary);
                sleep(long);
                self.cluster.servers[primary].thaw();
            }
            ORDERED => {
                let replica = self.replica(primary);
                self.cluster.servers[replica].command("CLUSTER FAILOVER");
                until("a replica that takes over", || self.cluster.servers[replica].is_primary());
                let moved = expected.iter_mut().filter(|owner| **owner == primary);
                moved.for_each(|owner| *owner = replica);
            }
            MOVED => {
                let other = owners.iter().copied().find(|owner| *owner != primary);
                if let Some(other) = other {
                    self.move_slot(key, primary, other, long);
                    expected[self.turn] = other;
                }
            }
            BRIEFLY => {
                servers[primary].freeze();
                sleep(long / 4);
                servers[primary].thaw();
            }
            PAUSED => {
                servers[primary].command(&format!("CLIENT PAUSE {} ALL", long.as_millis() / 2));
                sleep(long / 2);
            }
            _ => servers.iter().for_each(|server| drop(server.command("SCRIPT FLUSH"))),
        }
        self.await_order();
        let now = Clock::system().now();
        self.known = (self.owners(keys), now);
        // Also what changed by itself, of which nobody knows when.
        let pairs = before.iter().zip(&owners).zip(expected.iter().zip(&self.known.0));
        let changed = pairs
            .zip(keys)
            .filter(|(((before, then), (expected, now)), _)| before != then || expected != now);
        let forgotten: Vec<_> = changed.map(|(_, key)| key.clone()).collect();
        Ok((!forgotten.is_empty()).then(|| Forgot::since(from, &forgotten)))
    }
}

impl Shards {
    /// Returns which server has each key.
    fn owners(&self, keys: &[LockKey]) -> Vec<usize> {
        keys.iter().map(|key| self.owner(slot(&self.cluster.servers[0], key))).collect()
    }

    fn owner(&self, slot: u32) -> usize {
        let servers = &self.cluster.servers;
        let mut found = None;
        until("an owner of the slot", || {
            let has = |server: &Server| server.is_primary() && has_slot(server, slot);
            let owners: Vec<_> =
                (0..servers.len()).filter(|number| has(&servers[*number])).collect();
            if let [owner] = owners[..] {
                found = Some(owner);
            }
            found.is_some()
        });
        found.unwrap()
    }

    fn replica(&self, primary: usize) -> usize {
        let port = self.cluster.servers[primary].port.to_string();
        let follows = |server: &Server| server.info("master_port").as_ref() == Some(&port);
        self.cluster.servers.iter().position(follows).unwrap()
    }

    fn await_failover(&self, old: usize) {
        let others =
            || self.cluster.servers.iter().enumerate().filter(|(number, _)| *number != old);
        until("a replica that takes over", || {
            let primaries = others().filter(|(_, server)| server.is_primary()).count();
            primaries == 3 && others().all(|(_, server)| is_well(server))
        });
    }

    /// Waits until three serve and three follow.
    fn await_order(&self) {
        until("a cluster in order", || {
            let servers = &self.cluster.servers;
            let (primaries, replicas): (Vec<_>, Vec<_>) =
                servers.iter().partition(|server| server.is_primary());
            let known = |server: &Server| {
                let nodes = server.command("CLUSTER NODES");
                !nodes.contains("fail") && nodes.matches("slave").count() == 3
            };
            primaries.len() == 3
                && replicas.iter().all(|server| server.is_caught_up())
                && servers.iter().all(|server| is_well(server) && known(server))
        });
    }

    /// Moves the slot of a key as `redis-cli` would, half way for some time.
    fn move_slot(&self, key: &LockKey, from: usize, to: usize, long: Duration) {
        let servers = &self.cluster.servers;
        let id = |server: &Server| {
            server.command("CLUSTER MYID").lines().nth(1).unwrap_or_default().to_owned()
        };
        let slot = slot(&servers[from], key);
        let (old, new) = (id(&servers[from]), id(&servers[to]));
        servers[to].command(&format!("CLUSTER SETSLOT {slot} IMPORTING {old}"));
        servers[from].command(&format!("CLUSTER SETSLOT {slot} MIGRATING {new}"));
        sleep(long / 8);
        let target = format!("127.0.0.1 {}", servers[to].port);
        until("a slot without keys", || {
            let answer = servers[from].command(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
            let Some(name) = answer.lines().nth(2) else { return true };
            servers[from].command(&format!("MIGRATE {target} {name} 0 2000"));
            sleep(long / 16);
            false
        });
        for server in [&servers[to], &servers[from]].into_iter().chain(servers) {
            if server.is_primary() {
                server.command(&format!("CLUSTER SETSLOT {slot} NODE {new}"));
            }
        }
        until("a slot that has moved", || self.owner(slot) == to);
    }
}

fn is_well(server: &Server) -> bool {
    server.command("CLUSTER INFO").contains("cluster_state:ok")
}

fn slot(server: &Server, key: &LockKey) -> u32 {
    let answer = server.command(&format!("CLUSTER KEYSLOT {key}"));
    answer.trim_start_matches(':').trim().parse().unwrap()
}

/// Reads the slots that a server takes for its own.
fn has_slot(server: &Server, slot: u32) -> bool {
    let nodes = server.command("CLUSTER NODES");
    let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
    own.split_whitespace().skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&slot),
            _ => false,
        }
    })
}
