//! Redlock over real servers: some of them down, frozen, restarted empty, or one too many.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::MemberErrors;
use lock_redis::REDLOCK;

use crate::servers::Fleet;
use crate::servers::Server;
use crate::servers::until;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Short, as a server counts only when it has run for as long.
const TTL: Duration = ms(1_500);

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = REDLOCK.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::new().ttl(TTL))?))
}

async fn open(fleet: &Fleet) -> Arc<dyn LockProvider> {
    connect(&fleet.url("ttl_max=1500ms")).await.unwrap()
}

fn options() -> LockOptions {
    LockOptions::new().ttl(TTL)
}

/// A fleet that has run for long enough to count.
fn fleet(size: usize) -> Fleet {
    let fleet = Fleet::start(size);
    fleet.await_age(TTL);
    fleet
}

async fn refused(locks: &Arc<dyn LockProvider>, key: &str) -> (Error, Duration) {
    let start = Instant::now();
    let error = locks.try_lock(key, &options()).await.unwrap_err();
    (error, start.elapsed())
}

/// The names of the members that failed.
fn failed(error: &Error) -> Vec<String> {
    let failures = error.source().unwrap().downcast_ref::<MemberErrors>().unwrap();
    failures.iter().map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_at_every_server_and_gone_after_its_release() {
    let fleet = fleet(3);
    let locks = open(&fleet).await;
    let held = locks.lock("a", &options()).await.unwrap();
    until("a lock at every server", || fleet.holding("a") == [0, 1, 2]);
    assert!(locks.try_lock("a", &options()).await.unwrap().acquired().is_none());
    let fence = held.fence();
    held.unlock().await.unwrap();
    until("a lock at no server", || fleet.holding("a").is_empty());
    assert!(locks.lock("a", &options()).await.unwrap().fence() > fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_of_five_down_it_works_and_with_three_it_fails_in_time_and_leaves_nothing() {
    let mut fleet = fleet(5);
    let locks = open(&fleet).await;
    fleet.servers[0].kill();
    fleet.servers[3].kill();
    let held = locks.lock("a", &options()).await.unwrap();
    tokio::time::sleep(TTL * 2).await;
    assert!(held.is_valid(), "it is kept");
    held.unlock().await.unwrap();
    until("a lock at no server", || holding(&fleet, &[1, 2, 4], "a").is_empty());
    fleet.servers[1].kill();
    let (error, took) = refused(&locks, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let dead: Vec<_> = [0, 1, 3].map(|at| fleet.servers[at].name()).into();
    assert_eq!(failed(&error), dead, "{error}");
    assert!(took < ms(500), "{took:?}");
    until("nothing left", || holding(&fleet, &[2, 4], "a").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_servers_slow_nobody_down_and_three_of_five_cost_a_budget() {
    let fleet = fleet(5);
    let locks = open(&fleet).await;
    fleet.servers[1].freeze();
    fleet.servers[2].freeze();
    let (start, pairs) = (Instant::now(), 50);
    for _ in 0..pairs {
        locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
    }
    assert!(start.elapsed() < ms(20) * pairs, "{pairs} took {:?}", start.elapsed());
    fleet.servers[4].freeze();
    let (error, took) = refused(&locks, "b").await;
    let frozen: Vec<_> = [1, 2, 4].map(|at| fleet.servers[at].name()).into();
    assert_eq!(failed(&error), frozen, "{error}");
    assert!(took < ms(700), "{took:?}");
    until("nothing left", || holding(&fleet, &[0, 3], "b").is_empty());
    fleet.servers.iter().for_each(Server::thaw);
    locks.lock("b", &options()).await.unwrap().unlock().await.unwrap();
    until("nothing left of requests that came late", || {
        fleet.holding("a").is_empty() && fleet.holding("b").is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarted_empty_makes_no_second_majority() {
    let mut fleet = fleet(3);
    let (ann, bob) = (open(&fleet).await, open(&fleet).await);
    let held = ann.lock("a", &options()).await.unwrap();
    until("a lock at every server", || fleet.holding("a") == [0, 1, 2]);
    // As if the third had been unreachable when it was acquired.
    fleet.servers[2].command("DEL a");
    fleet.servers[1].kill();
    fleet.servers[1].restart();
    let found = bob.try_lock("a", &options()).await;
    assert!(held.is_valid(), "it is too late to tell");
    assert!(found.is_ok_and(|found| found.acquired().is_none()));
    fleet.servers[0].freeze();
    let (error, _) = refused(&bob, "b").await;
    assert!(error.to_string().contains("may have forgotten"), "{error}");
    drop(held);
    fleet.servers[0].thaw();
    fleet.await_age(TTL);
    fleet.servers[0].freeze();
    bob.lock("b", &options()).await.unwrap().unlock().await.unwrap();
    fleet.servers[0].thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_that_was_won_is_given_back() {
    let fleet = fleet(3);
    let locks = open(&fleet).await;
    for at in [0, 1] {
        fleet.servers[at].command("SET a somebody PX 60000 NX");
    }
    assert!(locks.try_lock("a", &options()).await.unwrap().acquired().is_none());
    let start = Instant::now();
    until("a minority that was given back", || fleet.holding("a") == [0, 1]);
    assert!(start.elapsed() < TTL / 2, "it was released, not left to its TTL");
    let status = locks.status("a").await.unwrap();
    assert_eq!(status.holders.len(), 1, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_dropped_half_way_leaves_nothing() {
    let fleet = fleet(3);
    let locks = open(&fleet).await;
    for pause in [0, 1, 5, 20, 80] {
        fleet.servers[0].freeze();
        fleet.servers[2].freeze();
        let options = options();
        let attempt = tokio::time::timeout(ms(pause), locks.lock("a", &options));
        assert!(attempt.await.is_err());
        fleet.servers[0].thaw();
        fleet.servers[2].thaw();
        let start = Instant::now();
        until("nothing left", || fleet.holding("a").is_empty());
        assert!(start.elapsed() < TTL / 2, "it was released, not left to its TTL");
        locks.lock("a", &options).await.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_rise_whichever_servers_are_the_majority() {
    let fleet = fleet(3);
    let locks = open(&fleet).await;
    // Ahead of every clock, so that only what majorities tell each other can make it rise.
    let ahead = 8_000_000_000_000_000_u64;
    locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
    for at in [1, 2] {
        fleet.servers[at].command(&format!("HSET {} f {ahead}", card(&fleet.servers[at])));
    }
    let mut last = ahead;
    for frozen in [0, 1, 2, 0, 2, 1] {
        fleet.servers[frozen].freeze();
        let held = locks.lock("a", &options()).await.unwrap();
        let fence = held.fence().get();
        assert!(fence > last, "without {frozen}: {fence} after {last}");
        last = fence;
        held.unlock().await.unwrap();
        fleet.servers[frozen].thaw();
        until("nothing left", || fleet.holding("a").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_may_be_down_or_frozen_from_the_start() {
    let mut fleet = fleet(5);
    fleet.servers[0].kill();
    fleet.servers[1].freeze();
    let start = Instant::now();
    let locks = open(&fleet).await;
    assert!(start.elapsed() < ms(700), "{:?}", start.elapsed());
    locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
    fleet.servers[2].kill();
    let error = connect(&fleet.url("connect_timeout=300ms")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let mut names = failed(&error);
    names.sort();
    let mut dead: Vec<_> = [0, 1, 2].map(|at| fleet.servers[at].name()).into();
    dead.sort();
    assert_eq!(names, dead, "{error}");
}

#[tokio::test]
async fn what_can_be_no_quorum_is_refused_with_what_to_do() {
    let servers: Vec<_> = (0..3).map(|_| Server::start(&[])).collect();
    let [a, b, c] = [0, 1, 2].map(|at: usize| servers[at].name());
    let port = servers[0].port;
    let evicting = Server::start(&["--maxmemory", "9mb", "--maxmemory-policy", "allkeys-lru"]);
    let full = evicting.name();
    for (url, told) in [
        (format!("redlock://{a}"), "a quorum of 1 goes down with one: use an odd number"),
        (format!("redlock://{a},{b}"), "a quorum of 2"),
        (format!("redlock://{a},{b},{c},{full}"), "a quorum of 4 stands no more failures"),
        (format!("redlock://{a},{b},localhost:{port}"), "are one and the same server"),
        (format!("redlock://{a},{b},{full}"), "set noeviction there"),
        (format!("redlock://{a},{b},{c}/x"), "the path is the number of the database"),
        (format!("redlock://{a},{b},{c}?wait_replicas=1"), "unknown query key"),
        (format!("redlock://{a},{b},{c}?node_timeout=0"), "must be above 0"),
    ] {
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
        assert!(error.to_string().contains(told), "{url}: {error}");
    }
    let error = connect(&format!("redlock://{a},{b},{full}")).await.unwrap_err();
    assert!(error.to_string().starts_with(&full), "{error}");
}

/// Those of the `living` servers that have something under `key`.
fn holding(fleet: &Fleet, living: &[usize], key: &str) -> Vec<usize> {
    let holds = |at: &&usize| fleet.servers[**at].holds(key);
    living.iter().filter(holds).copied().collect()
}

/// The only card that the server has.
fn card(server: &Server) -> String {
    let answer = server.command("KEYS lk:*:a");
    answer.lines().nth(2).unwrap().to_owned()
}
