//! The steps of the backend, one process, a real file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests do what the backend must not")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Directory;
use common::acquire;
use common::acquire_soon;
use common::claim;
use common::claim_for;
use common::open;
use common::tamper;
use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::Kept;
use lock_core::Peek;
use lock_core::Release;
use lock_sqlite::SqliteConfig;
use lock_sqlite::connect;

const SHORT: Duration = Duration::from_millis(30);

#[tokio::test]
async fn one_holder_at_a_time_and_the_other_learns_who() {
    let directory = Directory::new();
    let (a, b) = (open(&directory.file()).await, open(&directory.file()).await);
    let first = claim("k");
    let fence = acquire(&a, &first).await;
    let Attempt::Held { holders, retry_in, .. } = b.attempt(&claim("k")).await.unwrap() else {
        panic!("two holders");
    };
    assert_eq!(holders[0].owner.as_deref(), Some("ann@test:1"));
    assert_eq!(holders[0].fence, Some(fence));
    assert!(retry_in.unwrap() > Duration::from_secs(29));
    assert_eq!(a.release(&first).await.unwrap(), Release::Released);
    assert_eq!(a.release(&first).await.unwrap(), Release::NotHeld);
    assert!(acquire(&b, &claim("k")).await > fence);
}

#[tokio::test]
async fn a_repeat_keeps_the_fence_and_rearms_the_lease() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mut mine = claim_for("k", Duration::from_secs(1));
    let fence = acquire(&backend, &mine).await;
    mine.ttl = Duration::from_secs(60);
    let Attempt::Acquired { fence: again, lease } = backend.attempt(&mine).await.unwrap() else {
        panic!("refused its own");
    };
    assert_eq!((again, lease.ttl), (fence, Duration::from_secs(60)));
    let state = backend.inspect(&mine.key).await.unwrap();
    assert!(state.holders[0].expires_in.unwrap() > Duration::from_secs(50));
}

#[tokio::test]
async fn a_floor_raises_the_fence_and_a_repeat_writes_it_back() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mut mine = claim("k");
    let fence = acquire(&backend, &mine).await;
    let floor = Fence::new(fence.get() + 5_000_000).unwrap();
    mine.fence_floor = Some(floor);
    assert_eq!(acquire(&backend, &mine).await, floor);
    mine.fence_floor = None;
    assert_eq!(acquire(&backend, &mine).await, floor);
    backend.release(&mine).await.unwrap();
    assert!(acquire(&backend, &claim("k")).await > floor);
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_never_revived() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let dead = claim_for("k", SHORT);
    let fence = acquire(&backend, &dead).await;
    while backend.peek(std::slice::from_ref(&dead)).await.unwrap() != [Peek::Free] {}
    assert_eq!(backend.keep(std::slice::from_ref(&dead)).await.unwrap(), [Kept::Gone]);
    assert_eq!(backend.release(&dead).await.unwrap(), Release::NotHeld);
    let next = claim("k");
    assert!(acquire(&backend, &next).await > fence);
    assert_eq!(backend.release(&dead).await.unwrap(), Release::NotHeld);
    assert!(backend.inspect(&next.key).await.unwrap().is_locked());
}

#[tokio::test]
async fn keeping_renews_what_is_held_and_says_what_is_not() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (a, stranger, b) = (claim_for("a", SHORT), claim("a"), claim("b"));
    acquire(&backend, &a).await;
    acquire(&backend, &b).await;
    let longer = claim_for("a", Duration::from_secs(60));
    let mut kept_a = a.clone();
    kept_a.ttl = longer.ttl;
    let kept = backend.keep(&[kept_a, stranger, b]).await.unwrap();
    assert!(matches!(kept[0], Kept::Renewed { lease } if lease.ttl == longer.ttl));
    assert_eq!(kept[1], Kept::Gone);
    assert!(matches!(kept[2], Kept::Renewed { .. }));
}

#[tokio::test]
async fn fences_rise_over_release_purge_and_eviction() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mut last = None;
    for round in 0..30 {
        let mine = claim("k");
        let fence = Some(acquire(&backend, &mine).await);
        assert!(fence > last, "round {round}");
        last = fence;
        match round % 3 {
            0 => drop(backend.release(&mine).await.unwrap()),
            1 => assert_eq!(backend.evict(&mine.key, Eviction::LockOnly).await.unwrap().holders, 1),
            _ => {
                backend.release(&mine).await.unwrap();
                while backend.purge().await.unwrap() == 0 {}
            }
        }
    }
}

#[tokio::test]
async fn a_purge_leaves_holders_and_fences_ahead_of_the_clock() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    acquire(&backend, &claim("held")).await;
    let mut ahead = claim("ahead");
    ahead.fence_floor = Some(Fence::MAX);
    acquire(&backend, &ahead).await;
    backend.release(&ahead).await.unwrap();
    for i in 0..1_200 {
        let mine = claim(&format!("gone-{i}"));
        acquire(&backend, &mine).await;
        backend.release(&mine).await.unwrap();
    }
    let mut gone = 0;
    while gone < 1_200 {
        gone += backend.purge().await.unwrap();
    }
    assert_eq!(gone, 1_200);
    assert_eq!(backend.purge().await.unwrap(), 0);
    let error = backend.attempt(&claim("ahead")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "a fence above the highest cannot be drawn");
}

#[tokio::test]
async fn a_list_is_in_byte_order_by_prefix_and_pages() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let keys = ["a%b", "a_b", "aXb", "A", "a", "b", "é", "a\u{10FFFF}", "a\u{10FFFF}z"];
    for key in keys {
        acquire(&backend, &claim(key)).await;
    }
    let freed = claim("a-free");
    acquire(&backend, &freed).await;
    backend.release(&freed).await.unwrap();
    let names =
        |page: &lock_core::Page| page.items.iter().map(|item| item.key.clone()).collect::<Vec<_>>();
    let all = backend.list("a", None, 100).await.unwrap();
    assert_eq!(names(&all), ["a", "a%b", "aXb", "a_b", "a\u{10FFFF}", "a\u{10FFFF}z"]);
    assert_eq!(all.next, None);
    assert_eq!(names(&backend.list("a_", None, 9).await.unwrap()), ["a_b"]);
    assert_eq!(names(&backend.list("a\u{10FFFF}", None, 9).await.unwrap()).len(), 2);
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = backend.list("", cursor, 2).await.unwrap();
        seen.extend(names(&page));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut sorted = keys.map(str::to_owned);
    sorted.sort();
    assert_eq!(seen, sorted);
}

#[tokio::test]
async fn keys_that_differ_in_any_byte_are_different_locks() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    for key in ["k", "K", "k ", " k", "ḱ", "k\u{301}", "😀", &"k".repeat(512)] {
        acquire(&backend, &claim(key)).await;
    }
}

#[tokio::test]
async fn rows_we_did_not_write_are_corrupt_and_can_be_evicted() {
    for change in ["token = 'x'", "mode = 'odd'", "fence = -1", "fence = 9007199254740992"] {
        let directory = Directory::new();
        let backend = open(&directory.file()).await;
        let mine = claim("k");
        acquire(&backend, &mine).await;
        tamper(&directory, &format!("UPDATE locks SET {change}"));
        let error = backend.attempt(&claim("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{change}");
        assert_eq!(backend.inspect(&mine.key).await.unwrap_err().kind(), ErrorKind::Corrupt);
        let freed = claim("freed");
        acquire(&backend, &freed).await;
        backend.release(&freed).await.unwrap();
        // A purge leaves what was granted in this very millisecond.
        tamper(&directory, "UPDATE locks SET fence = 1 WHERE lock_key = 'freed'");
        let error = backend.list("", None, 9).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("k")), "{change}");
        assert_eq!(backend.purge().await.unwrap(), 1, "{change}");
        assert_eq!(backend.evict(&mine.key, Eviction::LockOnly).await.unwrap().holders, 1);
        assert_eq!(backend.list("", None, 9).await.unwrap().items, [], "{change}");
    }
}

#[tokio::test]
async fn a_row_of_another_machine_is_an_error_and_of_an_earlier_boot_is_dead() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mine = claim("k");
    let fence = acquire(&backend, &mine).await;
    tamper(&directory, "UPDATE locks SET boot = 'another'");
    let error = backend.attempt(&claim("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("two machines"), "{error}");
    assert_eq!(backend.keep(std::slice::from_ref(&mine)).await.unwrap(), [Kept::Gone]);
    tamper(&directory, "UPDATE locks SET written_at = 1");
    assert!(acquire(&backend, &claim("k")).await > fence);
}

#[tokio::test]
async fn dropped_calls_are_carried_out_in_order() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    for polls in 0..4 {
        let mine = claim("k");
        let mut attempt = backend.attempt(&mine);
        for _ in 0..polls {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if attempt.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
        drop(attempt);
        let _ = backend.release(&mine).await.unwrap();
        assert!(!backend.inspect(&mine.key).await.unwrap().is_locked(), "after {polls} polls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_never_hold_one_key_together() {
    let directory = Directory::new();
    let backend = Arc::new(open(&directory.file()).await);
    let inside = Arc::new(std::sync::Mutex::new(None));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (backend, inside) = (backend.clone(), inside.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                let mine = claim("k");
                let fence = acquire_soon(&backend, &mine).await;
                let before = inside.lock().unwrap().replace(fence);
                assert!(before < Some(fence));
                assert_eq!(backend.release(&mine).await.unwrap(), Release::Released);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn after_close_calls_are_refused_and_the_threads_end() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    acquire(&backend, &claim("k")).await;
    backend.close().await.unwrap();
    backend.close().await.unwrap();
    assert_eq!(backend.attempt(&claim("k")).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!directory.path().join("locks.db-wal").exists(), "the last one out copies the log");
}

#[tokio::test]
async fn a_dropped_backend_closes_its_file() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    acquire(&backend, &claim("k")).await;
    assert!(directory.path().join("locks.db-wal").exists());
    drop(backend);
    while directory.path().join("locks.db-wal").exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_deleted_or_replaced_file_is_noticed() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    acquire(&backend, &claim("a")).await;
    std::fs::remove_file(directory.file()).unwrap();
    let error = backend.attempt(&claim("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.is_retryable() && error.to_string().contains("connect again"), "{error}");
}

async fn refused(config: SqliteConfig) -> String {
    let error = connect(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[tokio::test]
async fn bad_files_are_refused_with_a_reason() {
    let directory = Directory::new();
    let text = directory.path().join("text");
    std::fs::write(&text, "no database, though it is long enough to be looked at ".repeat(40))
        .unwrap();
    assert!(refused(SqliteConfig::new(&text)).await.contains("not a SQLite database"));
    assert!(refused(SqliteConfig::new(directory.path())).await.contains("is a directory"));
    let missing = directory.path().join("no/locks.db");
    assert!(refused(SqliteConfig::new(missing)).await.contains("create it first"));
    let wide = Directory::new();
    tamper(&wide, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE mine (x)");
    assert!(refused(SqliteConfig::new(wide.file())).await.contains("UTF-16le"));
    let mut unsafe_name = SqliteConfig::new(directory.file());
    unsafe_name.table = "x\" (y); --".into();
    assert!(refused(unsafe_name).await.contains("table name"));
}

#[tokio::test]
async fn a_table_of_another_shape_is_refused_with_the_statement_to_use() {
    let directory = Directory::new();
    tamper(&directory, "CREATE TABLE locks (lock_key TEXT COLLATE NOCASE PRIMARY KEY, door TEXT)");
    let error = refused(SqliteConfig::new(directory.file())).await;
    assert!(error.contains("CREATE TABLE \"locks\" (") && error.contains("?table=NAME"), "{error}");
    let mut other = SqliteConfig::new(directory.file());
    other.table = "my_locks".into();
    acquire(&connect(other).await.unwrap(), &claim("k")).await;
}

#[tokio::test]
async fn somebodys_own_database_keeps_its_settings() {
    let directory = Directory::new();
    tamper(&directory, "CREATE TABLE mine (x); PRAGMA user_version = 7; PRAGMA application_id = 9");
    let backend = open(&directory.file()).await;
    let held = claim("k");
    acquire(&backend, &held).await;
    assert_eq!(backend.release(&held).await.unwrap(), Release::Released);
    backend.close().await.unwrap();
    let mine = rusqlite::Connection::open(directory.file()).unwrap();
    let read = |pragma: &str| {
        mine.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0))
            .unwrap()
    };
    assert_eq!(read("user_version"), 7.into());
    assert_eq!(read("application_id"), 9.into());
    assert_eq!(read("journal_mode"), "delete".to_owned().into());
}

/// Without a log a reader can keep a commit from coming through after its statement has returned a row.
#[tokio::test]
async fn a_commit_that_fails_grants_nothing() {
    let directory = Directory::new();
    tamper(&directory, "CREATE TABLE mine (x)");
    let mut config = SqliteConfig::new(directory.file());
    config.busy_timeout = Duration::from_millis(50);
    let backend = connect(config).await.unwrap();
    let reader = rusqlite::Connection::open(directory.file()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM locks").unwrap();
    let error = backend.attempt(&claim("k")).await.unwrap_err();
    assert!(error.is_retryable() && !error.is_ambiguous(), "{error}");
    reader.execute_batch("COMMIT").unwrap();
    acquire(&backend, &claim("k")).await;
}

#[tokio::test]
async fn a_writer_that_stays_makes_calls_fail_in_time_and_retryable() {
    let directory = Directory::new();
    let mut config = SqliteConfig::new(directory.file());
    config.busy_timeout = Duration::from_millis(100);
    let backend = connect(config).await.unwrap();
    let writer = rusqlite::Connection::open(directory.file()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = std::time::Instant::now();
    let error = backend.attempt(&claim("k")).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable() && !error.is_ambiguous());
    writer.execute_batch("ROLLBACK").unwrap();
    acquire(&backend, &claim("k")).await;
}
