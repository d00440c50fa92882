//! How many pairs of lock and unlock a second there are, beside the same requests without the framework.
//!
//! It runs with `LOCK_TEST_FULL`, and judges what was built for release.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]
#![allow(clippy::disallowed_methods, reason = "a test lets time pass, and ends what hangs")]

mod servers;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use etcd_client::Client;
use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::PutOptions;
use etcd_client::Txn;
use etcd_client::TxnOp;
use libtest_mimic::Arguments;
use libtest_mimic::Trial;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_etcd::DRIVER;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

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
    let server = Server::start(&[]);
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    let locks: Arc<dyn LockProvider> =
        Arc::new(Engine::new(backend, EngineOptions::default()).unwrap());
    let bare = Client::connect([format!("127.0.0.1:{}", server.port)], None).await.unwrap();
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

/// Takes a key that is not there on a lease, and deletes it if it is the same.
async fn pairs(mut client: Client, task: usize) -> u64 {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let (start, key, mut done) = (Instant::now(), format!("bare/{task}"), 0);
    while start.elapsed() < TIME {
        let put = TxnOp::put(key.clone(), "", Some(PutOptions::new().with_lease(lease)));
        let free = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
        let taken = client.txn(Txn::new().when([free]).and_then([put])).await.unwrap();
        let revision = taken.header().unwrap().revision();
        let same = Compare::create_revision(key.clone(), CompareOp::Equal, revision);
        let delete = TxnOp::delete(key.clone(), None);
        assert!(client.txn(Txn::new().when([same]).and_then([delete])).await.unwrap().succeeded());
        done += 1;
    }
    client.lease_revoke(lease).await.unwrap();
    done
}
