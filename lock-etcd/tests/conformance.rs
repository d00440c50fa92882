//! Runs the conformance suite on a server of its own; in full also on a cluster of three.

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
use etcd_client::Client;
use etcd_client::DeleteOptions;
use etcd_client::GetOptions;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_etcd::DRIVER;

use crate::servers::Cluster;
use crate::servers::Server;

fn main() -> ExitCode {
    let fixture = |name, variable| -> Arc<dyn Fixture> {
        Arc::new(Etcd { name, variable, servers: Mutex::default() })
    };
    let mut fixtures = vec![fixture("etcd", "LOCK_TEST_ETCD_URL")];
    if env::var_os("LOCK_TEST_FULL").is_some() {
        fixtures.push(fixture("etcd-cluster", "LOCK_TEST_ETCD_CLUSTER_URL"));
    }
    conformance_tests::run(fixtures)
}

/// One kind of servers.
struct Etcd {
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
}

impl Etcd {
    fn url(&self) -> Result<String> {
        let own = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        match &*own {
            Some((_, url)) => Ok(url.clone()),
            None => env::var(self.variable)
                .map_err(|_| Error::new(ErrorKind::Config, format!("set {}", self.variable))),
        }
    }

    async fn open(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(url)?).await
    }

    async fn etcdctl(&self) -> Option<Client> {
        let url = self.url().ok()?;
        let hosts: Vec<_> = url.trim_start_matches("etcd://").split(',').collect();
        Client::connect(hosts, None).await.ok()
    }
}

#[async_trait]
impl Fixture for Etcd {
    fn name(&self) -> &str {
        self.name
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Self::open(&self.url()?).await
    }

    async fn proxied(&self, namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let url = self.url()?;
        let address = url.trim_start_matches("etcd://");
        if address.contains(',') {
            let tap = Arc::new(conformance_tests::Tap::new(self.connect(namespace).await?));
            return Ok((tap.clone(), tap));
        }
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let proxy = Proxy::start(address).await.map_err(broken)?;
        Ok((Self::open(&format!("etcd://{}", proxy.address())).await?, Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        if env::var(self.variable).is_err() {
            let own = if self.name == "etcd-cluster" {
                let cluster = Cluster::start();
                let url = cluster.url();
                (Own::Cluster(cluster), url)
            } else {
                let server = Server::start(&[]);
                let url = server.url();
                (Own::One(server), url)
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
        let below = GetOptions::new().with_prefix().with_keys_only();
        let answer = self.etcdctl().await?.get(format!("{key}/"), Some(below)).await.ok()?;
        // A contender's name is no token.
        Some(Probe { locked: !answer.kvs().is_empty(), token: None })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                let mut client = self.etcdctl().await.ok_or(Unsupported("no connection"))?;
                let all = DeleteOptions::new().with_prefix();
                let deleted = client.delete(namespace, Some(all)).await;
                deleted.map(drop).map_err(|_| Unsupported("the keys could not be deleted"))
            }
            Fault::Corrupt(_) => Err(Unsupported("any key below the lock's is a contender")),
            _ => Err(Unsupported("other cases use the server at the same time")),
        }
    }
}
