//! How many pairs of lock and unlock a second there are, beside the same requests without the framework.
//!
//! It runs with `LOCK_TEST_FULL`, and judges what was built for release.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use libtest_mimic::Arguments;
use libtest_mimic::Trial;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_zookeeper::DRIVER;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;

use crate::servers::Server;

/// The least share of the bare requests' rate.
const SHARE: f64 = 0.9;

/// How long each is measured at a time, and how often: in turns, so that both see the same machine.
const TIME: Duration = Duration::from_millis(1500);
const TURNS: usize = 5;

fn main() -> ExitCode {
    let brief = env::var_os("LOCK_TEST_FULL").is_none();
    let test = || {
        Runtime::new().unwrap().block_on(a_pair_costs_little_more_than_its_requests());
        Ok(())
    };
    let trial = Trial::test("a_pair_costs_little_more_than_its_requests", test);
    let trials = vec![trial.with_ignored_flag(brief)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

async fn a_pair_costs_little_more_than_its_requests() {
    let server = Server::start();
    let url = format!("zookeeper://{}?session_timeout=20s", server.address());
    let backend = DRIVER.open(ConnectUrl::parse(&url).unwrap()).await.unwrap();
    let locks: Arc<dyn LockProvider> =
        Arc::new(Engine::new(backend, EngineOptions::default()).unwrap());
    let bare = Client::connect(&server.address()).await.unwrap();
    for tasks in [1, 16, 64] {
        let mut shares = Vec::new();
        let mut rates = (0.0, 0.0);
        for _ in 0..TURNS {
            let bare = rate(tasks, |task| pairs(bare.clone(), task)).await;
            let ours = rate(tasks, |task| locks_and_unlocks(locks.clone(), task)).await;
            shares.push(ours / bare);
            rates = (bare, ours);
        }
        shares.sort_unstable_by(f64::total_cmp);
        let share = shares[TURNS / 2];
        println!(
            "{tasks} tasks: {share:.3} of the bare rate; last {:.0} and {:.0} a second",
            rates.0, rates.1
        );
        assert!(cfg!(debug_assertions) || share >= SHARE, "{shares:?} with {tasks} tasks");
    }
}

/// Counts how often all tasks go round, a second.
async fn rate<F: Future<Output = u64> + Send + 'static>(
    tasks: usize,
    turns: impl Fn(usize) -> F,
) -> f64 {
    let (start, mut set) = (Instant::now(), JoinSet::new());
    (0..tasks).for_each(|task| drop(set.spawn(turns(task))));
    let done: u64 = set.join_all().await.into_iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}

async fn locks_and_unlocks(locks: Arc<dyn LockProvider>, task: usize) -> u64 {
    let (start, key, options) = (Instant::now(), format!("ours/{task}"), LockOptions::new());
    let mut done = 0;
    while start.elapsed() < TIME {
        locks.lock(&key, &options).await.unwrap().unlock().await.unwrap();
        done += 1;
    }
    done
}

/// Creates a contender and lists the line in one go, and deletes it.
async fn pairs(client: Client, task: usize) -> u64 {
    let parent = format!("/bare/{task}");
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    client.mkdir(&parent, &container).await.unwrap();
    let (start, node, mut done) =
        (Instant::now(), CreateMode::EphemeralSequential.with_acls(Acls::anyone_all()), 0);
    while start.elapsed() < TIME {
        let path = format!("{parent}/_c_0f4a8e60-1d3a-4f1e-9b0e-3f8a5a1b2c3d-lock-");
        let created = client.create(&path, b"somebody", &node);
        let (created, listed) = tokio::join!(created, client.list_children(&parent));
        let (_, sequence) = created.unwrap();
        assert_eq!(listed.unwrap().len(), 1);
        client.delete(&format!("{path}{sequence}"), None).await.unwrap();
        done += 1;
    }
    done
}
