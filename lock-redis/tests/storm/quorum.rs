//! Redlock over five servers that save nothing, each behind a line of its own.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Fixture;
use conformance_tests::Outcome;
use conformance_tests::Proxy;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::Target;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_redis::REDLOCK;
use tokio::task::block_in_place;

use crate::servers::Fleet;

/// The longest TTL: a server that was restarted is out for so long.
const OUT: Duration = Duration::from_millis(1500);

const QUERY: &str = "ttl_max=1500ms&node_timeout=200ms&reply_timeout=2s&connect_timeout=1s";

#[derive(Default)]
pub(crate) struct Redlock(Mutex<Option<Running>>);

struct Running {
    fleet: Fleet,
    lines: Vec<Line>,
    /// The server that is hurt next.
    turn: usize,
}

impl Redlock {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Fixture for Redlock {
    fn name(&self) -> &str {
        "redlock"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let own = || self.lock().as_ref().unwrap().fleet.url(QUERY);
        let url = std::env::var(crate::URL).unwrap_or_else(|_| own());
        REDLOCK.open(ConnectUrl::parse(&url)?).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        crate::options(options).ttl(OUT)
    }

    async fn set_up(&self) -> Result<()> {
        let fleet = block_in_place(|| {
            let fleet = Fleet::start(5);
            fleet.await_age(OUT);
            fleet
        });
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let mut proxies = Vec::new();
        for server in &fleet.servers {
            proxies.push(Arc::new(Proxy::start(server.name()).await.map_err(broken)?));
        }
        let names: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        let url = format!("redlock://{}?{QUERY}", names.join(","));
        let line = |link| Line { link, environment: vec![(crate::URL.to_owned(), url.clone())] };
        let lines = proxies.into_iter().map(|proxy| line(proxy)).collect();
        *self.lock() = Some(Running { fleet, lines, turn: 0 });
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.lock().take());
    }
}

const RESTARTED: &str = "one server killed and restarted without its data";
const TWO_RESTARTED: &str = "two servers killed and restarted without their data";
const TWO_FROZEN: &str = "two servers frozen";
const THREE_FROZEN: &str = "three servers frozen";
const PAUSED: &str = "one server pauses its clients";
const SCRIPTS: &str = "all servers forget scripts";

#[async_trait]
impl Target for Redlock {
    fn blows(&self) -> Vec<&'static str> {
        vec![RESTARTED, TWO_RESTARTED, TWO_FROZEN, THREE_FROZEN, PAUSED, SCRIPTS]
    }

    /// Nothing is ever forgotten: what a majority has granted a minority cannot lose, and who has lost it
    /// does not count before it has ended.
    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        _keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        block_in_place(|| self.lock().as_mut().unwrap().strike(blow, long));
        Ok(None)
    }

    fn lines(&self) -> Vec<Line> {
        self.lock().as_ref().map(|running| running.lines.clone()).unwrap_or_default()
    }

    fn recovery(&self) -> Duration {
        crate::RECOVERY + OUT
    }
}

impl Running {
    fn strike(&mut self, blow: &str, long: Duration) {
        self.turn += 1;
        let (turn, servers) = (self.turn, &mut self.fleet.servers);
        let hurt = |count: usize| (turn..turn + count).map(|number| number % 5);
        match blow {
            RESTARTED | TWO_RESTARTED => {
                let count = if blow == RESTARTED { 1 } else { 2 };
                hurt(count).for_each(|number| servers[number].kill());
                sleep(long);
                hurt(count).for_each(|number| servers[number].restart());
                // A hold outlives the loss of two of five, and no hold of this storm is older than that.
                self.fleet.await_age(OUT * 2);
            }
            TWO_FROZEN | THREE_FROZEN => {
                let count = if blow == TWO_FROZEN { 2 } else { 3 };
                hurt(count).for_each(|number| servers[number].freeze());
                sleep(long * 2);
                hurt(count).for_each(|number| servers[number].thaw());
            }
            PAUSED => {
                servers[turn % 5].command(&format!("CLIENT PAUSE {} ALL", long.as_millis()));
                sleep(long);
            }
            _ => servers.iter().for_each(|server| drop(server.command("SCRIPT FLUSH"))),
        }
    }
}
