//! Runs the conformance suite on a MariaDB server of its own, and on MySQL where there is one.

#![expect(clippy::unwrap_used, reason = "a fixture that fails must end the run")]

mod servers;

use std::env;
use std::error::Error as StdError;
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
use lock_core::Claim;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Owner;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_mysql::DRIVER;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::without_found_rows;

fn main() -> ExitCode {
    let fixture = |name: &'static str, variable| -> Arc<dyn Fixture> {
        let counts_changes = name.ends_with("changed-rows");
        Arc::new(Sql { name, variable, counts_changes, server: Mutex::default() })
    };
    let mut fixtures = vec![fixture("mariadb", "LOCK_TEST_MYSQL_URL")];
    if env::var_os(MYSQL).is_some() {
        fixtures.push(fixture("mysql", MYSQL));
    } else {
        eprintln!("not run: the suite on MySQL, as {MYSQL} names no server");
    }
    if env::var_os("LOCK_TEST_FULL").is_some() {
        fixtures.push(fixture("mariadb-changed-rows", "LOCK_TEST_MYSQL_CHANGED_ROWS_URL"));
        if env::var_os(MYSQL).is_some() {
            fixtures.push(fixture("mysql-changed-rows", MYSQL));
        }
    }
    conformance_tests::run(fixtures)
}

/// Names a MySQL server: Debian has none to start.
const MYSQL: &str = "LOCK_TEST_MYSQL9_URL";

/// One kind of server.
struct Sql {
    name: &'static str,
    /// Names a server that is there already: somebody's, or that of the program that started us.
    variable: &'static str,
    /// Whether the server is to count changed rows instead of matched ones.
    counts_changes: bool,
    server: Mutex<Option<Server>>,
}

impl Sql {
    fn url(&self) -> Result<String> {
        if let Ok(url) = env::var(self.variable) {
            return Ok(url);
        }
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = || Error::new(ErrorKind::Config, format!("set {}", self.variable));
        server.as_ref().map(Server::url).ok_or_else(unset)
    }

    async fn cli(&self) -> Cli {
        Cli::connect(&self.url().unwrap()).await
    }

    async fn open(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(url)?).await
    }
}

fn broken(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "the fixture does not work").with_source(error)
}

#[async_trait]
impl Fixture for Sql {
    fn name(&self) -> &str {
        self.name
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let url = self.url()?;
        if self.counts_changes {
            return Self::open(&without_found_rows(&url).await).await;
        }
        Self::open(&url).await
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let url = self.url()?;
        let parsed = ConnectUrl::parse(&url)?;
        let address = parsed.hosts()[0].to_string();
        let proxy = Proxy::start(address.clone()).await.map_err(broken)?;
        let through = url.replace(&address, &proxy.address().to_string());
        Ok((Self::open(&through).await?, Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        if env::var(self.variable).is_err() {
            let server = Server::start(&["--max-connections=1000"]);
            *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        }
        // Cases tell who came first by the time that a commit takes, which is not to be the disk's.
        let relaxed = "SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL sync_binlog = 0";
        self.cli().await.run(relaxed).await.map_err(broken)?;
        self.connect("").await.map(drop)
    }

    async fn tear_down(&self) {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(self.variable.to_owned(), self.url().ok()?)])
    }

    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let select = format!(
            "SELECT token FROM distributed_locks WHERE lock_key = '{}' AND expires_at > NOW(6)",
            key.as_str()
        );
        let rows = self.cli().await.rows(&select).await;
        let token = rows.first().and_then(|row| row[0].parse().ok());
        Some(Probe { locked: !rows.is_empty(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        let mut cli = self.cli().await;
        match fault {
            Fault::Forget => {
                for table in ["distributed_locks", "distributed_locks_claims"] {
                    let forget = format!("DELETE FROM {table} WHERE lock_key LIKE '{namespace}%'");
                    cli.run(&forget).await.unwrap();
                }
            }
            Fault::Corrupt(key) => {
                let owner = Owner::new("x").unwrap();
                let claim = Claim::new(key.clone(), owner, std::time::Duration::from_secs(60));
                self.connect(namespace).await.unwrap().attempt(&claim).await.unwrap();
                let spoil = format!(
                    "UPDATE distributed_locks SET token = 'x', mode = 'x' WHERE lock_key = '{}'",
                    key.as_str()
                );
                cli.run(&spoil).await.unwrap();
            }
            _ => return Err(Unsupported("other cases use the server at the same time")),
        }
        Ok(())
    }
}
