//! Redlock over five servers that save nothing, each behind a line of its own.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Outcome;
use conformance_tests::Proxy;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::Target;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_redis::REDLOCK;

use crate::servers::Fleet;

/// The longest TTL: a server that was restarted is out for so long.
const OUT: Duration = Duration::from_millis(1500);

const QUERY: &str = "ttl_max=1500ms&node_timeout=200ms&reply_timeout=2s&connect_timeout=1s";

pub(crate) struct Redlock {
    fleet: Fleet,
    /// The server that is hurt next.
    turn: usize,
}

const RESTARTED: &str = "one server killed and restarted without its data";
const TWO_RESTARTED: &str = "two servers killed and restarted without their data";
const TWO_FROZEN: &str = "two servers frozen";
const THREE_FROZEN: &str = "three servers frozen";
const PAUSED: &str = "one server pauses its clients";
const SCRIPTS: &str = "all servers forget scripts";

#[async_trait]
impl Target for Redlock {
    const NAME: &str = "redlock";
    const BLOWS: &[&str] = &[RESTARTED, TWO_RESTARTED, TWO_FROZEN, THREE_FROZEN, PAUSED, SCRIPTS];

    // On a busy machine five servers often take longer than one may: then votes are split and repeated.
    const RECOVERY: Duration = (crate::RECOVERY.saturating_add(OUT)).saturating_mul(3);

    async fn start() -> Outcome<Self> {
        let fleet = Fleet::start(5);
        fleet.await_age(OUT);
        Ok(Self { fleet, turn: 0 })
    }

    fn url(&self) -> String {
        self.fleet.url(QUERY)
    }

    async fn lines(&self) -> Outcome<Vec<Line>> {
        let mut proxies = Vec::new();
        for server in &self.fleet.servers {
            proxies.push(Arc::new(Proxy::start(server.name()).await?));
        }
        let names: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        let url = format!("redlock://{}?{QUERY}", names.join(","));
        let line = |link| Line { link, url: url.clone() };
        Ok(proxies.into_iter().map(|proxy| line(proxy)).collect())
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        REDLOCK.open(ConnectUrl::parse(url)?).await
    }

    fn options(options: EngineOptions) -> EngineOptions {
        crate::options(options).ttl(OUT)
    }

    /// Nothing is ever forgotten: what a majority has granted a minority cannot lose, and who has lost it
    /// does not count before it has ended.
    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        _keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        self.hurt(blow, long);
        Ok(None)
    }
}

impl Redlock {
    fn hurt(&mut self, blow: &str, long: Duration) {
        self.turn += 1;
        let (turn, servers) = (self.turn, &mut self.fleet.servers);
        let several = |count: usize| (turn..turn + count).map(|number| number % 5);
        match blow {
            RESTARTED | TWO_RESTARTED => {
                let count = if blow == RESTARTED { 1 } else { 2 };
                several(count).for_each(|number| servers[number].kill());
                sleep(long);
                several(count).for_each(|number| servers[number].restart());
                // A hold outlives the loss of two of five, and no hold of this storm is older than that.
                self.fleet.await_age(OUT * 2);
            }
            TWO_FROZEN | THREE_FROZEN => {
                let count = if blow == TWO_FROZEN { 2 } else { 3 };
                several(count).for_each(|number| servers[number].freeze());
                sleep(long * 2);
                several(count).for_each(|number| servers[number].thaw());
            }
            PAUSED => {
                servers[turn % 5].command(&format!("CLIENT PAUSE {} ALL", long.as_millis()));
                sleep(long);
            }
            _ => servers.iter().for_each(|server| drop(server.command("SCRIPT FLUSH"))),
        }
    }
}
