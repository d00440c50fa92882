//! Runs the conformance suite on combinations of SQLite files: a quorum over three, whole and with one
//! that fails, and a dual over two; also from several processes.

#![expect(clippy::unwrap_used, reason = "a fixture that fails must end the run")]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Link as _;
use conformance_tests::Probe;
use conformance_tests::Tap;
use conformance_tests::Unsupported;
use conformance_tests::Weather;
use conformance_tests::async_trait;
use lock_core::Dual;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Member;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_core::Token;
use lock_sqlite::SqliteConfig;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;

const DIRECTORY: &str = "LOCK_TEST_SQLITE_QUORUM_DIR";

fn main() -> ExitCode {
    let fresh = || env::temp_dir().join(format!("lock-sqlite-quorum-{}", std::process::id()));
    let directory = env::var_os(DIRECTORY).map_or_else(fresh, PathBuf::from);
    let fixture = |name, shape| -> Arc<dyn Fixture> {
        Arc::new(Files { name, shape, directory: directory.join(name) })
    };
    let code = conformance_tests::run(vec![
        fixture("quorum", Shape::Quorum),
        fixture("quorum-one-failing", Shape::OneFailing),
        fixture("dual", Shape::Dual),
    ]);
    if env::var_os(DIRECTORY).is_none() {
        let _ = std::fs::remove_dir(directory);
    }
    code
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Quorum,
    OneFailing,
    Dual,
}

/// A directory with some files for each namespace.
struct Files {
    name: &'static str,
    shape: Shape,
    directory: PathBuf,
}

impl Files {
    fn size(&self) -> usize {
        if self.shape == Shape::Dual { 2 } else { 3 }
    }

    fn path(&self, namespace: &str, member: usize) -> PathBuf {
        self.directory.join(namespace.replace(':', &format!("-{member}.db")))
    }

    fn open(&self, namespace: &str, member: usize) -> Connection {
        Connection::open(self.path(namespace, member)).unwrap()
    }

    async fn member(&self, namespace: &str, number: usize) -> Result<Member> {
        let config = SqliteConfig::new(self.path(namespace, number));
        let backend: SharedBackend = Arc::new(lock_sqlite::connect(config).await?);
        let name = format!("file {number}");
        if self.shape == Shape::OneFailing && number == 1 {
            let tap = Tap::new(backend);
            tap.set(Weather::Down);
            return Ok(Member::new(name, Arc::new(tap)));
        }
        Ok(Member::new(name, backend))
    }

    fn token(&self, namespace: &str, member: usize, key: &LockKey) -> Option<Token> {
        let select = "SELECT token FROM locks WHERE lock_key = ?1 AND token IS NOT NULL";
        let row = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let connection = self.open(namespace, member);
        let token = connection.query_row(select, [key.as_str()], row).optional();
        token.unwrap().map(|token| token.parse().unwrap())
    }
}

#[async_trait]
impl Fixture for Files {
    fn name(&self) -> &str {
        self.name
    }

    fn repeats_fences(&self) -> bool {
        self.shape == Shape::Dual
    }

    fn refuses_only_held(&self) -> bool {
        false
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        let mut members = Vec::new();
        for number in 0..self.size() {
            members.push(self.member(namespace, number).await?);
        }
        // Sixteen cases at a time, each with several clients of three files: a busy disk is no failure.
        let options = QuorumOptions::new().budget(Duration::from_secs(1));
        if let (Shape::Dual, [old, new]) = (self.shape, &members[..]) {
            let options = options.budget(Duration::from_secs(4));
            return Ok(Arc::new(Dual::with_options(old.clone(), new.clone(), options)?));
        }
        Ok(Arc::new(Quorum::new(members, options)?))
    }

    async fn set_up(&self) -> Result<()> {
        std::fs::create_dir_all(&self.directory).map_err(|error| {
            Error::new(ErrorKind::Config, "no directory for the files").with_source(error)
        })
    }

    async fn tear_down(&self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(DIRECTORY.into(), self.directory.parent()?.to_str()?.into())])
    }

    /// What a majority of the files shows; of a dual, both.
    async fn probe(&self, namespace: &str, key: &LockKey) -> Option<Probe> {
        let tokens = (0..self.size()).filter_map(|number| self.token(namespace, number, key));
        let tokens: Vec<Token> = tokens.collect();
        let held = |token: &&Token| tokens.iter().filter(|it| it == token).count() >= 2;
        let token = tokens.iter().find(held).copied();
        Some(Probe { locked: token.is_some(), token })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                for number in 0..self.size() {
                    self.open(namespace, number).execute("DELETE FROM locks", []).unwrap();
                }
                Ok(())
            }
            _ => Err(Unsupported("files have no server to restart")),
        }
    }
}
