//! Random faults: of one server by default; with `LOCK_TEST_FULL`, or if a length is given, also of a
//! cluster of three.

#![allow(clippy::unwrap_used, reason = "a server that cannot be struck must end the storm")]
#![allow(clippy::disallowed_methods, reason = "a fault lasts as long as it is told")]

mod servers;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Link as _;
use conformance_tests::Outcome;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use conformance_tests::async_trait;
use conformance_tests::free_port;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::Storms;
use conformance_tests::storm::Target;
use etcd_client::Client;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_etcd::DRIVER;

use crate::servers::Cluster;

fn main() -> ExitCode {
    Storms::default().usual::<Members<1>>().rare::<Members<3>>().run()
}

/// One server, or several.
struct Members<const COUNT: usize> {
    cluster: Cluster,
    /// On which they hear each other.
    peers: Vec<Proxy>,
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
impl<const COUNT: usize> Target for Members<COUNT> {
    const NAME: &str = if COUNT == 1 { "etcd" } else { "etcd-cluster" };
    const BLOWS: &[&str] = if COUNT == 1 {
        &[KILLED, FROZEN, BRIEFLY, ALL, COMPACTED, REVOKED]
    } else {
        &[KILLED, FROZEN, BRIEFLY, ALL, COMPACTED, REVOKED, OTHER, UNHEARD, APART]
    };

    /// A request that is given up, an election, the longest pause after failures.
    const RECOVERY: Duration = Duration::from_secs(8);

    async fn start() -> Outcome<Self> {
        let (mut peers, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..COUNT {
            let port = free_port();
            let proxy = Proxy::start(format!("127.0.0.1:{port}")).await?;
            ports.push((port, proxy.address().port()));
            peers.push(proxy);
        }
        Ok(Self { cluster: Cluster::between(&ports), peers })
    }

    fn url(&self) -> String {
        self.cluster.url()
    }

    /// To the first; the ways to the others stay good.
    async fn lines(&self) -> Outcome<Vec<Line>> {
        let first = format!("127.0.0.1:{}", self.cluster.servers[0].port);
        Line::two(&first, |line| self.url().replacen(&first, &line, 1)).await
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        let url = format!("{url}?reply_timeout=2s&connect_timeout=1s");
        DRIVER.open(ConnectUrl::parse(&url)?).await
    }

    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        match blow {
            COMPACTED | REVOKED => {
                let hosts = self.cluster.url();
                let hosts = hosts.trim_start_matches("etcd://").split(',');
                let client = Client::connect(hosts.collect::<Vec<_>>(), None).await?;
                if blow == COMPACTED { compact(client).await? } else { revoke(client).await? }
            }
            _ => self.hurt(blow, long),
        }
        // A majority keeps all that was ever acknowledged, but for what others take away.
        Ok((blow == REVOKED).then(|| Forgot::since(from, keys)))
    }
}

impl<const COUNT: usize> Members<COUNT> {
    fn hurt(&mut self, blow: &str, long: Duration) {
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
