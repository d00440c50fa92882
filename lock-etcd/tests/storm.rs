//! Random faults: of one server by default; with `LOCK_TEST_FULL`, or if a length is given, also of a
//! cluster of three.

#![allow(clippy::unwrap_used, reason = "a server that cannot be struck must end the storm")]
#![allow(clippy::disallowed_methods, reason = "a fault lasts as long as it is told")]

mod servers;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Fixture;
use conformance_tests::Link as _;
use conformance_tests::Outcome;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use conformance_tests::async_trait;
use conformance_tests::free_port;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::SECONDS;
use conformance_tests::storm::Target;
use etcd_client::Client;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_etcd::DRIVER;
use tokio::task::block_in_place;

use crate::servers::Cluster;

/// Tells a process where the servers are.
const URL: &str = "LOCK_STORM_ETCD_URL";

fn main() -> ExitCode {
    let mut targets: Vec<Arc<dyn Target>> = vec![Arc::new(Members::new("etcd", 1))];
    let is = |name| env::var_os(name).is_some();
    if is("LOCK_TEST_FULL") || is(SECONDS) {
        targets.push(Arc::new(Members::new("etcd-cluster", 3)));
    }
    conformance_tests::storm::run(targets)
}

/// One server, or three, behind two lines.
struct Members {
    name: &'static str,
    count: usize,
    running: Mutex<Option<Running>>,
}

struct Running {
    cluster: Cluster,
    lines: Vec<Line>,
    /// On which the members hear each other.
    peers: Vec<Proxy>,
    /// The ways of clients to the other members, which stay good.
    #[expect(dead_code, reason = "they live as long as this")]
    others: Vec<Proxy>,
}

impl Members {
    fn new(name: &'static str, count: usize) -> Self {
        Self { name, count, running: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        block_in_place(|| act(&mut self.lock().as_mut().unwrap().cluster))
    }
}

#[async_trait]
impl Fixture for Members {
    fn name(&self) -> &str {
        self.name
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let url = env::var(URL).unwrap_or_else(|_| self.cluster(|cluster| cluster.url()));
        let url = format!("{url}?reply_timeout=2s&connect_timeout=1s");
        DRIVER.open(ConnectUrl::parse(&url)?).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        options.operation_timeout(Duration::from_secs(3))
    }

    async fn set_up(&self) -> Result<()> {
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let (mut peers, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..self.count {
            let port = free_port();
            let proxy = Proxy::start(format!("127.0.0.1:{port}")).await.map_err(broken)?;
            ports.push((port, proxy.address().port()));
            peers.push(proxy);
        }
        let cluster = block_in_place(|| Cluster::between(&ports));
        let (mut lines, mut others) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let mut hosts = Vec::new();
            let mut link = None;
            for server in &cluster.servers {
                let proxy =
                    Proxy::start(format!("127.0.0.1:{}", server.port)).await.map_err(broken)?;
                hosts.push(proxy.address().to_string());
                match link {
                    None => link = Some(Arc::new(proxy)),
                    Some(_) => others.push(proxy),
                }
            }
            let environment = vec![(URL.to_owned(), format!("etcd://{}", hosts.join(",")))];
            lines.extend(link.map(|link| Line { link, environment }));
        }
        *self.lock() = Some(Running { cluster, lines, peers, others });
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.lock().take());
    }
}

const KILLED: &str = "leader killed and restarted";
const FROZEN: &str = "leader frozen";
const BRIEFLY: &str = "leader frozen briefly";
const OTHER: &str = "another member frozen";
const ALL: &str = "all killed and restarted";
const UNHEARD: &str = "nobody hears the leader";
const APART: &str = "no member hears another";
const COMPACTED: &str = "history compacted";
const REVOKED: &str = "all leases revoked";

#[async_trait]
impl Target for Members {
    fn blows(&self) -> Vec<&'static str> {
        let mut blows = vec![KILLED, FROZEN, BRIEFLY, ALL, COMPACTED, REVOKED];
        if self.count > 1 {
            blows.extend([OTHER, UNHEARD, APART]);
        }
        blows
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        match blow {
            COMPACTED | REVOKED => {
                let hosts = self.cluster(|cluster| cluster.url());
                let hosts = hosts.trim_start_matches("etcd://").split(',');
                let client = Client::connect(hosts.collect::<Vec<_>>(), None).await?;
                if blow == COMPACTED { compact(client).await? } else { revoke(client).await? }
            }
            _ => block_in_place(|| self.lock().as_mut().unwrap().strike(blow, long)),
        }
        // A majority keeps all that was ever acknowledged, but for what others take away.
        Ok((blow == REVOKED).then(|| Forgot::since(from, keys)))
    }

    fn lines(&self) -> Vec<Line> {
        self.lock().as_ref().map(|running| running.lines.clone()).unwrap_or_default()
    }

    /// A request that is given up, an election, the longest pause after failures.
    fn recovery(&self) -> Duration {
        Duration::from_secs(8)
    }
}

impl Running {
    fn strike(&mut self, blow: &str, long: Duration) {
        let cluster = &mut self.cluster;
        let leader = cluster.leader();
        let other = (leader + 1) % cluster.servers.len();
        match blow {
            KILLED => {
                cluster.servers[leader].kill();
                sleep(long);
                cluster.servers[leader].restart();
            }
            ALL => {
                cluster.servers.iter_mut().for_each(servers::Server::kill);
                cluster.servers.iter_mut().for_each(servers::Server::revive);
            }
            UNHEARD => {
                self.peers[leader].set(Weather::Hangs);
                sleep(long * 2);
                self.peers[leader].set(Weather::Fair);
            }
            APART => {
                self.peers.iter().for_each(|line| line.set(Weather::Down));
                sleep(long);
                self.peers.iter().for_each(|line| line.set(Weather::Fair));
            }
            _ => {
                let struck = if blow == OTHER { other } else { leader };
                cluster.servers[struck].freeze();
                sleep(if blow == BRIEFLY { long / 4 } else { long * 2 });
                cluster.servers[struck].thaw();
            }
        }
        cluster.await_ready();
    }
}

/// Forgets all but the present.
async fn compact(mut client: Client) -> Outcome {
    let revision = client.get("x", None).await?.header().map_or(0, |header| header.revision());
    client.compact(revision, None).await?;
    Ok(())
}

/// Takes away all that clients hold.
async fn revoke(mut client: Client) -> Outcome {
    for lease in client.leases().await?.leases() {
        // One may have ended by itself.
        drop(client.lease_revoke(lease.id()).await);
    }
    Ok(())
}
