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

/// Those of the `living` servers that have something under `key`.
fn holding(fleet: &Fleet, living: &[usize], key: &str) -> Vec<usize> {
    let holds = |at: &&usize| fleet.servers[**at].holds(key);
    living.iter().filter(holds).copied().collect()
}
