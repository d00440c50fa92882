//! Runs the conformance suite on the server that `LOCK_TEST_ETCD_URL` names.

use std::env;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

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
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use spike_etcd::Etcd;

const URL: &str = "LOCK_TEST_ETCD_URL";

/// The TTL of the shared lease: cases that wait for its end do so within seconds.
const TTL: Duration = Duration::from_secs(4);

struct Server;

impl Server {
    /// Returns `host:port`.
    fn address() -> Result<String> {
        let unset = |_| Error::new(ErrorKind::Config, format!("set {URL}"));
        Ok(env::var(URL).map_err(unset)?.trim_start_matches("etcd://").to_owned())
    }

    async fn etcdctl() -> Option<Client> {
        Client::connect([Self::address().ok()?], None).await.ok()
    }
}

fn broken(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "no proxy").with_source(error)
}

#[async_trait]
impl Fixture for Server {
    fn name(&self) -> &str {
        "etcd"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(Etcd::connect(&format!("etcd://{}", Self::address()?), TTL).await?))
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let proxy = Proxy::start(Self::address()?).await.map_err(broken)?;
        let client = Etcd::connect(&format!("etcd://{}", proxy.address()), TTL).await?;
        Ok((Arc::new(client), Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        self.connect("").await.map(drop)
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(Vec::new())
    }

    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let below = GetOptions::new().with_prefix().with_keys_only();
        let answer = Self::etcdctl().await?.get(format!("{key}/"), Some(below)).await.ok()?;
        let name = answer.kvs().first().and_then(|kv| kv.key_str().ok());
        let token = name.and_then(|name| name.rsplit('/').next()?.parse().ok());
        Some(Probe { locked: name.is_some(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                let mut client = Self::etcdctl().await.ok_or(Unsupported("no connection"))?;
                let all = DeleteOptions::new().with_prefix();
                let deleted = client.delete(namespace, Some(all)).await;
                deleted.map(drop).map_err(|_| Unsupported("the keys could not be deleted"))
            }
            Fault::Corrupt(_) => Err(Unsupported("any key below the lock's is a contender")),
            _ => Err(Unsupported("the server is not this fixture's to restart")),
        }
    }
}

fn main() -> ExitCode {
    conformance_tests::run(vec![Arc::new(Server)])
}
