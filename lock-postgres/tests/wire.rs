//! What goes over the wire, how other clients see it, and which servers are refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_core::SharedBackend;
use lock_postgres::DRIVER;

use crate::servers::Server;

async fn open(url: &str) -> lock_core::Result<SharedBackend> {
    DRIVER.open(ConnectUrl::parse(url)?).await
}

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    Ok(Arc::new(Engine::new(open(url).await?, EngineOptions::default())?))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn is_refused(locks: &Arc<dyn LockProvider>, mode: &str) -> bool {
    let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap());
    locks.try_lock("a", &options).await.unwrap().acquired().is_none()
}

#[tokio::test]
async fn a_free_key_costs_one_statement_to_lock_and_one_to_unlock() {
    let server = Server::start(&["log_statement=all"]);
    let locks = connect(&server.url()).await.unwrap();
    let before = server.log().len();
    for _ in 0..10 {
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    }
    let log = server.log();
    let statements: Vec<_> =
        log[before..].lines().filter(|line| line.contains("execute ")).collect();
    assert_eq!(statements.len(), 20, "{statements:#?}");
}

#[tokio::test]
async fn psql_takes_the_same_lock_by_hand_and_is_excluded() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await.unwrap(), server.psql().await);
    let try_lock = "SELECT pg_try_advisory_lock(hashtextextended('a', 0))";
    let held = locks.lock("a", &LockOptions::new().owner("ann")).await.unwrap();
    assert!(!psql.one::<bool>(try_lock).await);
    let shown = "SELECT owner || ' ' || fence FROM locks.held WHERE lock_key = 'a'";
    assert_eq!(psql.one::<String>(shown).await, format!("ann {}", held.fence()));
    held.unlock().await.unwrap();
    assert_eq!(psql.one::<i64>("SELECT count(*) FROM locks.held").await, 0);
    assert!(psql.one::<bool>(try_lock).await);
    for mode in ["exclusive", "shared", "permits:2"] {
        assert!(is_refused(&locks, mode).await, "{mode}");
    }
    let status = locks.status("a").await.unwrap();
    assert_eq!((status.holders.len(), &status.holders[0].owner), (1, &None));
    // Nobody tells of what psql does: whoever waits finds out by looking.
    let waiting = tokio::spawn(async move {
        let wait = LockOptions::new().wait(secs(10));
        locks.lock("a", &wait).await.unwrap().unlock().await
    });
    psql.run("SELECT pg_advisory_unlock(hashtextextended('a', 0))").await;
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lock_of_psql_is_not_said_to_be_free_when_it_cannot_be_asked_back() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await.unwrap(), server.psql().await);
    let none = locks.force_unlock("a", Eviction::LockOnly).await.unwrap();
    assert_eq!(none.holders, 0);
    psql.run("SELECT pg_advisory_lock(hashtextextended('a', 0))").await;
    let refused = locks.force_unlock("a", Eviction::LockOnly).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(is_refused(&locks, "exclusive").await);
    let ended = locks.force_unlock("a", Eviction::EndSession).await.unwrap();
    assert_eq!((ended.holders, ended.others), (1, 0));
    assert!(!is_refused(&locks, "exclusive").await);
}

#[tokio::test]
async fn readers_in_psql_are_readers() {
    let server = Server::start(&[]);
    let (locks, mut psql) = (connect(&server.url()).await.unwrap(), server.psql().await);
    psql.run("SELECT pg_advisory_lock_shared(hashtextextended('a', 0))").await;
    assert!(is_refused(&locks, "exclusive").await);
    assert!(is_refused(&locks, "permits:2").await);
    assert!(!is_refused(&locks, "shared").await);
    psql.run("SELECT pg_advisory_unlock_shared(hashtextextended('a', 0))").await;
    for mode in ["shared", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap());
        let held = locks.lock("a", &options).await.unwrap();
        let try_lock = "SELECT pg_try_advisory_lock(hashtextextended('a', 0))";
        assert!(!psql.one::<bool>(try_lock).await, "{mode}");
        held.unlock().await.unwrap();
    }
}

#[tokio::test]
async fn many_locks_hang_on_two_connections_and_waiters_keep_no_snapshot() {
    let server = Server::start(&[]);
    let (holder, waiter) =
        (connect(&server.url()).await.unwrap(), connect(&server.url()).await.unwrap());
    let mut guards = Vec::new();
    for n in 0..300 {
        guards.push(holder.lock(&n.to_string(), &LockOptions::new()).await.unwrap());
    }
    let waiting: Vec<_> = (0..50)
        .map(|n| {
            let waiter = waiter.clone();
            let wait = LockOptions::new().wait(secs(30));
            tokio::spawn(async move { waiter.lock(&n.to_string(), &wait).await.map(drop) })
        })
        .collect();
    tokio::time::sleep(secs(1)).await;
    let mut psql = server.psql().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lock'";
    assert_eq!(psql.one::<i64>(count).await, 4, "two for each client");
    let pinned = format!("{count} AND (backend_xmin IS NOT NULL OR wait_event_type = 'Lock')");
    assert_eq!(psql.one::<i64>(&pinned).await, 0);
    drop(guards);
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_lock_beyond_half_of_the_servers_room_is_refused() {
    let server = Server::start(&["max_locks_per_transaction=10", "max_connections=20"]);
    let locks = connect(&server.url()).await.unwrap();
    let mut guards = Vec::new();
    let error = loop {
        assert!(guards.len() <= 100, "more than half of the room is taken");
        match locks.try_lock(&guards.len().to_string(), &LockOptions::new()).await {
            Ok(taken) => guards.push(taken.acquired().unwrap()),
            Err(error) => break error,
        }
    };
    assert!(guards.len() > 80, "only {}", guards.len());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("max_locks_per_transaction"), "{error}");
    assert!(guards.iter().all(|guard| guard.is_valid()));
    guards.pop().unwrap().unlock().await.unwrap();
    locks.lock("one more", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_forced_unlock_stops_the_holder_and_its_siblings_live() {
    let server = Server::start(&[]);
    let (holder, other) =
        (connect(&server.url()).await.unwrap(), open(&server.url()).await.unwrap());
    let (a, b) = (
        holder.lock("a", &LockOptions::new()).await.unwrap(),
        holder.lock("b", &LockOptions::new()).await.unwrap(),
    );
    let key = lock_core::LockKey::new("a").unwrap();
    let evicted = other.evict(&key, Eviction::LockOnly).await.unwrap();
    assert_eq!((evicted.holders, evicted.others), (1, 0));
    tokio::time::timeout(secs(5), a.lost()).await.unwrap();
    assert!(b.is_valid());
    b.unlock().await.unwrap();
}

#[tokio::test]
async fn an_ended_session_names_what_went_with_it() {
    let server = Server::start(&[]);
    let (holder, other) =
        (connect(&server.url()).await.unwrap(), open(&server.url()).await.unwrap());
    let mut guards = Vec::new();
    for key in ["a", "b", "c"] {
        guards.push(holder.lock(key, &LockOptions::new().ttl(secs(1))).await.unwrap());
    }
    let key = lock_core::LockKey::new("a").unwrap();
    let evicted = other.evict(&key, Eviction::EndSession).await.unwrap();
    assert_eq!((evicted.holders, evicted.others), (1, 2));
    for guard in &guards {
        tokio::time::timeout(secs(5), guard.lost()).await.unwrap();
    }
    let again = holder.lock("a", &LockOptions::new()).await.unwrap();
    assert!(again.fence() > guards[0].fence());
}

#[tokio::test]
async fn the_documented_grants_are_enough() {
    let server = Server::start(&[]);
    let mut admin = server.psql().await;
    admin.run("CREATE ROLE app LOGIN; CREATE ROLE nobody LOGIN").await;
    let url = |role: &str| server.url().replace("postgres@", &format!("{role}@"));
    let error = connect(&url("app")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("lockctl schema"), "{error}");
    let schema = (DRIVER.schema)(&ConnectUrl::parse(&url("app")).unwrap()).unwrap().unwrap();
    admin.run(&schema).await;
    let grants = include_str!("../src/docs.md").lines().filter(|line| line.starts_with("GRANT "));
    admin.run(&grants.collect::<String>().replace("shop", "postgres")).await;
    let (locks, other) = (connect(&url("app")).await.unwrap(), connect(&url("app")).await.unwrap());
    for mode in ["exclusive", "shared", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap()).fair().wait(secs(5));
        let held = locks.lock("a", &options).await.unwrap();
        assert_eq!(other.status("a").await.unwrap().holders.len(), 1);
        held.unlock().await.unwrap();
    }
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    other.force_unlock("a", Eviction::LockOnly).await.unwrap();
    tokio::time::timeout(secs(5), held.lost()).await.unwrap();
    other.cleanup_expired().await.unwrap();
    let error = connect(&url("nobody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("least grants"), "{error}");
}

#[tokio::test]
async fn a_replica_is_refused_and_the_next_host_is_used() {
    let server = Server::start(&["wal_level=replica"]);
    let standby = server.standby();
    let error = connect(&standby.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("replica"), "{error}");
    let both = format!("postgres://postgres@{},{}/postgres", standby.address(), server.address());
    let locks = connect(&both).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_refused() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    psql.run(
        "CREATE SCHEMA app; CREATE TABLE app.holders (id int); COMMENT ON SCHEMA app IS 'mine'",
    )
    .await;
    let error = connect(&format!("{}?schema=app", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    psql.run("COMMENT ON SCHEMA app IS NULL").await;
    let error = connect(&format!("{}?schema=app", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(psql.one::<i64>("SELECT count(*) FROM app.holders").await, 0);
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    psql.run("CREATE ROLE ann LOGIN SUPERUSER PASSWORD 's3cret'").await;
    server.demand_passwords();
    psql.run("SELECT pg_reload_conf()").await;
    let url = |login: &str| server.url().replace("postgres@", &format!("{login}@"));
    servers::until("a server that asks for passwords", || {
        let url = url("ann:hunter2");
        let failed: Option<Error> = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(connect(&url)).err()
        })
        .join()
        .unwrap();
        failed.is_some_and(|wrong| {
            assert_eq!(wrong.kind(), ErrorKind::Config, "{wrong}");
            assert!(!format!("{wrong} {wrong:?}").contains("hunter2"));
            true
        })
    });
    let locks = connect(&url("ann:s3cret")).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    assert!(!format!("{locks:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_pooler_of_transactions_is_refused_and_one_of_sessions_is_not() {
    let server = Server::start(&[]);
    for (mode, fits) in [("transaction", false), ("statement", false), ("session", true)] {
        let pooler = servers::Pooler::start(&server, mode);
        match connect(&pooler.url()).await {
            Ok(locks) => {
                assert!(fits, "{mode} was not refused");
                locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
            }
            Err(error) => {
                assert!(!fits, "{mode}: {error:?}");
                assert_eq!(error.kind(), ErrorKind::Config, "{mode}: {error:?}");
                assert!(error.to_string().contains("PgBouncer"), "{mode}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_is_checked_where_that_is_asked_for() {
    let mut server = Server::start(&[]);
    let certificate = server.encrypt();
    let plain = connect(&format!("{}?sslmode=require", server.url())).await.unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::Config, "{plain}");
    server.stop();
    server.restart();
    let url = |query: &str| format!("{}?{query}", server.url());
    let root = format!("sslrootcert={}", certificate.display());
    for query in ["sslmode=require", &format!("sslmode=verify-full&{root}")] {
        let locks = connect(&url(query)).await.unwrap();
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        let open = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'lock' AND NOT ssl";
        assert_eq!(server.psql().await.one::<i64>(open).await, 0, "{query}");
    }
    // Nobody else vouches for it, and it is not for another name.
    let named = |query: String| url(&query).replace("127.0.0.1", "localhost");
    for url in [url("sslmode=verify-full"), named(format!("sslmode=verify-full&{root}"))] {
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
        assert!(error.to_string().contains("encrypted"), "{url}: {error}");
    }
}
