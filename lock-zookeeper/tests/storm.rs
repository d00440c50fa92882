//! Random faults of an ensemble of three, with `LOCK_TEST_FULL`, or if a length is given.

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
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_zookeeper::DRIVER;
use tokio::task::block_in_place;
use zookeeper_client::Client;

use crate::servers::Ensemble;
use crate::servers::SHORT;
use crate::servers::Server;

/// Tells a process where the servers are.
const URL: &str = "LOCK_STORM_ZOOKEEPER_URL";

fn main() -> ExitCode {
    let is = |name| env::var_os(name).is_some();
    let mut targets: Vec<Arc<dyn Target>> = Vec::new();
    if is("LOCK_TEST_FULL") || is(SECONDS) {
        targets.push(Arc::new(Three::default()));
    }
    conformance_tests::storm::run(targets)
}

/// An ensemble of three, behind two lines.
#[derive(Default)]
struct Three(Mutex<Option<Running>>);

struct Running {
    ensemble: Ensemble,
    lines: Vec<Line>,
    /// On which the servers hear each other: changes, and votes.
    peers: Vec<[Proxy; 2]>,
    /// The ways of clients to the other servers, which stay good.
    #[expect(dead_code, reason = "they live as long as this")]
    others: Vec<Proxy>,
}

impl Three {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running<T>(&self, act: impl FnOnce(&mut Running) -> T) -> T {
        block_in_place(|| act(self.lock().as_mut().unwrap()))
    }
}

async fn line_to(port: u16) -> Result<Proxy> {
    let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
    Proxy::start(format!("127.0.0.1:{port}")).await.map_err(broken)
}

#[async_trait]
impl Fixture for Three {
    fn name(&self) -> &str {
        "zookeeper-three"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let url = env::var(URL).unwrap_or_else(|_| self.running(|it| it.ensemble.url()));
        DRIVER.open(ConnectUrl::parse(&url)?).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        options.operation_timeout(Duration::from_secs(3))
    }

    async fn set_up(&self) -> Result<()> {
        let (mut own, mut found, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let ports = (free_port(), free_port());
            let proxies = [line_to(ports.0).await?, line_to(ports.1).await?];
            own.push(ports);
            found.push((proxies[0].address().port(), proxies[1].address().port()));
            peers.push(proxies);
        }
        let ensemble = block_in_place(|| Ensemble::between(&own, &found));
        let (mut lines, mut others) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (mut hosts, mut link) = (Vec::new(), None);
            for server in &ensemble.servers {
                let proxy = line_to(server.port).await?;
                hosts.push(proxy.address().to_string());
                match link {
                    None => link = Some(Arc::new(proxy)),
                    Some(_) => others.push(proxy),
                }
            }
            let url = format!("zookeeper://{}?{SHORT}", hosts.join(","));
            let environment = vec![(URL.to_owned(), url)];
            lines.extend(link.map(|link| Line { link, environment }));
        }
        *self.lock() = Some(Running { ensemble, lines, peers, others });
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.lock().take());
    }
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
    fn blows(&self) -> Vec<&'static str> {
        vec![KILLED, FROZEN, BRIEFLY, OTHER, ALL, CUT_OFF, APART, DELETED]
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        if blow == DELETED {
            let hosts = self.running(|it| it.ensemble.hosts());
            delete(&Client::connect(&hosts).await?, keys).await?;
            return Ok(Some(Forgot::since(from, keys)));
        }
        self.running(|running| running.strike(blow, long));
        // A majority keeps all that was ever acknowledged.
        Ok(None)
    }

    /// Servers that are killed and frozen again and again lose transactions.
    async fn mend(&self) -> Outcome<Option<&'static str>> {
        Ok(self.running(Running::mend))
    }

    fn lines(&self) -> Vec<Line> {
        self.lock().as_ref().map(|running| running.lines.clone()).unwrap_or_default()
    }

    /// A silent server that is left, an election, the longest pause after failures.
    fn recovery(&self) -> Duration {
        Duration::from_secs(10)
    }
}

impl Running {
    fn strike(&mut self, blow: &str, long: Duration) {
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
}

impl Running {
    /// Lets those begin anew that show what their leader does not have, and does not get either.
    fn mend(&mut self) -> Option<&'static str> {
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
