//! Waiting for replicas: a lock counts when so many have it, and is given back when they have not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_redis::DRIVER;

use crate::servers::Server;
use crate::servers::until;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

/// A primary and a replica that has caught up.
fn pair() -> (Server, Server) {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let port = primary.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    until("a replica that has caught up", || {
        replica.command("INFO replication").contains("master_link_status:up")
    });
    (primary, replica)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_has_a_lock_that_counts() {
    let (primary, replica) = pair();
    let locks = connect(&format!("{}?wait_replicas=1&wait_timeout=2s", primary.url())).await;
    let locks = locks.unwrap();
    for n in 0..50 {
        let held = locks.lock(&format!("key:{n}"), &LockOptions::new()).await.unwrap();
        assert!(replica.holds(&format!("key:{n}")));
        held.unlock().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_replica_it_fails_in_time_is_given_back_and_keeps_nobody_waiting() {
    let (primary, replica) = pair();
    let url = format!("{}?wait_replicas=1&wait_timeout=300ms", primary.url());
    let locks = connect(&url).await.unwrap();
    let options = LockOptions::new().ttl(ms(900));
    let held = locks.lock("held", &options).await.unwrap();
    replica.freeze();
    let start = Instant::now();
    let error = locks.try_lock("a", &options).await.unwrap_err();
    // A failure that may pass is tried three times in all.
    assert!((ms(900)..ms(2_500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable() && !error.is_ambiguous(), "{error:?}");
    let told = "0 of the 1 replicas that are wanted had the lock within 300ms";
    assert!(error.to_string().ends_with(told), "{error}");
    assert!(!primary.holds("a"));
    // Renewals must not stand behind those who wait for the replica, one after the other.
    let crowd: Vec<_> = (0..10).map(|n| format!("crowd:{n}")).collect();
    let tries = crowd.iter().map(|key| locks.try_lock(key, &options));
    for refused in futures_util::future::join_all(tries).await {
        refused.unwrap_err();
    }
    assert!(held.is_valid());
    replica.thaw();
    let wait = options.wait(ms(5_000));
    locks.lock("a", &wait).await.unwrap().unlock().await.unwrap();
    held.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_that_takes_over_knows_the_lock() {
    let (mut primary, replica) = pair();
    let locks = connect(&format!("{}?wait_replicas=1", primary.url())).await.unwrap();
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    primary.kill();
    replica.command("REPLICAOF NO ONE");
    let promoted = connect(&replica.url()).await.unwrap();
    assert!(promoted.try_lock("a", &LockOptions::new()).await.unwrap().acquired().is_none());
    let status = promoted.status("a").await.unwrap();
    assert_eq!(status.holders[0].fence, Some(held.fence()));
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused() {
    let server = Server::start(&[]);
    for (query, told) in [
        ("wait_replicas=0", "is not a whole number from 1"),
        ("wait_timeout=1s", "wait_timeout is for wait_replicas"),
        ("wait_replicas=1&wait_timeout=0", "must be above 0"),
        ("wait_replicas=1&wait_timeout=5s", "must be below reply_timeout"),
    ] {
        let error = connect(&format!("{}?{query}", server.url())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{query}: {error}");
        assert!(error.to_string().contains(told), "{query}: {error}");
    }
}
