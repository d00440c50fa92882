//! Servers that die, freeze, forget, move and are replaced.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_redis::DRIVER;

use crate::servers::Cluster;
use crate::servers::Server;
use crate::servers::Watched;
use crate::servers::until;

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Locks while the store may be in trouble: an outage is not an end.
async fn lock_by(locks: &Arc<dyn LockProvider>, key: &str, limit: Duration) -> LockGuard {
    let start = Instant::now();
    let options = LockOptions::new().ttl(seconds(2)).wait(seconds(2));
    loop {
        match locks.lock(key, &options).await {
            Ok(guard) => return guard,
            Err(error) => assert!(start.elapsed() < limit, "{:?}: {error}", start.elapsed()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_everything_gives_higher_fences() {
    let mut server = Server::start(&["--save", "", "--appendonly", "no"]);
    let locks = connect(&server.url()).await;
    let before = locks.lock("a", &LockOptions::new().ttl(seconds(2))).await.unwrap();
    server.kill();
    server.restart();
    let after = lock_by(&connect(&server.url()).await, "a", seconds(5)).await;
    assert!(after.fence() > before.fence());
    tokio::time::timeout(seconds(3), before.lost()).await.unwrap();
    assert!(after.is_valid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_the_lock_at_its_deadline_and_no_later() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await;
    let held = locks.lock("a", &LockOptions::new().ttl(seconds(1))).await.unwrap();
    server.freeze();
    let start = Instant::now();
    tokio::time::timeout(seconds(3), held.lost()).await.unwrap();
    assert!(start.elapsed() <= seconds(1) + Duration::from_millis(300), "{:?}", start.elapsed());
    server.thaw();
    lock_by(&locks, "a", seconds(5)).await.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_one_try_to_connect_to_a_frozen_server() {
    let server = Server::start(&[]);
    let url = format!("{}?reply_timeout=300ms&connect_timeout=300ms", server.url());
    let backend = DRIVER.open(ConnectUrl::parse(&url).unwrap()).await.unwrap();
    let key = LockKey::new("a").unwrap();
    server.freeze();
    backend.inspect(&key).await.unwrap_err();
    let start = Instant::now();
    for answer in futures_util::future::join_all((0..30).map(|_| backend.inspect(&key))).await {
        answer.unwrap_err();
    }
    assert!(start.elapsed() < seconds(2), "{:?}", start.elapsed());
    server.thaw();
    backend.inspect(&key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_the_server_counts_against_the_lease() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await;
    for _ in 0..5 {
        server.command("CLIENT PAUSE 700 WRITE");
        let asked = Instant::now();
        let held = locks.lock("a", &LockOptions::new().ttl(seconds(2))).await.unwrap();
        let (valid_for, took) = (held.valid_for(), asked.elapsed());
        held.unlock().await.unwrap();
        // On a machine that stood still the pause may be over before anyone asks.
        if took > Duration::from_millis(500) {
            assert!(valid_for + took < seconds(2), "{valid_for:?} after {took:?}");
            return;
        }
    }
    panic!("the server does not pause");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_that_sentinels_name_next_is_found() {
    let mut watched = Watched::start();
    let locks = connect(&watched.url()).await;
    let before = locks.lock("a", &LockOptions::new().ttl(seconds(2))).await.unwrap();
    watched.servers[0].kill();
    tokio::time::timeout(seconds(4), before.lost()).await.unwrap();
    let after = lock_by(&locks, "a", seconds(20)).await;
    assert!(after.fence() > before.fence());
    after.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_replaced_is_left_though_it_is_well() {
    let watched = Watched::start();
    let locks = connect(&watched.url()).await;
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    watched.sentinels[0].command("SENTINEL FAILOVER locks");
    until("a new primary", || watched.servers[1].is_primary());
    let start = Instant::now();
    // Left to itself it would be used for 8 s more.
    while start.elapsed() < seconds(5) {
        let guard = lock_by(&locks, "a", seconds(5)).await;
        let there = watched.servers[1].command("EXISTS a").contains(":1");
        if there && watched.servers[0].is_primary() {
            return;
        }
        drop(guard.unlock().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is still used after {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_that_takes_over_a_shard_is_found() {
    let mut cluster = Cluster::start();
    let locks = connect(&cluster.url()).await;
    let keys: Vec<_> = (0..12).map(|n| format!("key:{n}")).collect();
    let mut before = Vec::new();
    for key in &keys {
        before.push(locks.lock(key, &LockOptions::new().ttl(seconds(2))).await.unwrap());
    }
    cluster.servers[0].kill();
    for (key, before) in keys.iter().zip(before) {
        let fence = before.fence();
        drop(before);
        let after = lock_by(&locks, key, seconds(20)).await;
        assert!(after.fence() > fence, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_hangs_takes_no_lock_of_another_with_it() {
    let cluster = Cluster::start();
    let locks = connect(&format!("{}?reply_timeout=1s", cluster.url())).await;
    let mut held = Vec::new();
    for n in 0..12 {
        let options = LockOptions::new().ttl(seconds(2));
        held.push(locks.lock(&format!("key:{n}"), &options).await.unwrap());
    }
    let hangs = |guard: &LockGuard| cluster.servers[0].holds(guard.key());
    let (hung, well): (Vec<_>, Vec<_>) = held.into_iter().partition(hangs);
    assert!(!hung.is_empty() && !well.is_empty());
    for server in &cluster.servers {
        // Or the others would serve nothing until a replica takes over.
        server.command("CONFIG SET cluster-require-full-coverage no");
    }
    cluster.servers[0].freeze();
    tokio::time::sleep(seconds(5)).await;
    for guard in &well {
        assert!(guard.is_valid(), "{}", guard.key());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_know_the_way_into_a_cluster() {
    let cluster = Cluster::start();
    let replicas = cluster.servers.iter().filter(|server| !server.is_primary());
    let hosts: Vec<_> = replicas.map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let locks = connect(&format!("redis+cluster://{}", hosts.join(","))).await;
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
}

async fn wait_for(locks: Arc<dyn LockProvider>, key: String) -> LockGuard {
    locks.lock(&key, &LockOptions::new().wait(seconds(200))).await.unwrap()
}

/// Locks and unlocks; only outages may fail it.
async fn use_for_seconds(locks: Arc<dyn LockProvider>, number: u64) {
    let (start, key) = (Instant::now(), format!("busy:{number}"));
    while start.elapsed() < seconds(5) {
        match locks.lock(&key, &LockOptions::new().ttl(seconds(3)).wait(seconds(5))).await {
            Ok(guard) => assert!(guard.unlock().await.is_ok_and(|()| true), "{key}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_locks_along() {
    let cluster = Cluster::start();
    let locks = connect(&cluster.url()).await;
    let options = LockOptions::new().ttl(seconds(3));
    let keys: Vec<_> = (0..30).map(|n| format!("key:{n}")).collect();
    let mut held = Vec::new();
    for key in &keys {
        held.push(locks.lock(key, &options).await.unwrap());
    }
    let waiting: Vec<_> =
        keys.iter().map(|key| tokio::spawn(wait_for(locks.clone(), key.clone()))).collect();
    // Answers must not get mixed up by what the servers say of the slots that they give away.
    let busy: Vec<_> = (0..30).map(|n| tokio::spawn(use_for_seconds(locks.clone(), n))).collect();
    let moving = tokio::task::spawn_blocking(move || {
        cluster.reshard(0, 1, 3000);
        cluster
    });
    let _cluster = moving.await.unwrap();
    for busy in busy {
        busy.await.unwrap();
    }
    tokio::time::sleep(seconds(3)).await;
    for guard in &held {
        assert!(guard.is_valid(), "{}", guard.key());
    }
    for (guard, waiting) in held.into_iter().zip(waiting) {
        let fence = guard.fence();
        guard.unlock().await.unwrap();
        assert!(waiting.await.unwrap().fence() > fence);
    }
}
