//! Runs the conformance suite on a server of its own and on Redlock over three; in full also on a cluster,
//! on what sentinels watch, and on Redlock over five of which two are hurt.

mod fleet;
mod servers;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Link;
use conformance_tests::Probe;
use conformance_tests::Proxy;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_redis::DRIVER;
use redis::cluster_async::ClusterConnection;

use crate::fleet::Redlock;
use crate::servers::Cluster;
use crate::servers::Server;
use crate::servers::Watched;

fn main() -> ExitCode {
    let fixture = |name, variable| -> Arc<dyn Fixture> {
        Arc::new(Redis { name, variable, servers: Mutex::default() })
    };
    let mut fixtures = vec![fixture("redis", "LOCK_TEST_REDIS_URL"), Redlock::of_three()];
    if env::var_os("LOCK_TEST_FULL").is_some() {
        fixtures.push(fixture("redis-cluster", "LOCK_TEST_REDIS_CLUSTER_URL"));
        fixtures.push(fixture("redis-sentinel", "LOCK_TEST_REDIS_SENTINEL_URL"));
        fixtures.push(Redlock::of_five_with_two_hurt());
    }
    conformance_tests::run(fixtures)
}

/// One kind of servers.
struct Redis {
    name: &'static str,
    /// Names servers that are there already: somebody's, or those of the program that started us.
    variable: &'static str,
    servers: Mutex<Option<(Own, String)>>,
}

/// Servers that we have started.
#[expect(dead_code, reason = "they live as long as this")]
enum Own {
    One(Server),
    Cluster(Cluster),
    Watched(Watched),
}

impl Redis {
    fn url(&self) -> Result<String> {
        if let Ok(url) = env::var(self.variable) {
            return Ok(url);
        }
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = || Error::new(ErrorKind::Config, format!("set {}", self.variable));
        servers.as_ref().map(|(_, url)| url.clone()).ok_or_else(unset)
    }

    async fn open(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(url)?).await
    }

    /// A client that is not ours.
    async fn cli(&self) -> Option<Cli> {
        let url = self.url().ok()?;
        if let Some(hosts) = url.strip_prefix("redis+cluster://") {
            let nodes = hosts.split(',').map(|host| format!("redis://{host}"));
            let client = redis::cluster::ClusterClient::new(nodes).ok()?;
            return Some(Cli::Cluster(client.get_async_connection().await.ok()?));
        }
        let url = match &*self.servers.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((Own::Watched(watched), _)) => watched.servers[0].url(),
            _ => url,
        };
        let client = redis::Client::open(url).ok()?;
        Some(Cli::One(client.get_multiplexed_async_connection().await.ok()?))
    }
}

enum Cli {
    One(redis::aio::MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Cli {
    async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> Result<T, Unsupported> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = match self {
            Self::One(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        };
        answer.map_err(|_| Unsupported("the server did not answer"))
    }
}

#[async_trait]
impl Fixture for Redis {
    fn name(&self) -> &str {
        self.name
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Self::open(&self.url()?).await
    }

    async fn proxied(&self, namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let url = self.url()?;
        let Some(address) = url.strip_prefix("redis://") else {
            // Clusters and sentinels name their servers by addresses that are not the proxy's.
            let tap = Arc::new(conformance_tests::Tap::new(self.connect(namespace).await?));
            return Ok((tap.clone(), tap));
        };
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let proxy = Proxy::start(address).await.map_err(broken)?;
        Ok((Self::open(&format!("redis://{}", proxy.address())).await?, Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        if env::var(self.variable).is_err() {
            let own = match self.name {
                "redis-cluster" => {
                    let cluster = Cluster::start();
                    let url = cluster.url();
                    (Own::Cluster(cluster), url)
                }
                "redis-sentinel" => {
                    let watched = Watched::start();
                    let url = watched.url();
                    (Own::Watched(watched), url)
                }
                _ => {
                    let server = Server::start(&["--save", "", "--appendonly", "no"]);
                    let url = server.url();
                    (Own::One(server), url)
                }
            };
            *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        }
        self.connect("").await.map(drop)
    }

    async fn tear_down(&self) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(self.variable.to_owned(), self.url().ok()?)])
    }

    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let value: Option<String> = self.cli().await?.ask(&["GET", key.as_str()]).await.ok()?;
        let token = value.as_ref().and_then(|value| value.rsplit(':').next()?.parse().ok());
        Some(Probe { locked: value.is_some(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        let mut cli = self.cli().await.ok_or(Unsupported("no connection"))?;
        match fault {
            Fault::Forget => {
                let pattern = format!("*{namespace}*");
                let keys: Vec<String> = cli.ask(&["KEYS", &pattern]).await?;
                for key in keys {
                    cli.ask::<i64>(&["DEL", &key]).await?;
                }
                Ok(())
            }
            Fault::Corrupt(key) => cli.ask::<i64>(&["LPUSH", key.as_str(), "x"]).await.map(drop),
            _ => Err(Unsupported("other cases use the server at the same time")),
        }
    }
}
