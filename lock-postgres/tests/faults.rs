//! Real faults: servers, sessions and statements that end at the wrong moment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use conformance_tests::Link as _;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockGuard;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_postgres::DRIVER;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::servers::Psql;
use crate::servers::Server;

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn patient() -> LockOptions {
    LockOptions::new().ttl(secs(2)).wait(secs(20))
}

/// How many advisory locks there are of keys: neither marks of sessions nor signs of waiters.
async fn left(psql: &mut Psql, key: &str) -> i64 {
    let count = format!(
        "SELECT count(*) FROM locks.locked WHERE objsubid = 1
           AND (high << 32) | low = hashtextextended('{key}', 0)"
    );
    psql.one(&count).await
}

async fn is_lost(guard: &LockGuard, within: Duration) {
    timeout(within, guard.lost()).await.expect("the loss is told");
    assert!(!guard.is_valid());
}

#[tokio::test]
async fn a_server_that_is_killed_takes_the_locks_along_and_fences_rise() {
    let mut server = Server::start(&[]);
    let locks = connect(&server.url()).await;
    let held = locks.lock("a", &patient()).await.unwrap();
    server.kill();
    is_lost(&held, secs(3)).await;
    server.restart();
    let again = locks.lock("a", &patient()).await.unwrap();
    assert!(again.fence() > held.fence());
    again.unlock().await.unwrap();
}

#[tokio::test]
async fn waiters_outlive_a_restart() {
    let mut server = Server::start(&[]);
    let (holder, waiter) = (connect(&server.url()).await, connect(&server.url()).await);
    let _held = holder.lock("a", &patient()).await.unwrap();
    let waiting = tokio::spawn(async move { waiter.lock("a", &patient()).await.map(drop) });
    sleep(Duration::from_millis(300)).await;
    server.stop();
    server.restart();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_terminated_session_is_noticed_at_once_with_all_its_locks() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await, server.psql().await);
    // Renewed after ten seconds, which is not what tells.
    let long = LockOptions::new().ttl(secs(30)).wait(secs(20));
    let held = [locks.lock("a", &long).await.unwrap(), locks.lock("b", &long).await.unwrap()];
    psql.run("SELECT pg_terminate_backend(pid, 2000) FROM locks.held WHERE lock_key = 'a'").await;
    for guard in &held {
        is_lost(guard, secs(1)).await;
    }
    let again = locks.lock("a", &long).await.unwrap();
    assert!(again.fence() > held[0].fence());
}

#[tokio::test]
async fn a_session_that_hangs_in_the_server_leaves_nothing_held() {
    let server = Server::start(&[]);
    let (locks, other, mut psql) =
        (connect(&server.url()).await, connect(&server.url()).await, server.psql().await);
    locks.lock("a", &patient()).await.unwrap().unlock().await.unwrap();
    let of = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lock'
        AND query LIKE '%pg_advisory_unlock(%'";
    let process = Pid::from_raw(psql.one::<i32>(of).await).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let tried = locks.lock("a", &LockOptions::new().ttl(secs(1)).wait(secs(2))).await;
    assert!(tried.is_err(), "{tried:?}");
    kill_process(process, Signal::CONT).unwrap();
    // The stopped session carries out what it was sent; its successor ends it before all else.
    let held = other.lock("a", &patient()).await.unwrap();
    held.unlock().await.unwrap();
    locks.lock("a", &patient()).await.unwrap().unlock().await.unwrap();
    assert_eq!(left(&mut psql, "a").await, 0);
}

#[tokio::test]
async fn a_cut_network_loses_the_lock_before_another_gets_it() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.address()).await.unwrap();
    let cut = connect(&server.url().replace(&server.address(), &proxy.address().to_string())).await;
    let other = connect(&server.url()).await;
    let held = cut.lock("a", &patient()).await.unwrap();
    proxy.set(Weather::Hangs);
    let begin = Instant::now();
    let next = tokio::spawn(async move { other.lock("a", &patient()).await });
    is_lost(&held, secs(4)).await;
    let lost_after = begin.elapsed();
    let next = next.await.unwrap().unwrap();
    assert!(next.fence() > held.fence());
    assert!(lost_after <= begin.elapsed() && begin.elapsed() < secs(8));
    proxy.set(Weather::Fair);
    assert_eq!(held.unlock().await.unwrap_err().kind(), ErrorKind::Lost);
    assert!(next.is_valid(), "the late release hit the next holder");
}

/// Has the statement that takes a key fail, one time in so many.
async fn sabotage(psql: &mut Psql, one_in: u32, how: &str) {
    psql.run(&format!(
        "CREATE OR REPLACE FUNCTION locks.sabotage() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN IF random() < 1.0 / {one_in} THEN {how} END IF; RETURN NEW; END $$;
         DROP TRIGGER IF EXISTS sabotage ON locks.holders;
         CREATE TRIGGER sabotage BEFORE INSERT ON locks.holders FOR EACH ROW
           EXECUTE FUNCTION locks.sabotage()"
    ))
    .await;
}

#[tokio::test]
async fn errors_inside_the_acquiring_statement_leave_nothing_held() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    connect(&server.url()).await;
    let clients = [connect(&server.url()).await, connect(&server.url()).await];
    for how in [
        "RAISE EXCEPTION SQLSTATE '40001';",
        "RAISE EXCEPTION SQLSTATE '40P01';",
        "PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(1);",
        "RAISE EXCEPTION SQLSTATE 'XX000';",
        "PERFORM pg_terminate_backend(pg_backend_pid());",
    ] {
        // With the session all that it holds is lost.
        let loses = how.contains("terminate");
        sabotage(&mut psql, 4, how).await;
        let mut tasks = Vec::new();
        for n in 0..16_usize {
            let (locks, key) = (clients[n % 2].clone(), format!("key {}", n % 6));
            tasks.push(tokio::spawn(async move {
                for _ in 0..8 {
                    // Whether it gets the lock or the error, it leaves nothing.
                    let options = LockOptions::new().wait(Duration::from_millis(200));
                    if let Ok(guard) = locks.lock(&key, &options).await {
                        let unlocked = guard.unlock().await;
                        assert!(loses || unlocked.is_ok(), "{unlocked:?}");
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for n in 0..6 {
            // What was dropped is still under way for a while.
            let (key, end) = (format!("key {n}"), Instant::now() + secs(20));
            while left(&mut psql, &key).await > 0 {
                assert!(Instant::now() < end, "{key} is left held after {how}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    psql.run("DROP TRIGGER sabotage ON locks.holders").await;
    for locks in &clients {
        locks.lock("key 1", &patient()).await.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test]
async fn an_error_of_one_key_does_not_hit_those_that_went_with_it() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await, server.psql().await);
    psql.run(
        "INSERT INTO locks.holders (lock_key, num, fence, token, owner, pid, session, acquired_at)
         VALUES ('bad', hashtextextended('bad', 0), 9007199254740991, '', '', 0, 0, now())",
    )
    .await;
    let mut tasks = Vec::new();
    for n in 0..20 {
        let (locks, key) = (locks.clone(), if n == 7 { "bad".into() } else { n.to_string() });
        tasks.push(tokio::spawn(async move { locks.lock(&key, &patient()).await }));
    }
    for (n, task) in tasks.into_iter().enumerate() {
        match task.await.unwrap() {
            Err(error) => assert_eq!((n, error.kind()), (7, ErrorKind::Corrupt), "{error}"),
            Ok(guard) => guard.unlock().await.unwrap(),
        }
    }
    assert_eq!(left(&mut psql, "bad").await, 0);
}

#[tokio::test]
async fn a_row_that_somebody_keeps_locked_delays_but_loses_nothing() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await, server.psql().await);
    locks.lock("a", &patient()).await.unwrap().unlock().await.unwrap();
    let other = locks.lock("b", &patient()).await.unwrap();
    psql.run("BEGIN; SELECT FROM locks.holders WHERE lock_key = 'a' FOR UPDATE").await;
    let tried = locks.try_lock("a", &patient()).await;
    assert_eq!(tried.unwrap_err().kind(), ErrorKind::Unavailable);
    psql.run("ROLLBACK").await;
    assert_eq!(left(&mut psql, "a").await, 0);
    assert!(other.is_valid());
    locks.lock("a", &patient()).await.unwrap().unlock().await.unwrap();
    other.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_dropped_at_the_grant_leave_nothing() {
    let rounds = if std::env::var_os("LOCK_TEST_FULL").is_some() { 10_000 } else { 1000 };
    let server = Server::start(&[]);
    let (clients, mut psql) =
        ([connect(&server.url()).await, connect(&server.url()).await], server.psql().await);
    // Moves to where as many are granted as are not, however fast the server is.
    let (mut granted, mut patience) = (0, Duration::from_millis(1));
    for round in 0..rounds {
        let options = LockOptions::new().wait(secs(5));
        if let Ok(guard) = timeout(patience, clients[round % 2].lock("a", &options)).await {
            (granted, patience) = (granted + 1, patience * 9 / 10);
            drop(guard.unwrap());
        } else {
            patience = patience * 10 / 9 + Duration::from_micros(9);
        }
    }
    let guard = clients[0].lock("a", &patient()).await.unwrap();
    guard.unlock().await.unwrap();
    sleep(secs(1)).await;
    assert_eq!(left(&mut psql, "a").await, 0);
    println!("{granted} of {rounds} were granted, and dropped then");
    assert!(granted > rounds / 10 && granted < rounds * 9 / 10, "{granted} of {rounds}");
}

#[tokio::test]
async fn rows_are_cleaned_up_and_fences_rise_all_the_same() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await, server.psql().await);
    let held = locks.lock("held", &patient()).await.unwrap();
    let gone = locks.lock("gone", &patient()).await.unwrap();
    let before = gone.fence();
    gone.unlock().await.unwrap();
    assert_eq!(locks.cleanup_expired().await.unwrap(), 1);
    let left = "SELECT string_agg(lock_key, ',') FROM locks.holders";
    assert_eq!(psql.one::<String>(left).await, "held");
    let again = locks.lock("gone", &patient()).await.unwrap();
    assert!(again.fence() > before);
    held.unlock().await.unwrap();
}

#[tokio::test]
async fn a_spoilt_claim_is_named_by_a_list_passed_over_by_a_cleanup_and_cleared_by_force() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await, server.psql().await);
    let shared = patient().mode("shared".parse().unwrap());
    let held = locks.lock("spoilt", &shared).await.unwrap();
    let reader = locks.lock("other", &shared).await.unwrap();
    locks.lock("freed", &patient()).await.unwrap().unlock().await.unwrap();
    psql.run("UPDATE locks.claims SET mode = 'x' WHERE lock_key = 'spoilt'").await;
    let error = locks.list("").await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("spoilt")), "{error}");
    assert!(locks.cleanup_expired().await.unwrap() > 0);
    let freed: i64 = psql.one("SELECT count(*) FROM locks.holders WHERE lock_key = 'freed'").await;
    assert_eq!(freed, 0);
    assert_eq!(locks.force_unlock("spoilt", Eviction::LockOnly).await.unwrap().holders, 1);
    is_lost(&held, secs(5)).await;
    assert_eq!(locks.list("").await.unwrap().len(), 1);
    psql.run(
        "INSERT INTO locks.claims (lock_key, token, num, mode, owner, pid, session, acquired_at)
         SELECT 'line', token, num, 'x', owner, pid, session, acquired_at FROM locks.claims",
    )
    .await;
    assert_eq!(locks.list("").await.unwrap_err().key(), Some("line"));
    locks.force_unlock("line", Eviction::LockOnly).await.unwrap();
    assert_eq!(locks.list("").await.unwrap().len(), 1);
    assert!(reader.is_valid());
}
