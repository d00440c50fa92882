//! Runs the conformance suite on a server of its own; in full also on an ensemble of three.

mod servers;

use std::env;
use std::process::ExitCode;
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
use conformance_tests::async_trait;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_zookeeper::DRIVER;
use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;

use crate::servers::Ensemble;
use crate::servers::Server;

fn main() -> ExitCode {
    let fixture = |name, variable| -> Arc<dyn Fixture> {
        Arc::new(Zookeeper { name, variable, servers: Mutex::default() })
    };
    let mut fixtures = vec![fixture("zookeeper", "LOCK_TEST_ZOOKEEPER_URL")];
    if env::var_os("LOCK_TEST_FULL").is_some() {
        fixtures.push(fixture("zookeeper-three", "LOCK_TEST_ZOOKEEPER_THREE_URL"));
    }
    conformance_tests::run(fixtures)
}

/// One kind of servers.
struct Zookeeper {
    name: &'static str,
    /// Names servers that are there already: somebody's, or those of the program that started us.
    variable: &'static str,
    servers: Mutex<Option<(Own, String)>>,
}

/// Servers that we have started.
#[expect(dead_code, reason = "they live as long as this")]
enum Own {
    One(Server),
    Three(Ensemble),
}

impl Zookeeper {
    fn url(&self) -> Result<String> {
        if let Ok(url) = env::var(self.variable) {
            return Ok(url);
        }
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = || Error::new(ErrorKind::Config, format!("set {}", self.variable));
        servers.as_ref().map(|(_, url)| url.clone()).ok_or_else(unset)
    }

    /// Returns the servers, in the driver's own notation, and what follows them in the URL.
    fn hosts(&self) -> Result<(String, String)> {
        let url = self.url()?;
        let rest = url.trim_start_matches("zookeeper://");
        let (hosts, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok((hosts.to_owned(), query.to_owned()))
    }

    /// A client that is not ours.
    async fn cli(&self) -> Result<Client, Unsupported> {
        let (hosts, _) = self.hosts().map_err(|_| Unsupported("no server"))?;
        Client::connect(&hosts).await.map_err(|_| Unsupported("no connection"))
    }
}

async fn open(url: &str) -> Result<SharedBackend> {
    DRIVER.open(ConnectUrl::parse(url)?).await
}

fn path(key: &str) -> String {
    format!("/{key}")
}

#[async_trait]
impl Fixture for Zookeeper {
    fn name(&self) -> &str {
        self.name
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        open(&self.url()?).await
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let (hosts, query) = self.hosts()?;
        let one = hosts.split(',').next().unwrap_or_default();
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let proxy = Proxy::start(one).await.map_err(broken)?;
        let backend = open(&format!("zookeeper://{}?{query}", proxy.address())).await?;
        Ok((backend, Arc::new(proxy)))
    }

    fn longest_silence(&self) -> Duration {
        // The driver leaves a server that is silent for a third of the session's timeout.
        Duration::from_millis(200)
    }

    fn refuses_only_held(&self) -> bool {
        // A try that is about to be refused stands in line until it has left.
        false
    }

    async fn set_up(&self) -> Result<()> {
        if env::var(self.variable).is_err() {
            let own = if self.name == "zookeeper" {
                let server = Server::start();
                let url = server.url();
                (Own::One(server), url)
            } else {
                let ensemble = Ensemble::start();
                let url = ensemble.url();
                (Own::Three(ensemble), url)
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
        let client = self.cli().await.ok()?;
        let mut children = client.list_children(&path(key.as_str())).await.unwrap_or_default();
        children.sort_by_key(|name| name[name.len().saturating_sub(10)..].to_owned());
        let first = children.first();
        let token = first.and_then(|name| name.get(3..39)?.replace('-', "").parse().ok());
        Some(Probe { locked: first.is_some(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        let client = self.cli().await?;
        match fault {
            Fault::Forget => {
                let keys = client.list_children("/").await;
                for key in keys.map_err(|_| Unsupported("no answer"))? {
                    if key.starts_with(namespace) {
                        let key = path(&key);
                        for child in client.list_children(&key).await.unwrap_or_default() {
                            drop(client.delete(&format!("{key}/{child}"), None).await);
                        }
                        drop(client.delete(&key, None).await);
                    }
                }
                Ok(())
            }
            Fault::Corrupt(key) => {
                // It lives as long as its session, which ends with the client.
                let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
                let created = client.create(&path(key.as_str()), b"", &options).await;
                created.map_err(|_| Unsupported("the node exists"))?;
                tokio::spawn(async move {
                    lock_core::Clock::system().sleep(Duration::from_secs(20)).await;
                    drop(client);
                });
                Ok(())
            }
            _ => Err(Unsupported("other cases use the server at the same time")),
        }
    }
}
