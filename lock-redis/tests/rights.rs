//! The least rights that the documentation names are enough.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_redis::DRIVER;

use crate::servers::Cluster;
use crate::servers::Server;

/// The command in the documentation, on one line.
fn documented() -> String {
    let block = include_str!("../src/docs.md").split("```text\n").nth(1).unwrap();
    let words = block.split("```").next().unwrap().split_whitespace();
    words.collect::<Vec<_>>().join(" ").replace("PASSWORD", "s3cret")
}

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    let options = EngineOptions::default().prefix("shop:");
    Arc::new(Engine::new(backend, options).unwrap())
}

/// Does whatever a user does.
async fn use_all(url: &str) {
    let (one, two) = (connect(url).await, connect(url).await);
    for mode in ["shared", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap()).fair();
        let guard = one.lock(mode, &options).await.unwrap();
        guard.extend(Duration::from_secs(9)).await.unwrap();
        two.lock(mode, &options).await.unwrap().unlock().await.unwrap();
        assert_eq!(two.list(mode).await.unwrap().len(), 1);
        assert_eq!(two.force_unlock(mode, Eviction::LockOnly).await.unwrap().holders, 1);
    }
    let guard = one.lock("a", &LockOptions::new()).await.unwrap();
    let waiting = tokio::spawn(async move {
        let options = LockOptions::new().fair().wait(Duration::from_secs(20));
        two.lock("a", &options).await.unwrap().unlock().await.unwrap();
    });
    while one.status("a").await.unwrap().waiting == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    guard.unlock().await.unwrap();
    waiting.await.unwrap();
    one.cleanup_expired().await.unwrap();
}

/// Checks that nothing was refused, not even what we can do without, such as pushes.
fn nothing_was_refused(server: &Server) {
    let log = server.command("ACL LOG");
    assert!(log.starts_with("*0"), "{log}");
}

#[tokio::test]
async fn the_documented_rights_are_enough_on_one_server() {
    let server = Server::start(&[]);
    assert!(server.command(&documented()).contains("OK"));
    use_all(&server.url().replace("//", "//locks:s3cret@")).await;
    nothing_was_refused(&server);
}

#[tokio::test]
async fn the_documented_rights_are_enough_on_a_cluster() {
    let cluster = Cluster::start();
    let more = " +cluster|slots +spublish +ssubscribe +sunsubscribe";
    assert!(include_str!("../src/docs.md").contains(&format!("`{}`", more.trim())));
    for server in &cluster.servers {
        assert!(server.command(&(documented() + more)).contains("OK"));
    }
    use_all(&cluster.url().replace("//", "//locks:s3cret@")).await;
    cluster.servers.iter().for_each(nothing_was_refused);
}
