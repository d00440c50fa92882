//! Many in one line: who is next, and what that costs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Fence;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_redis::DRIVER;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::servers::Server;

/// As many as processes in practice: each has a connection and waiters of its own.
const PROVIDERS: usize = 4;

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

/// How many scripts the server has run.
fn scripts(server: &Server) -> usize {
    let text = server.command("INFO commandstats");
    let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

fn wait(locks: &Arc<dyn LockProvider>, key: &str) -> JoinHandle<Fence> {
    let (locks, key) = (locks.clone(), key.to_owned());
    let mut options = LockOptions::new().wait(Duration::from_secs(60));
    options.fair = true;
    tokio::spawn(async move {
        let guard = locks.lock(&key, &options).await.unwrap();
        let fence = guard.fence();
        guard.unlock().await.unwrap();
        fence
    })
}

/// Lets `count` line up one after the other, and go: their fences, how many scripts a grant took, and how many
/// seconds all of it.
async fn serve(server: &Server, count: usize) -> (Vec<Fence>, f64, f64) {
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        providers.push(connect(&server.url()).await);
    }
    let key = format!("line of {count}");
    let held = providers[0].lock(&key, &LockOptions::new()).await.unwrap();
    let mut waits = Vec::new();
    for n in 0..count {
        waits.push(wait(&providers[n % PROVIDERS], &key));
        while waiting(&providers[0], &key).await <= n as u64 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let (begun, before) = (Instant::now(), scripts(server));
    held.unlock().await.unwrap();
    let mut fences = Vec::new();
    for wait in waits {
        fences.push(wait.await.unwrap());
    }
    let each = (scripts(server) - before) as f64 / count as f64;
    (fences, each, begun.elapsed().as_secs_f64())
}

async fn waiting(locks: &Arc<dyn LockProvider>, key: &str) -> u64 {
    locks.status(key).await.unwrap().waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_served_in_order_and_a_grant_costs_the_same_however_long_it_is() {
    let server = Server::start(&[]);
    for count in [10, 200] {
        let (fences, each, seconds) = serve(&server, count).await;
        assert!(fences.is_sorted(), "{count} waiters were served out of order");
        // An attempt and a release, and a look a second in case that a hint was lost.
        let most = 4.0 + 2.0 * seconds;
        assert!(each <= most, "{each} scripts a grant with {count} waiters in {seconds} s");
    }
}
