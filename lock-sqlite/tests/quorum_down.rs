//! A quorum over three SQLite files of which some really fail: overwritten with garbage, or locked by
//! somebody who does not let go.

#![expect(clippy::unwrap_used, reason = "a rig that fails has to end its test")]

mod common;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use common::Directory;
use common::claim_for;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Kept;
use lock_core::Member;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::Release;
use lock_sqlite::SqliteConfig;
use lock_sqlite::connect;
use rusqlite::Connection;

const BUDGET: Duration = Duration::from_millis(300);
const TTL: Duration = Duration::from_secs(30);

struct Rig {
    directory: Directory,
    quorum: Quorum,
}

impl Rig {
    async fn new() -> Self {
        let directory = Directory::new();
        let mut members = Vec::new();
        for number in 0..3 {
            let path = directory.path().join(format!("{number}.db"));
            let backend = connect(SqliteConfig::new(path)).await.unwrap();
            members.push(Member::new(format!("file {number}"), Arc::new(backend)));
        }
        let quorum = Quorum::new(members, QuorumOptions::new().budget(BUDGET)).unwrap();
        Self { directory, quorum }
    }

    /// Takes SQLite's write lock of one file until it is dropped: whoever wants to write hangs.
    fn block(&self, number: usize) -> Connection {
        let path = self.directory.path().join(format!("{number}.db"));
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
    }

    /// Replaces the table of one file by one that is not ours.
    fn ruin(&self, number: usize) {
        let path = self.directory.path().join(format!("{number}.db"));
        Connection::open(path).unwrap().execute_batch("DROP TABLE locks").unwrap();
    }

    async fn free_at(&self, number: usize, key: &str) -> bool {
        let path = self.directory.path().join(format!("{number}.db"));
        let connection = Connection::open(path).unwrap();
        let count = "SELECT count(*) FROM locks WHERE lock_key = ?1 AND token IS NOT NULL";
        connection.query_row(count, [key], |row| row.get::<_, i64>(0)).unwrap() == 0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_with_one_file_blocked_and_with_one_file_ruined() {
    for ruined in [false, true] {
        let rig = Rig::new().await;
        let _blocked = (!ruined).then(|| rig.block(1));
        if ruined {
            rig.ruin(1);
        }
        let mut last = None;
        for _ in 0..20 {
            let claim = claim_for("job", TTL);
            let Attempt::Acquired { fence, .. } = rig.quorum.attempt(&claim).await.unwrap() else {
                panic!("nobody else is there")
            };
            assert!(last < Some(fence));
            last = Some(fence);
            let kept = rig.quorum.keep(std::slice::from_ref(&claim)).await.unwrap();
            assert!(matches!(kept[..], [Kept::Renewed { .. }]), "{kept:?}");
            assert_eq!(rig.quorum.release(&claim).await.unwrap(), Release::Released);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_files_blocked_everything_is_unavailable_in_time_and_nothing_stays() {
    let rig = Rig::new().await;
    let held = claim_for("held", TTL);
    rig.quorum.attempt(&held).await.unwrap();
    let blocked = [rig.block(0), rig.block(2)];
    let slack = Duration::from_millis(700);
    let wanted = claim_for("job", TTL);
    let began = Instant::now();
    let error = rig.quorum.attempt(&wanted).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("2 of 3 members failed: file 0: "), "{error}");
    let keep = rig.quorum.keep(std::slice::from_ref(&held)).await.unwrap_err();
    assert_eq!(keep.kind(), ErrorKind::Unavailable);
    let evict = rig.quorum.evict(&held.key, Eviction::LockOnly).await.unwrap_err();
    assert_eq!(evict.kind(), ErrorKind::Unavailable);
    let release = rig.quorum.release(&held).await.unwrap_err();
    assert!(release.is_ambiguous(), "{release:?}");
    let took = began.elapsed();
    assert!(took < BUDGET * 4 + slack, "four calls took {took:?}");
    drop(blocked);
    let until = Instant::now() + Duration::from_secs(10);
    for number in 0..3 {
        for key in ["job", "held"] {
            while !rig.free_at(number, key).await {
                assert!(Instant::now() < until, "{key} stays held at file {number}");
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_files_ruined_the_error_is_of_their_kind_and_nothing_stays() {
    let rig = Rig::new().await;
    rig.ruin(0);
    rig.ruin(1);
    let wanted = claim_for("job", TTL);
    let error = rig.quorum.attempt(&wanted).await.unwrap_err();
    assert!(!error.is_retryable(), "{error:?}");
    assert!(error.to_string().starts_with("2 of 3 members failed: file 0: "), "{error}");
    for error in [
        rig.quorum.peek(std::slice::from_ref(&wanted)).await.unwrap_err(),
        rig.quorum.inspect(&wanted.key).await.unwrap_err(),
        rig.quorum.list("", None, 10).await.unwrap_err(),
        rig.quorum.purge().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), rig.quorum.attempt(&wanted).await.unwrap_err().kind(), "{error}");
    }
    let until = Instant::now() + Duration::from_secs(10);
    while !rig.free_at(2, "job").await {
        assert!(Instant::now() < until, "it stays held at the file that is well");
        tokio::task::yield_now().await;
    }
}
