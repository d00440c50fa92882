//! Runs the conformance suite on the server that `LOCK_TEST_REDIS_URL` names.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

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
use redis::AsyncTypedCommands as _;
use redis::aio::MultiplexedConnection;

const URL: &str = "LOCK_TEST_REDIS_URL";

struct Server;

impl Server {
    /// Returns `host:port`.
    fn address() -> Result<String> {
        let unset = |_| Error::new(ErrorKind::Config, format!("set {URL}"));
        Ok(env::var(URL).map_err(unset)?.trim_start_matches("redis://").to_owned())
    }

    async fn cli() -> Option<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://{}", Self::address().ok()?)).ok()?;
        client.get_multiplexed_async_connection().await.ok()
    }
}

#[async_trait]
impl Fixture for Server {
    fn name(&self) -> &str {
        "redis"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(&format!("redis://{}", Self::address()?))?).await
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let proxy = Proxy::start(Self::address()?).await.map_err(broken)?;
        let url = ConnectUrl::parse(&format!("redis://{}", proxy.address()))?;
        Ok((DRIVER.open(url).await?, Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        self.connect("").await.map(drop)
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(Vec::new())
    }

    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let value = Self::cli().await?.get(key.as_str()).await.ok()?;
        let token = value.as_ref().and_then(|value| value.rsplit(':').next()?.parse().ok());
        Some(Probe { locked: value.is_some(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        let lost = |_| Unsupported("the server did not answer");
        let mut cli = Self::cli().await.ok_or(Unsupported("no connection"))?;
        match fault {
            Fault::Forget => {
                for key in cli.keys(format!("*{namespace}*")).await.map_err(lost)? {
                    cli.del(key).await.map_err(lost)?;
                }
                Ok(())
            }
            Fault::Corrupt(key) => cli.lpush(key.as_str(), "x").await.map(drop).map_err(lost),
            _ => Err(Unsupported("the server is not this fixture's to restart")),
        }
    }
}

fn main() -> ExitCode {
    conformance_tests::run(vec![Arc::new(Server)])
}
