//! A primary and its replica, watched by three sentinels.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Fixture;
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
use tokio::task::block_in_place;

use crate::servers::Server;
use crate::servers::Watched;
use crate::servers::until;

#[derive(Default)]
pub(crate) struct Sentinel(Mutex<Option<Running>>);

struct Running {
    watched: Watched,
    /// Who was the primary, and when.
    known: (usize, BootInstant),
}

impl Sentinel {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Fixture for Sentinel {
    fn name(&self) -> &str {
        "redis-sentinel"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        crate::connect(|| self.lock().as_ref().unwrap().watched.url()).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        crate::options(options)
    }

    async fn set_up(&self) -> Result<()> {
        let watched = block_in_place(Watched::start);
        for sentinel in &watched.sentinels {
            // One failover may follow another.
            sentinel.command("SENTINEL SET locks failover-timeout 1500");
        }
        *self.lock() = Some(Running { watched, known: (0, Clock::system().now()) });
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.lock().take());
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        let url = self.lock().as_ref()?.watched.url();
        Some(vec![(crate::URL.to_owned(), url)])
    }
}

const KILLED: &str = "primary killed, replica takes over";
const FROZEN: &str = "primary frozen, replica takes over";
const ORDERED: &str = "failover by command";
const BRIEFLY: &str = "primary frozen briefly";
const REPLICA: &str = "replica restarted";
const PAUSED: &str = "primary pauses its clients";
const SCRIPTS: &str = "forgets scripts";

#[async_trait]
impl Target for Sentinel {
    fn blows(&self) -> Vec<&'static str> {
        vec![KILLED, FROZEN, ORDERED, BRIEFLY, REPLICA, PAUSED, SCRIPTS]
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        Ok(block_in_place(|| self.lock().as_mut().unwrap().strike(blow, long, keys)))
    }

    fn recovery(&self) -> Duration {
        crate::RECOVERY
    }
}

impl Running {
    /// Whoever takes over may lack the last writes, and until the old primary follows, both grant.
    fn strike(&mut self, blow: &str, long: Duration, keys: &[LockKey]) -> Option<Forgot> {
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
            ORDERED => {
                self.watched.sentinels[0].command("SENTINEL FAILOVER locks");
                self.await_failover(primary);
            }
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
        self.known = (self.primary(), now);
        let changed = before != primary || primary != self.known.0;
        changed.then(|| Forgot::since(from, keys))
    }

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

    fn await_failover(&self, old: usize) {
        let new = &self.watched.servers[1 - old];
        until("a replica that takes over", || new.is_primary() && self.primary() != old);
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
