//! A primary and its replica, watched by three sentinels.

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

use crate::servers::Server;
use crate::servers::Watched;
use crate::servers::until;

const REPLICA: &str = "replica restarted";
const KILLED: &str = "primary killed, replica takes over";
const FROZEN: &str = "primary frozen, replica takes over";
const ORDERED: &str = "failover by command";
const BRIEFLY: &str = "primary frozen briefly";
const PAUSED: &str = "primary pauses its clients";
const SCRIPTS: &str = "forgets scripts";

pub(crate) struct Sentinel {
    watched: Watched,
    /// How many failovers there had been, and when.
    known: (u64, BootInstant),
}

#[async_trait]
impl Target for Sentinel {
    const NAME: &str = "redis-sentinel";
    const BLOWS: &[&str] = &[KILLED, FROZEN, ORDERED, BRIEFLY, REPLICA, PAUSED, SCRIPTS];
    const RECOVERY: Duration = crate::RECOVERY;

    async fn start() -> Outcome<Self> {
        let watched = Watched::start();
        for sentinel in &watched.sentinels {
            // One failover may follow another.
            sentinel.command("SENTINEL SET locks failover-timeout 1500");
        }
        Ok(Self { watched, known: (0, Clock::system().now()) })
    }

    fn url(&self) -> String {
        self.watched.url()
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        crate::connect(url).await
    }

    fn options(options: EngineOptions) -> EngineOptions {
        crate::options(options)
    }

    /// Whoever takes over may lack the last writes, and until the old primary follows, both grant.
    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let (before, from) = self.known;
        let primary = self.primary();
        let servers = &mut self.watched.servers;
        match blow {
            KILLED => {
                servers[primary].kill();
                self.await_failover(primary);
                self.watched.servers[primary].restart();
            }
            FROZEN => {
                servers[primary].freeze();
                self.await_failover(primary);
                sleep(long);
                self.watched.servers[primary].thaw();
            }
            // Refused, or given up half-way, while a busy machine lets the replica look dead.
            ORDERED => until("a failover that is carried out", || {
                if self.primary() == primary {
                    self.watched.sentinels[0].command("SENTINEL FAILOVER locks");
                }
                self.has_failed_over(primary)
            }),
            BRIEFLY => {
                servers[primary].freeze();
                sleep(long / 4);
                servers[primary].thaw();
            }
            REPLICA => {
                servers[1 - primary].kill();
                sleep(long / 2);
                servers[1 - primary].restart();
            }
            PAUSED => {
                servers[primary].command(&format!("CLIENT PAUSE {} ALL", long.as_millis() / 2));
                sleep(long / 2);
            }
            _ => drop(servers[primary].command("SCRIPT FLUSH")),
        }
        self.await_order();
        let now = Clock::system().now();
        self.known = (self.failovers(), now);
        // Also those that nobody ordered: a busy machine is silent for longer than sentinels bear.
        Ok((before != self.known.0).then(|| Forgot::since(from, keys)))
    }
}

impl Sentinel {
    /// Returns whom all sentinels take for the primary, once they agree.
    fn primary(&self) -> usize {
        let named = |sentinel: &Server| {
            let answer = sentinel.command("SENTINEL get-master-addr-by-name locks");
            let port = |server: &Server| answer.contains(&format!("\r\n{}\r\n", server.port));
            self.watched.servers.iter().position(port)
        };
        let all = || self.watched.sentinels.iter().map(named).collect::<Option<Vec<_>>>();
        let agreed = |all: &Vec<usize>| all.windows(2).all(|pair| pair[0] == pair[1]);
        until("sentinels that agree", || all().as_ref().is_some_and(agreed));
        all().unwrap()[0]
    }

    /// Returns the highest number of a failover that a sentinel knows of.
    fn failovers(&self) -> u64 {
        let known = |sentinel: &Server| {
            let answer = sentinel.command("SENTINEL MASTER locks");
            let mut lines = answer.lines().skip_while(|line| *line != "config-epoch");
            lines.nth(2).and_then(|number| number.parse().ok())
        };
        self.watched.sentinels.iter().filter_map(known).max().unwrap()
    }

    fn await_failover(&self, old: usize) {
        until("a replica that takes over", || self.has_failed_over(old));
    }

    fn has_failed_over(&self, old: usize) -> bool {
        self.watched.servers[1 - old].is_primary() && self.primary() != old
    }

    /// Waits until one is the primary, the other follows it, and the sentinels know both.
    fn await_order(&self) {
        until("a replica that follows the primary", || {
            let primary = self.primary();
            let servers = &self.watched.servers;
            let online = servers[primary].command("INFO replication").contains("state=online");
            servers[primary].is_primary() && servers[1 - primary].is_caught_up() && online
        });
        until("sentinels that see no fault", || {
            self.watched.sentinels.iter().all(|sentinel| {
                let master = sentinel.command("SENTINEL MASTER locks");
                let replicas = sentinel.command("SENTINEL REPLICAS locks");
                master.contains("flags\r\n$6\r\nmaster\r\n")
                    && replicas.contains("flags\r\n$5\r\nslave\r\n")
            })
        });
    }
}
