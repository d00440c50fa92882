//! Runs the conformance suite on SQLite, with a file for each namespace.

#![expect(clippy::unwrap_used, reason = "a fixture that fails must end the run")]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Probe;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Owner;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_sqlite::SqliteConfig;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;

const DIRECTORY: &str = "LOCK_TEST_SQLITE_DIR";

fn main() -> ExitCode {
    let fresh = || env::temp_dir().join(format!("lock-sqlite-{}", std::process::id()));
    let directory = env::var_os(DIRECTORY).map_or_else(fresh, PathBuf::from);
    conformance_tests::run(vec![Arc::new(Files(directory))])
}

/// The directory of the files.
struct Files(PathBuf);

impl Files {
    fn path(&self, namespace: &str) -> PathBuf {
        self.0.join(namespace.replace(':', ".db"))
    }

    fn open(&self, namespace: &str) -> Connection {
        Connection::open(self.path(namespace)).unwrap()
    }
}

#[async_trait]
impl Fixture for Files {
    fn name(&self) -> &str {
        "sqlite"
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(lock_sqlite::connect(SqliteConfig::new(self.path(namespace))).await?))
    }

    async fn set_up(&self) -> Result<()> {
        std::fs::create_dir_all(&self.0).map_err(|error| {
            Error::new(ErrorKind::Config, "no directory for the files").with_source(error)
        })
    }

    async fn tear_down(&self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(DIRECTORY.into(), self.0.to_str()?.into())])
    }

    async fn probe(&self, namespace: &str, key: &LockKey) -> Option<Probe> {
        let select = "SELECT token FROM locks WHERE lock_key = ?1 AND token IS NOT NULL";
        let row = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let token = self.open(namespace).query_row(select, [key.as_str()], row).optional();
        let token = token.unwrap();
        Some(Probe { locked: token.is_some(), token: token.map(|token| token.parse().unwrap()) })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                let forget = "DELETE FROM locks; DELETE FROM locks_claims";
                self.open(namespace).execute_batch(forget).unwrap();
            }
            Fault::Corrupt(key) => {
                let claim = Claim::new(key, Owner::new("x").unwrap(), Duration::from_secs(60));
                self.connect(namespace).await.unwrap().attempt(&claim).await.unwrap();
                self.open(namespace)
                    .execute("UPDATE locks SET token = 'x', mode = 'x'", [])
                    .unwrap();
            }
            _ => return Err(Unsupported("a file has no server to restart")),
        }
        Ok(())
    }
}
