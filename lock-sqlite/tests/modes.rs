//! Other modes and the line, where a fault or the shape of the tables matters: one process, a real
//! file. What the modes mean is the suite's to check.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::Directory;
use common::acquire;
use common::ahead;
use common::claim;
use common::claim_in;
use common::in_line;
use common::open;
use common::tamper;
use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::Kept;
use lock_core::Mode;
use lock_core::Peek;
use lock_core::Release;
use lock_sqlite::SqliteConfig;
use lock_sqlite::connect;

/// Longer than a busy machine takes for a few steps.
const SHORT: Duration = Duration::from_secs(1);

/// Makes the row of a claim look as if its lease or its place had ended.
fn kill(directory: &Directory, claim: &Claim) {
    let token = claim.token;
    tamper(directory, &format!("UPDATE locks_claims SET expires_at = 1 WHERE token = '{token}'"));
}

fn count(directory: &Directory, sql: &str) -> i64 {
    let connection = rusqlite::Connection::open(directory.file()).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {sql}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_table_from_before_there_were_modes_goes_on_working() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let held = claim("k");
    let fence = acquire(&backend, &held).await;
    backend.close().await.unwrap();
    tamper(&directory, "DROP TABLE locks_claims");
    let backend = open(&directory.file()).await;
    assert_eq!(ahead(&backend, &claim_in("shared")).await, None);
    assert_eq!(backend.release(&held).await.unwrap(), Release::Released);
    assert!(acquire(&backend, &claim_in("shared")).await > fence);
}

#[tokio::test]
async fn a_second_table_of_another_shape_is_refused_with_the_statement_to_use() {
    let directory = Directory::new();
    tamper(&directory, "CREATE TABLE locks_claims (x)");
    let error = connect(SqliteConfig::new(directory.file())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("CREATE TABLE \"locks_claims\" ("), "{error}");
    assert_eq!(count(&directory, "sqlite_schema WHERE name = 'locks'"), 0, "nothing was made");
}

#[tokio::test]
async fn fences_rise_over_all_modes_also_when_the_keys_row_is_deleted() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mut last = None;
    for round in 0..24 {
        let mine = claim_in(["shared", "exclusive", "permits:3"][round % 3]);
        let fence = Some(acquire(&backend, &mine).await);
        assert!(fence > last, "round {round}");
        last = fence;
        match round % 4 {
            0 => tamper(&directory, "DELETE FROM locks"),
            1 => drop(backend.release(&mine).await.unwrap()),
            2 => drop(backend.purge().await.unwrap()),
            _ => {}
        }
        backend.evict(&mine.key, Eviction::LockOnly).await.unwrap();
    }
}

#[tokio::test]
async fn a_holder_keeps_others_out_and_below_its_fence_though_the_keys_row_is_deleted() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mut reader = claim_in("shared");
    reader.fence_floor = Some(Fence::new(1 << 52).unwrap());
    let fence = acquire(&backend, &reader).await;
    tamper(&directory, "DELETE FROM locks");
    assert_eq!(ahead(&backend, &claim_in("exclusive")).await, None);
    assert!(acquire(&backend, &claim_in("shared")).await > fence);
}

#[tokio::test]
async fn a_repeat_after_a_lost_reply_returns_the_same_fence_in_each_mode() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    for mode in ["exclusive", "shared", "permits:2"] {
        let (first, behind) = (in_line(mode), in_line("exclusive"));
        let holder = claim_in("exclusive");
        acquire(&backend, &holder).await;
        assert_eq!(ahead(&backend, &first).await, Some(1));
        assert_eq!(ahead(&backend, &behind).await, Some(2));
        assert_eq!(ahead(&backend, &first).await, Some(1), "the same place");
        backend.release(&holder).await.unwrap();
        let fence = acquire(&backend, &first).await;
        assert_eq!(acquire(&backend, &first).await, fence, "{mode}, with another behind");
        let mut raised = first.clone();
        raised.fence_floor = Some(Fence::new(fence.get() + 1_000_000).unwrap());
        assert_eq!(acquire(&backend, &raised).await.get(), fence.get() + 1_000_000);
        backend.release(&first).await.unwrap();
        assert!(acquire(&backend, &behind).await > raised.fence_floor.unwrap());
        backend.release(&behind).await.unwrap();
    }
}

#[tokio::test]
async fn a_claim_that_contradicts_what_is_stored_is_refused_by_name_and_changes_nothing() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (two, holder) = (in_line("permits:2"), claim_in("exclusive"));
    acquire(&backend, &holder).await;
    ahead(&backend, &two).await;
    let mut other = two.clone();
    other.mode = Mode::Shared;
    for held in [false, true] {
        for wrong in [&in_line("permits:3"), &other] {
            let error = backend.attempt(wrong).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("permits:2"), "{error}");
        }
        assert_eq!(count(&directory, "locks_claims"), 1);
        if !held {
            backend.release(&holder).await.unwrap();
            acquire(&backend, &two).await;
        }
    }
}

#[tokio::test]
async fn an_expired_place_is_not_revived_and_a_new_one_is_at_the_end() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (holder, first, second) = (claim_in("exclusive"), in_line("shared"), in_line("exclusive"));
    acquire(&backend, &holder).await;
    ahead(&backend, &first).await;
    ahead(&backend, &second).await;
    kill(&directory, &first);
    assert_eq!(backend.keep(std::slice::from_ref(&first)).await.unwrap(), [Kept::Gone]);
    assert_eq!(backend.inspect(&holder.key).await.unwrap().waiting, 1);
    assert_eq!(ahead(&backend, &second).await, Some(1));
    assert_eq!(ahead(&backend, &first).await, Some(2), "behind who waited on");
    assert_eq!(count(&directory, "locks_claims"), 2);
}

#[tokio::test]
async fn a_mixed_batch_is_kept_each_for_itself() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let named = |key: &str, mode: &str| {
        let mut named = claim_in(mode);
        named.key = claim(key).key;
        named
    };
    let claims = [
        named("a", "exclusive"),
        named("b", "shared"),
        named("c", "permits:2"),
        in_line("shared"),
        in_line("exclusive"),
        named("b", "shared"),
        named("odd", "shared"),
    ];
    for held in [0, 1, 2, 6].map(|at| &claims[at]) {
        acquire(&backend, held).await;
    }
    acquire(&backend, &claim_in("exclusive")).await;
    ahead(&backend, &claims[3]).await;
    ahead(&backend, &claims[4]).await;
    tamper(&directory, "UPDATE locks_claims SET mode = 'odd' WHERE lock_key = 'odd'");
    let kept = backend.keep(&claims).await.unwrap();
    let renewed =
        |at: usize| matches!(kept[at], Kept::Renewed { lease } if lease.ttl == claims[at].ttl);
    assert!([0, 1, 2, 6].into_iter().all(renewed), "{kept:?}");
    assert_eq!(kept[3..6], [Kept::Queued { ahead: 1 }, Kept::Queued { ahead: 2 }, Kept::Gone]);
}

#[tokio::test]
async fn the_dead_stand_in_nobodys_way_and_are_cleared() {
    for dead in ["shared", "permits:2", "exclusive"] {
        let directory = Directory::new();
        let backend = open(&directory.file()).await;
        let (holder, waiter) = (claim_in(dead), in_line("permits:7"));
        let fence = acquire(&backend, &holder).await;
        let behind = if dead == "permits:2" { in_line("exclusive") } else { waiter };
        assert_eq!(ahead(&backend, &behind).await, Some(1));
        tamper(
            &directory,
            "UPDATE locks SET expires_at = 1; UPDATE locks_claims SET expires_at = 1",
        );
        let next = claim_in("permits:3");
        assert_eq!(backend.peek(std::slice::from_ref(&next)).await.unwrap(), [Peek::Free]);
        assert!(acquire(&backend, &next).await > fence);
        assert_eq!(count(&directory, "locks_claims"), 1, "after {dead}");
        assert_eq!(backend.keep(&[holder, behind]).await.unwrap(), [Kept::Gone, Kept::Gone]);
    }
}

/// Its row says again that it lives, as it does to a process whose clock reading is a little older.
#[tokio::test]
async fn a_writer_that_was_counted_dead_has_lost_the_key_for_good() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (writer, reader) = (claim_in("exclusive"), claim_in("shared"));
    acquire(&backend, &writer).await;
    tamper(&directory, "UPDATE locks SET expires_at = 1");
    acquire(&backend, &reader).await;
    tamper(&directory, &format!("UPDATE locks SET expires_at = {}", i64::MAX));
    assert_eq!(backend.keep(std::slice::from_ref(&writer)).await.unwrap(), [Kept::Gone]);
    assert_eq!(backend.release(&writer).await.unwrap(), Release::NotHeld);
}

#[tokio::test]
async fn a_place_that_nobody_refreshes_ends_in_time_and_the_next_are_told_when() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (holder, mut dead, alive) =
        (claim_in("exclusive"), in_line("exclusive"), in_line("shared"));
    dead.ttl = SHORT;
    acquire(&backend, &holder).await;
    ahead(&backend, &dead).await;
    let Attempt::Held { retry_in, .. } = backend.attempt(&alive).await.unwrap() else {
        panic!("granted beside a writer");
    };
    assert!(retry_in.unwrap() <= SHORT, "{retry_in:?}");
    backend.release(&holder).await.unwrap();
    while backend.peek(std::slice::from_ref(&alive)).await.unwrap() != [Peek::Free] {}
    acquire(&backend, &alive).await;
}

#[tokio::test]
async fn rows_of_other_boots_count_as_their_kind() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (reader, writer) = (claim_in("shared"), in_line("exclusive"));
    let fence = acquire(&backend, &reader).await;
    ahead(&backend, &writer).await;
    tamper(&directory, "UPDATE locks_claims SET boot = 'another' WHERE fence IS NULL");
    acquire(&backend, &claim_in("shared")).await;
    assert_eq!(count(&directory, "locks_claims WHERE fence IS NULL"), 0);
    tamper(&directory, "UPDATE locks_claims SET boot = 'another'");
    for wanted in ["shared", "exclusive"] {
        let error = backend.attempt(&claim_in(wanted)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    assert_eq!(backend.keep(std::slice::from_ref(&reader)).await.unwrap(), [Kept::Gone]);
    assert_eq!(backend.evict(&reader.key, Eviction::LockOnly).await.unwrap().holders, 2);
    let again = claim_in("shared");
    assert!(acquire(&backend, &again).await > fence);
    tamper(&directory, "UPDATE locks_claims SET boot = 'another', written_at = 1");
    acquire(&backend, &claim_in("exclusive")).await;
    assert_eq!(backend.keep(&[again]).await.unwrap(), [Kept::Gone]);
}

#[tokio::test]
async fn claims_we_did_not_write_are_corrupt_and_can_be_evicted() {
    for change in ["token = 'x'", "mode = 'odd'", "fence = -1", "mode = 'odd', fence = NULL"] {
        let directory = Directory::new();
        let backend = open(&directory.file()).await;
        acquire(&backend, &claim_in("shared")).await;
        tamper(&directory, &format!("UPDATE locks_claims SET {change}"));
        for wanted in ["shared", "exclusive"] {
            let error = backend.attempt(&claim_in(wanted)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{change}");
        }
        let (key, good) = (claim("k").key, claim("good"));
        assert_eq!(backend.inspect(&key).await.unwrap_err().kind(), ErrorKind::Corrupt);
        acquire(&backend, &good).await;
        let peeks = backend.peek(&[claim("k"), claim("good")]).await.unwrap();
        assert!(matches!(peeks[..], [Peek::Free, Peek::Held { .. }]), "{peeks:?}");
        let holders = u64::from(!change.contains("NULL"));
        assert_eq!(backend.evict(&key, Eviction::LockOnly).await.unwrap().holders, holders);
        acquire(&backend, &claim_in("exclusive")).await;
    }
}

#[tokio::test]
async fn a_fence_beyond_the_limit_is_an_error_and_nothing_is_held() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mut last = claim_in("shared");
    last.fence_floor = Some(Fence::MAX);
    assert_eq!(acquire(&backend, &last).await, Fence::MAX);
    assert_eq!(acquire(&backend, &last).await, Fence::MAX, "a repeat draws none");
    for mode in ["shared", "exclusive"] {
        let error = backend.attempt(&claim_in(mode)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{mode}: {error}");
        let holders = backend.inspect(&last.key).await.unwrap().holders;
        assert_eq!(holders.len(), usize::from(mode == "shared"));
        backend.release(&last).await.unwrap();
    }
}

/// A failure between two statements of a step undoes the whole step and nothing else.
#[tokio::test]
async fn a_step_that_fails_halfway_leaves_no_trace() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (holder, waiter) = (claim_in("exclusive"), in_line("exclusive"));
    acquire(&backend, &holder).await;
    ahead(&backend, &waiter).await;
    backend.release(&holder).await.unwrap();
    let fail = "BEGIN SELECT raise(ABORT, 'no'); END;";
    tamper(
        &directory,
        &format!(
            "CREATE TRIGGER one BEFORE UPDATE ON locks WHEN new.token IS NOT NULL {fail}
             CREATE TRIGGER two BEFORE INSERT ON locks_claims WHEN new.lock_key = 'bad' {fail}"
        ),
    );
    let mut bad = claim_in("shared");
    bad.key = claim("bad").key;
    let mut good = claim_in("shared");
    good.key = claim("good").key;
    // Together they are one group in one transaction.
    let (failed, refused, granted) =
        tokio::join!(backend.attempt(&bad), backend.attempt(&waiter), backend.attempt(&good));
    assert!(failed.is_err() && refused.is_err());
    assert!(matches!(granted, Ok(Attempt::Acquired { .. })));
    assert_eq!(
        count(&directory, "locks WHERE lock_key = 'bad'"),
        0,
        "the fence was drawn for none"
    );
    assert!(backend.attempt(&bad).await.is_err(), "alone as well");
    assert_eq!(count(&directory, "locks WHERE lock_key = 'bad'"), 0);
    tamper(&directory, "DROP TRIGGER one; DROP TRIGGER two");
    assert_eq!(ahead(&backend, &claim_in("exclusive")).await, Some(1), "its place was kept");
    acquire(&backend, &waiter).await;
}

/// Without a log a reader of the database can keep a commit from coming through.
#[tokio::test]
async fn a_commit_that_fails_grants_nothing() {
    let directory = Directory::new();
    tamper(&directory, "CREATE TABLE mine (x)");
    let mut config = SqliteConfig::new(directory.file());
    config.busy_timeout = Duration::from_millis(50);
    let backend = connect(config).await.unwrap();
    let reader = rusqlite::Connection::open(directory.file()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM locks").unwrap();
    let error = backend.attempt(&claim_in("shared")).await.unwrap_err();
    assert!(error.is_retryable() && !error.is_ambiguous(), "{error}");
    reader.execute_batch("COMMIT").unwrap();
    acquire(&backend, &claim_in("exclusive")).await;
}

#[tokio::test]
async fn a_purge_takes_the_dead_of_both_tables_and_leaves_the_living() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (reader, dead, writer) = (claim_in("shared"), claim_in("shared"), in_line("exclusive"));
    acquire(&backend, &reader).await;
    acquire(&backend, &dead).await;
    ahead(&backend, &writer).await;
    kill(&directory, &dead);
    assert_eq!(backend.purge().await.unwrap(), 1);
    let state = backend.inspect(&reader.key).await.unwrap();
    assert_eq!((state.holders.len(), state.waiting), (1, 1));
    tamper(
        &directory,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
         INSERT INTO locks_claims SELECT 'gone', i, i, NULL, 'x', 'shared', 'x', 1, 1, 1 FROM n;
         INSERT INTO locks VALUES ('gone', 1, NULL, 'x', 'x', 'x', 1, 1, 1)",
    );
    let mut gone = 0;
    while gone < 701 {
        gone += backend.purge().await.unwrap();
    }
    assert_eq!((gone, backend.purge().await.unwrap()), (701, 0));
    assert_eq!(backend.keep(&[reader, writer]).await.unwrap().len(), 2);
    assert_eq!((count(&directory, "locks"), count(&directory, "locks_claims")), (1, 2));
}

#[tokio::test]
async fn an_eviction_takes_all_holders_and_leaves_the_line_in_order() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let readers = [claim_in("shared"), claim_in("shared")];
    let (writer, reader) = (in_line("exclusive"), in_line("shared"));
    for held in &readers {
        acquire(&backend, held).await;
    }
    assert_eq!(ahead(&backend, &writer).await, Some(2));
    assert_eq!(ahead(&backend, &reader).await, Some(3));
    assert_eq!(backend.evict(&writer.key, Eviction::LockOnly).await.unwrap().holders, 2);
    assert_eq!(ahead(&backend, &claim_in("shared")).await, Some(2), "the line stays");
    assert_eq!(ahead(&backend, &reader).await, Some(1));
    acquire(&backend, &writer).await;
    assert_eq!(backend.release(&readers[0]).await.unwrap(), Release::NotHeld);
}

#[tokio::test]
async fn people_are_shown_all_holders_and_who_only_waits() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    for held in [claim_in("permits:2"), claim_in("permits:2"), claim("a"), claim("z")] {
        acquire(&backend, &held).await;
    }
    let gone = claim("m");
    acquire(&backend, &gone).await;
    let mut waiter = in_line("shared");
    waiter.key = gone.key.clone();
    ahead(&backend, &waiter).await;
    backend.release(&gone).await.unwrap();
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = backend.list("", cursor, 1).await.unwrap();
        seen.extend(page.items.iter().map(|it| (it.key.clone(), it.holders.len(), it.waiting)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let rows = [("a", 1, 0), ("k", 2, 0), ("m", 0, 1), ("z", 1, 0)];
    assert_eq!(seen, rows.map(|(key, holders, waiting)| (key.to_owned(), holders, waiting)));
    let holders = backend.inspect(&claim("k").key).await.unwrap().holders;
    assert!(holders.iter().all(|it| it.mode == Some("permits:2".parse::<Mode>().unwrap())));
    assert!(holders[0].fence < holders[1].fence);
}
