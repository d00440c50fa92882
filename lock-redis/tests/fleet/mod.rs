//! Redlock as the suite sees it: over three servers, or over five of which one is dead and one is frozen.

use std::env;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Link;
use conformance_tests::Probe;
use conformance_tests::Proxy;
use conformance_tests::Unsupported;
use conformance_tests::Weather;
use conformance_tests::async_trait;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_core::Token;
use lock_redis::REDLOCK;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

use crate::servers::Fleet;

/// Beyond the longest TTL of the driver's default, and the drift of that.
const AGE: Duration = Duration::from_secs(61);

/// A quorum over servers that are there already (in `variable`: their `redis://` URLs, separated by
/// commas), or that are started and grown old.
pub(crate) struct Redlock {
    name: &'static str,
    variable: &'static str,
    /// The members that are killed and frozen when they are old enough.
    hurt: Option<(usize, usize)>,
    size: usize,
    fleet: Mutex<Option<Fleet>>,
}

impl Redlock {
    pub(crate) fn of_three() -> Arc<dyn Fixture> {
        let (name, variable) = ("redlock", "LOCK_TEST_REDLOCK_URLS");
        Arc::new(Self { name, variable, hurt: None, size: 3, fleet: Mutex::default() })
    }

    pub(crate) fn of_five_with_two_hurt() -> Arc<dyn Fixture> {
        let (name, variable) = ("redlock-two-hurt", "LOCK_TEST_REDLOCK_HURT_URLS");
        Arc::new(Self { name, variable, hurt: Some((1, 3)), size: 5, fleet: Mutex::default() })
    }

    fn urls(&self) -> Result<String> {
        if let Ok(urls) = env::var(self.variable) {
            return Ok(urls);
        }
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = || Error::new(ErrorKind::Config, format!("set {}", self.variable));
        fleet.as_ref().map(Fleet::urls).ok_or_else(unset)
    }

    fn names(&self) -> Result<Vec<String>> {
        let bare = |url: &str| url.trim_start_matches("redis://").to_owned();
        Ok(self.urls()?.split(',').map(bare).collect())
    }

    /// Those that answer.
    async fn living(&self) -> Vec<MultiplexedConnection> {
        let mut living = Vec::new();
        for name in self.names().unwrap_or_default() {
            let Ok(client) = redis::Client::open(format!("redis://{name}")) else { continue };
            living.extend(client.get_multiplexed_async_connection().await);
        }
        living
    }
}

/// Waits until a server counts, which somebody else may have started a moment ago.
async fn await_age(mut server: MultiplexedConnection) -> Result<()> {
    let unknown = |failure| Error::new(ErrorKind::Unavailable, "no age").with_source(failure);
    let mut info = redis::cmd("INFO");
    info.arg("server");
    loop {
        let facts: redis::InfoDict = info.query_async(&mut server).await.map_err(unknown)?;
        let age = Duration::from_secs(facts.get("uptime_in_seconds").unwrap_or(0));
        if age > AGE {
            return Ok(());
        }
        sleep(AGE.saturating_sub(age).max(Duration::from_millis(100))).await;
    }
}

/// With more patience than by default, for cases slow the lines down.
const PATIENT: &str = "500ms";

/// Where a member is frozen the first call of each client may wait for it so long.
const HURRIED: &str = "200ms";

async fn open(names: &[String], patience: &str) -> Result<SharedBackend> {
    let url = format!("redlock://{}?node_timeout={patience}", names.join(","));
    REDLOCK.open(ConnectUrl::parse(&url)?).await
}

#[async_trait]
impl Fixture for Redlock {
    fn name(&self) -> &str {
        self.name
    }

    fn refuses_only_held(&self) -> bool {
        false
    }

    fn repeats_fences(&self) -> bool {
        false
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        open(&self.names()?, if self.hurt.is_some() { HURRIED } else { PATIENT }).await
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let (mut lines, mut names) = (Vec::new(), Vec::new());
        for name in self.names()? {
            let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
            let line = Proxy::start(name).await.map_err(broken)?;
            names.push(line.address().to_string());
            lines.push(line);
        }
        Ok((open(&names, PATIENT).await?, Arc::new(Lines(lines))))
    }

    async fn set_up(&self) -> Result<()> {
        if env::var(self.variable).is_err() {
            let mut fleet = Fleet::start(self.size);
            fleet.await_age(AGE);
            if let Some((dead, frozen)) = self.hurt {
                fleet.servers[dead].kill();
                fleet.servers[frozen].freeze();
            }
            *self.fleet.lock().unwrap_or_else(PoisonError::into_inner) = Some(fleet);
        } else {
            for server in self.living().await {
                await_age(server).await?;
            }
        }
        self.connect("").await.map(drop)
    }

    async fn tear_down(&self) {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(self.variable.to_owned(), self.urls().ok()?)])
    }

    /// What a majority of all shows.
    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let need = self.size / 2 + 1;
        let mut tokens: Vec<Token> = Vec::new();
        for mut server in self.living().await {
            let mut get = redis::cmd("GET");
            let value: Option<String> =
                get.arg(key.as_str()).query_async(&mut server).await.ok()?;
            tokens.extend(value.and_then(|value| value.parse::<Token>().ok()));
        }
        let most = |token: &&Token| tokens.iter().filter(|it| it == token).count() >= need;
        let token = tokens.iter().find(most).copied();
        Some(Probe { locked: token.is_some(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        let failed = |_| Unsupported("a server did not answer");
        for mut server in self.living().await {
            match &fault {
                Fault::Forget => {
                    let (mut find, mut delete) = (redis::cmd("KEYS"), redis::cmd("DEL"));
                    find.arg(format!("*{namespace}*"));
                    let keys: Vec<String> = find.query_async(&mut server).await.map_err(failed)?;
                    if !keys.is_empty() {
                        delete.arg(keys).exec_async(&mut server).await.map_err(failed)?;
                    }
                }
                Fault::Corrupt(_) if self.hurt.is_some() => {
                    return Err(Unsupported("with the two that are down too few can name it"));
                }
                Fault::Corrupt(key) => {
                    let mut push = redis::cmd("LPUSH");
                    push.arg(key.as_str()).arg("x");
                    push.exec_async(&mut server).await.map_err(failed)?;
                }
                _ => return Err(Unsupported("servers that restart are out for the longest TTL")),
            }
        }
        Ok(())
    }
}

/// The lines to all members, which share their weather.
struct Lines(Vec<Proxy>);

impl Link for Lines {
    fn set(&self, weather: Weather) {
        self.0.iter().for_each(|line| line.set(weather));
    }
}
