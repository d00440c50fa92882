//! What the tests share.
#![allow(dead_code, reason = "each test program uses some of it")]
#![allow(clippy::unwrap_used, reason = "what cannot be set up must end the test")]

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::Fence;
use lock_core::LockKey;
use lock_core::Owner;
use lock_sqlite::Sqlite;
use lock_sqlite::SqliteConfig;
use lock_sqlite::connect;

/// A directory that goes when the test ends.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("lock-sqlite-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("locks.db")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) async fn open(path: &Path) -> Sqlite {
    connect(SqliteConfig::new(path)).await.unwrap()
}

pub(crate) fn claim(key: &str) -> Claim {
    claim_for(key, Duration::from_secs(30))
}

pub(crate) fn claim_for(key: &str, ttl: Duration) -> Claim {
    Claim::new(LockKey::new(key).unwrap(), Owner::new("ann@test:1").unwrap(), ttl)
}

/// A claim of the key "k" in a mode.
pub(crate) fn claim_in(mode: &str) -> Claim {
    let mut claim = claim("k");
    claim.mode = mode.parse().unwrap();
    claim
}

/// A claim of the key "k" that stands in line if it has to.
pub(crate) fn in_line(mode: &str) -> Claim {
    let mut claim = claim_in(mode);
    claim.queue = true;
    claim
}

/// Changes the tables behind the backend's back, by a connection of its own.
pub(crate) fn tamper(directory: &Directory, sql: &str) {
    rusqlite::Connection::open(directory.file()).unwrap().execute_batch(sql).unwrap();
}

/// Attempts and returns how many are ahead; fails if the key is granted.
pub(crate) async fn ahead(backend: &Sqlite, claim: &Claim) -> Option<u64> {
    match backend.attempt(claim).await.unwrap() {
        Attempt::Held { ahead, .. } => ahead,
        granted => panic!("{granted:?}"),
    }
}

/// Acquires and returns the fence; fails if the key is held.
pub(crate) async fn acquire(backend: &Sqlite, claim: &Claim) -> Fence {
    match backend.attempt(claim).await.unwrap() {
        Attempt::Acquired { fence, .. } => fence,
        held => panic!("{held:?}"),
    }
}

/// Acquires as soon as the key is free.
pub(crate) async fn acquire_soon(backend: &Sqlite, claim: &Claim) -> Fence {
    loop {
        if let Attempt::Acquired { fence, .. } = backend.attempt(claim).await.unwrap() {
            return fence;
        }
        tokio::task::yield_now().await;
    }
}
