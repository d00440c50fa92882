//! Random faults of an ensemble of three, with `LOCK_TEST_FULL`, or if a length is given.

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
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_zookeeper::DRIVER;
use zookeeper_client::Client;

use crate::servers::Ensemble;
use crate::servers::Server;

fn main() -> ExitCode {
    Storms::default().rare::<Three>().run()
}

struct Three {
    ensemble: Ensemble,
    /// On which the servers hear each other: changes, and votes.
    peers: Vec<[Proxy; 2]>,
}

const KILLED: &str = "leader killed and restarted";
const FROZEN: &str = "leader frozen";
const BRIEFLY: &str = "leader frozen briefly";
const OTHER: &str = "another server frozen";
const ALL: &str = "all killed and restarted";
const CUT_OFF: &str = "leader cut off from the others";
const APART: &str = "no server hears another";
const DELETED: &str = "all contenders deleted";

#[async_trait]
impl Target for Three {
    const NAME: &str = "zookeeper-three";
    const BLOWS: &[&str] = &[KILLED, FROZEN, BRIEFLY, OTHER, ALL, CUT_OFF, APART, DELETED];

    /// A silent server that is left, an election, the longest pause after failures.
    const RECOVERY: Duration = Duration::from_secs(10);

    async fn start() -> Outcome<Self> {
        let (mut own, mut found, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let ports = (free_port(), free_port());
            let line = async |port| Proxy::start(format!("127.0.0.1:{port}")).await;
            let proxies = [line(ports.0).await?, line(ports.1).await?];
            own.push(ports);
            found.push((proxies[0].address().port(), proxies[1].address().port()));
            peers.push(proxies);
        }
        Ok(Self { ensemble: Ensemble::between(&own, &found), peers })
    }

    fn url(&self) -> String {
        self.ensemble.url()
    }

    /// To the first; the ways to the others stay good.
    async fn lines(&self) -> Outcome<Vec<Line>> {
        let first = format!("127.0.0.1:{}", self.ensemble.servers[0].port);
        Line::two(&first, |line| self.url().replacen(&first, &line, 1)).await
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(url)?).await
    }

    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        if blow == DELETED {
            delete(&Client::connect(&self.ensemble.hosts()).await?, keys).await?;
            return Ok(Some(Forgot::since(from, keys)));
        }
        self.hurt(blow, long);
        // A majority keeps all that was ever acknowledged.
        Ok(None)
    }

    /// Servers that are killed and frozen again and again lose transactions.
    async fn mend(&mut self) -> Outcome<Option<&'static str>> {
        Ok(self.begin_anew())
    }
}

impl Three {
    fn hurt(&mut self, blow: &str, long: Duration) {
        let servers = &mut self.ensemble.servers;
        let leader = servers.iter().position(Server::is_leader).unwrap_or(0);
        match blow {
            KILLED => {
                servers[leader].kill();
                sleep(long);
                servers[leader].restart();
            }
            ALL => {
                servers.iter_mut().for_each(Server::kill);
                servers.iter_mut().for_each(Server::restart);
            }
            CUT_OFF | APART => {
                let struck = if blow == CUT_OFF { leader..leader + 1 } else { 0..3 };
                let weather = if blow == CUT_OFF { Weather::Hangs } else { Weather::Down };
                let lines = || self.peers[struck.clone()].iter().flatten();
                lines().for_each(|line| line.set(weather));
                sleep(long * 2);
                lines().for_each(|line| line.set(Weather::Fair));
            }
            _ => {
                let struck = if blow == OTHER { (leader + 1) % servers.len() } else { leader };
                servers[struck].freeze();
                sleep(if blow == BRIEFLY { long / 4 } else { long * 3 });
                servers[struck].thaw();
            }
        }
        self.ensemble.await_ready();
    }

    /// Lets those begin anew that show what their leader does not have, and does not get either.
    fn begin_anew(&mut self) -> Option<&'static str> {
        let ghosts = |ensemble: &Ensemble| {
            let all: Vec<_> = ensemble.servers.iter().map(Server::ephemerals).collect();
            let leaders = &all[ensemble.leader()];
            all.iter().map(|its| its - leaders).collect::<Vec<_>>()
        };
        let before = ghosts(&self.ensemble);
        sleep(Duration::from_secs(2));
        let after = ghosts(&self.ensemble);
        let stay = before.iter().zip(&after).map(|(before, after)| before & after);
        let mut mended = None;
        for (server, _) in stay.enumerate().filter(|(_, ghosts)| !ghosts.is_empty()) {
            self.ensemble.servers[server].begin_anew();
            mended = Some("a server showed nodes that its leader did not have");
        }
        self.ensemble.await_ready();
        mended
    }
}

/// Takes away all that stands in line for `keys`.
async fn delete(client: &Client, keys: &[LockKey]) -> Outcome {
    for key in keys {
        let path = format!("/{key}");
        for name in client.list_children(&path).await.unwrap_or_default() {
            // It may have gone by itself.
            drop(client.delete(&format!("{path}/{name}"), None).await);
        }
    }
    Ok(())
}
