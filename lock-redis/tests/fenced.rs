//! Data in Redis that refuses the writes of a holder who came too late.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_redis::DRIVER;
use lock_redis::FencedScript;
use lock_redis::redis;
use lock_redis::redis::aio::ConnectionLike;
use lock_redis::set_fenced;

use crate::servers::Cluster;
use crate::servers::Server;

fn fence(number: u64) -> Fence {
    Fence::new(number).unwrap()
}

async fn connection(server: &Server) -> impl ConnectionLike {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// What a stale write has to end with.
#[track_caller]
fn stale(error: &Error, its: u64, highest: u64) {
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert!(!error.is_retryable() && !error.is_ambiguous(), "{error:?}");
    let told = format!(
        "a later holder has written: the fence is {its}, there was one of {highest}; nothing was written"
    );
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn a_holder_that_was_paused_is_refused_by_the_data() {
    let server = Server::start(&[]);
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    let locks = Engine::new(backend, EngineOptions::new()).unwrap();
    let mut connection = connection(&server).await;
    let short = LockOptions::new().ttl(Duration::from_millis(100)).without_renewal();
    let paused = locks.lock("order:1", &short).await.unwrap();
    let next = locks.lock("order:1", &LockOptions::new()).await.unwrap();
    set_fenced(&mut connection, "data:1", "of the next", next.fence()).await.unwrap();
    let late = set_fenced(&mut connection, "data:1", "of the paused", paused.fence()).await;
    stale(&late.unwrap_err(), paused.fence().get(), next.fence().get());
    assert!(server.command("GET data:1").contains("of the next"));
    set_fenced(&mut connection, "data:1", "of the next again", next.fence()).await.unwrap();
    assert!(server.command("GET data:1").contains("of the next again"));
}

#[tokio::test]
async fn a_script_of_the_users_own_runs_only_for_the_latest_holder() {
    let server = Server::start(&[]);
    let mut connection = connection(&server).await;
    let take = FencedScript::new("return redis.call('DECRBY', KEYS[1], ARGV[1] + ARGV[#ARGV])");
    server.command("SET stock 10");
    let left: i64 = take.run(&mut connection, "stock", &[1, 2], fence(7)).await.unwrap();
    assert_eq!(left, 7);
    let late = take.run::<i64>(&mut connection, "stock", &[1, 2], fence(6)).await;
    stale(&late.unwrap_err(), 6, 7);
    assert!(server.command("GET stock").contains('7'));
    server.command("SCRIPT FLUSH");
    // As high as fences get, and one below.
    let most = (1 << 53) - 1;
    let left: i64 = take.run(&mut connection, "stock", 1, fence(most)).await.unwrap();
    assert_eq!(left, 5);
    let late = take.run::<i64>(&mut connection, "stock", 1, fence(most - 1)).await;
    stale(&late.unwrap_err(), most - 1, most);
}

#[tokio::test]
async fn deleted_data_is_not_brought_back_by_a_stale_holder() {
    let server = Server::start(&[]);
    let mut connection = connection(&server).await;
    set_fenced(&mut connection, "a", "x", fence(5)).await.unwrap();
    server.command("DEL a");
    stale(&set_fenced(&mut connection, "a", "y", fence(4)).await.unwrap_err(), 4, 5);
    assert!(server.command("GET a").starts_with("$-1"));
}

#[tokio::test]
async fn what_is_no_fence_is_corrupt_and_stays() {
    let server = Server::start(&[]);
    let mut connection = connection(&server).await;
    set_fenced(&mut connection, "a", "x", fence(5)).await.unwrap();
    let answer = server.command("KEYS lk:*w:a");
    let mark = answer.lines().nth(2).unwrap();
    let damages = ["SET _ rubbish", "SET _ nan", "LPUSH _ rubbish"];
    for damage in damages.map(|damage| damage.replace('_', mark)) {
        server.command(&format!("DEL {mark}"));
        server.command(&damage);
        let error = set_fenced(&mut connection, "a", "y", fence(9)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {error}");
        assert!(server.command("GET a").contains('x'));
    }
}

#[tokio::test]
async fn in_a_cluster_the_fence_is_beside_the_data() {
    let cluster = Cluster::start();
    let nodes: Vec<_> = cluster.servers.iter().map(Server::url).collect();
    let client = redis::cluster::ClusterClient::new(nodes).unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    for key in ["a", "a}b", "{a}b", "x{t}y", "{}x", "🔒"] {
        set_fenced(&mut connection, key, "x", fence(5)).await.unwrap();
        let late = set_fenced(&mut connection, key, "y", fence(4)).await;
        stale(&late.unwrap_err(), 4, 5);
    }
}
