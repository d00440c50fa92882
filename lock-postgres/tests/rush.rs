//! Many at once: what they cost the server, and the known traps at full rate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Result;
use lock_postgres::DRIVER;
use tokio::task::JoinSet;

use crate::servers::Psql;
use crate::servers::Server;

async fn connect(server: &Server) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn is_full() -> bool {
    std::env::var_os("LOCK_TEST_FULL").is_some()
}

/// Locks so many keys, a hundred at a time, up to the first that is refused.
async fn lock_many(locks: &Arc<dyn LockProvider>, keys: usize) -> (Vec<LockGuard>, Result<()>) {
    let (mut guards, mut outcome) = (Vec::new(), Ok(()));
    let long = LockOptions::new().ttl(secs(60));
    let lock = |n: usize| {
        let (locks, options) = (locks.clone(), &long);
        async move { locks.try_lock(&format!("many:{n}"), options).await }
    };
    let mut locking = stream::iter(0..keys).map(lock).buffer_unordered(100);
    while let Some(locked) = locking.next().await {
        match locked {
            Ok(taken) => guards.push(taken.acquired().unwrap()),
            Err(error) => outcome = Err(error),
        }
    }
    (guards, outcome)
}

/// Eight clients on one name beside cleanups: no error reaches a caller, nobody holds beside another, and
/// fences rise in the order of the grants.
#[tokio::test(flavor = "multi_thread")]
async fn eight_clients_on_one_name_see_no_deadlock_and_no_inversion() {
    let server = Server::start(&["deadlock_timeout=100ms"]);
    let until = Instant::now() + secs(if is_full() { 30 } else { 3 });
    let (last, busy) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let (locks, last, busy) = (connect(&server).await, last.clone(), busy.clone());
        clients.spawn(async move {
            // A line of its own makes the other half of them take the long way.
            let wait = LockOptions::new().wait(secs(30));
            let wait = if number % 2 == 0 { wait } else { wait.fair() };
            let mut grants = 0_u64;
            while Instant::now() < until {
                let guard = locks.lock("rush", &wait).await.unwrap();
                assert!(!busy.swap(true, Ordering::SeqCst), "two hold at once");
                let fence = guard.fence().get();
                assert!(last.swap(fence, Ordering::SeqCst) < fence, "an inversion");
                busy.store(false, Ordering::SeqCst);
                guard.unlock().await.unwrap();
                grants += 1;
            }
            grants
        });
    }
    let cleaner = connect(&server).await;
    let mut cleanups = 0;
    while Instant::now() < until {
        cleaner.cleanup_expired().await.unwrap();
        cleanups += 1;
    }
    let grants: u64 = clients.join_all().await.into_iter().sum();
    println!("{grants} grants beside {cleanups} cleanups");
    assert!(grants >= 50 && cleanups >= 10, "{grants} grants beside {cleanups} cleanups");
    let mut psql = server.psql().await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(psql.one::<i64>(deadlocks).await, 0);
}

/// What gathers while a statement is under way goes together: whoever lets go and comes back meets the others.
#[tokio::test]
async fn sixteen_tasks_share_their_statements() {
    let server = Server::start(&["log_statement=all"]);
    let locks = connect(&server).await;
    let before = server.log().len();
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let (locks, key) = (locks.clone(), format!("own:{number}"));
        tasks.spawn(async move {
            for _ in 0..50 {
                let guard = locks.lock(&key, &LockOptions::new()).await.unwrap();
                guard.unlock().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let log = server.log();
    let asked = log[before..].lines().filter(|line| line.contains("execute ")).count();
    println!("{asked} statements for 800 pairs of 16 tasks");
    // Two for all sixteen, and some until they have found each other.
    assert!(asked <= 130, "{asked} statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_waiters_ask_little_and_keep_nothing_from_vacuum() {
    let server = Server::start(&["log_statement=all", "autovacuum=off"]);
    let (holder, waiter) = (connect(&server).await, connect(&server).await);
    let (held, outcome) = lock_many(&holder, 1000).await;
    outcome.unwrap();
    let mut waiting = JoinSet::new();
    for n in 0..1000 {
        let waiter = waiter.clone();
        waiting.spawn(async move {
            let wait = LockOptions::new().wait(secs(60));
            waiter.lock(&format!("many:{n}"), &wait).await.unwrap().unlock().await.unwrap();
        });
    }
    // Looks are more frequent in a wait's first seconds.
    tokio::time::sleep(secs(4)).await;
    let before = server.log().len();
    tokio::time::sleep(secs(3)).await;
    let log = server.log();
    let asked = log[before..].lines().filter(|line| line.contains("execute ")).count();
    println!("{} statements a second for 1,000 idle waiters", asked as f64 / 3.0);
    assert!((1..=18).contains(&asked), "{asked} statements in 3 s");

    let mut psql = server.psql().await;
    psql.run("CREATE TABLE dead AS SELECT generate_series(1, 10000) AS n; DELETE FROM dead").await;
    // Somebody who waits as one should not shows that the test can tell.
    let mut pinned = server.psql().await;
    pinned.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    psql.run("INSERT INTO dead VALUES (1); DELETE FROM dead").await;
    assert!(pages_after_vacuum(&mut psql).await > 0);
    pinned.run("COMMIT").await;
    assert_eq!(pages_after_vacuum(&mut psql).await, 0, "dead rows stay");
    drop(held);
    waiting.join_all().await;
}

/// Returns how large the table is once all rows are removed from it that can be.
async fn pages_after_vacuum(psql: &mut Psql) -> i64 {
    psql.run("VACUUM dead").await;
    psql.one("SELECT pg_relation_size('dead')").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_locks_hang_on_one_session() {
    let keys = if is_full() { 10_000 } else { 2_000 };
    let server = Server::start(&["max_locks_per_transaction=256"]);
    let locks = connect(&server).await;
    let begin = Instant::now();
    let (guards, outcome) = lock_many(&locks, keys).await;
    outcome.unwrap();
    println!("{keys} locks in {:?}", begin.elapsed());
    let mut psql = server.psql().await;
    let sessions = "SELECT count(*) FROM (SELECT DISTINCT pid FROM locks.held) p";
    assert_eq!(psql.one::<i64>(sessions).await, 1);
    let held = "SELECT count(*) FROM locks.held WHERE lock_key IS NOT NULL";
    assert_eq!(psql.one::<i64>(held).await, i64::try_from(keys).unwrap());
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lock'";
    assert_eq!(psql.one::<i64>(connections).await, 2);
    assert!(guards.iter().all(|guard| guard.is_valid()));
    stream::iter(guards)
        .for_each_concurrent(100, |guard| async {
            guard.unlock().await.unwrap();
        })
        .await;
    assert_eq!(psql.one::<i64>(held).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_its_defaults_refuses_in_time_and_stays_well() {
    let server = Server::start(&[]);
    let locks = connect(&server).await;
    let (guards, outcome) = lock_many(&locks, 4_000).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("max_locks_per_transaction"), "{error}");
    assert!((3_000..=3_200).contains(&guards.len()), "{} were taken", guards.len());
    // Others still connect and lock tables.
    let mut psql = server.psql().await;
    psql.run("CREATE TABLE others (n int); DROP TABLE others").await;
    assert!(guards.iter().all(|guard| guard.is_valid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_handed_to_another_client_at_once() {
    let server = Server::start(&[]);
    let (one, two) = (connect(&server).await, connect(&server).await);
    let (mut taken, mut usual) = (Vec::new(), Vec::new());
    for _ in 0..41 {
        let begin = Instant::now();
        two.lock("free", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        usual.push(begin.elapsed());
        let held = one.lock("hand", &LockOptions::new()).await.unwrap();
        let two = two.clone();
        let waiting = tokio::spawn(async move {
            let guard = two.lock("hand", &LockOptions::new().wait(secs(5))).await.unwrap();
            let at = Instant::now();
            guard.unlock().await.unwrap();
            at
        });
        tokio::time::sleep(Duration::from_millis(37)).await;
        let free = Instant::now();
        held.unlock().await.unwrap();
        taken.push(waiting.await.unwrap().saturating_duration_since(free));
    }
    taken.sort_unstable();
    usual.sort_unstable();
    let (median, usual) = (taken[taken.len() / 2], usual[usual.len() / 2]);
    println!("hand-over p50 {median:?}; to lock and unlock a free key {usual:?}");
    // It takes a release, a notice and a grant; a look would come after half a second. How quick it is, is for
    // the benchmark.
    let bound = Duration::from_millis(20).max(usual * 3);
    assert!(median < bound, "{median:?}");
}
