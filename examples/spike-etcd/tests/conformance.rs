//! Runs the conformance suite on the server that `LOCK_TEST_ETCD_URL` names.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conformance_tests::Fixture;
use conformance_tests::async_trait;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use lock_core::SharedBackend;
use spike_etcd::Etcd;

const URL: &str = "LOCK_TEST_ETCD_URL";

/// the TTL of the shared lease: cases that wait for that end within seconds.
const TTL: Duration = Duration::from_secs(4);

struct Server;

impl Server {
    fn url() -> Result<String> {
        env::var(URL).map_err(|_| Error::new(ErrorKind::Config, format!("set {URL}")))
    }
}

#[async_trait]
impl Fixture for Server {
    fn name(&self) -> &str {
        "etcd"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(Etcd::connect(&Self::url()?, TTL).await?))
    }

    async fn set_up(&self) -> Result<()> {
        self.connect("").await.map(drop)
    }
}

fn main() -> ExitCode {
    conformance_tests::run(vec![Arc::new(Server)])
}
