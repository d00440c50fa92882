//! Faults of a real ensemble of three: whoever is told that it holds is alone, fences rise, and all goes
//! on when the fault is over. They take a minute, and run with `LOCK_TEST_FULL`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::env;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use libtest_mimic::Arguments;
use libtest_mimic::Trial;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_zookeeper::DRIVER;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;

use crate::servers::Ensemble;

fn main() -> ExitCode {
    let brief = env::var_os("LOCK_TEST_FULL").is_none();
    let of = |name: &str, test: fn() -> Pin<Box<dyn Future<Output = ()>>>| {
        let run = move || {
            Runtime::new().unwrap().block_on(test());
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(brief)
    };
    let trials = vec![
        of("of_the_leader_let_nobody_hold_together", || {
            Box::pin(of_the_leader_let_nobody_hold_together())
        }),
        of("of_the_majority_are_noticed_in_time", || {
            Box::pin(of_the_majority_are_noticed_in_time())
        }),
        of("of_a_server_that_has_lost_a_transaction_stop_nobody", || {
            Box::pin(of_a_server_that_has_lost_a_transaction_stop_nobody())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

/// Clients that take turns on one key, and what is known of their holds.
struct Workers {
    grants: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Hold>>>,
}

/// A hold, for as long as its guard said that it was valid.
struct Hold {
    from: u64,
    to: u64,
    fence: u64,
}

impl Workers {
    async fn start(url: &str, count: usize) -> Self {
        let (grants, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut tasks = Vec::new();
        for _ in 0..count {
            let locks = connect(url).await;
            tasks.push(tokio::spawn(work(locks, grants.clone(), stop.clone())));
        }
        Self { grants, stop, tasks }
    }

    /// Waits for as many grants as show that everything goes on.
    async fn go_on(&self, within: Duration) {
        let (clock, before) = (Clock::system(), self.grants.load(Ordering::SeqCst));
        let until = clock.now() + within;
        while self.grants.load(Ordering::SeqCst) < before + 20 {
            assert!(clock.now() < until, "no 20 grants within {within:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends them and judges what they saw.
    async fn judge(self) {
        self.stop.store(true, Ordering::SeqCst);
        let mut holds = Vec::new();
        for task in self.tasks {
            holds.extend(task.await.unwrap());
        }
        holds.sort_by_key(|hold| hold.from);
        assert!(holds.len() > 50, "only {} holds", holds.len());
        for pair in holds.windows(2) {
            let overlap = pair[0].to.saturating_sub(pair[1].from);
            assert_eq!(overlap, 0, "two held together for {overlap} ns");
            assert!(
                pair[0].fence < pair[1].fence,
                "fence {} after {}",
                pair[1].fence,
                pair[0].fence
            );
        }
        println!("{} holds", holds.len());
    }
}

async fn work(
    locks: Arc<dyn LockProvider>,
    grants: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<Hold> {
    let (clock, mut holds) = (Clock::system(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let options = LockOptions::new().wait(Duration::from_secs(3));
        let Ok(guard) = locks.lock("contended", &options).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (from, mut to) = (clock.now(), clock.now());
        for _ in 0..5 {
            sleep(Duration::from_millis(1)).await;
            // Read before the question, so that the answer was true at that instant.
            let now = clock.now();
            if !guard.is_valid() {
                break;
            }
            to = now;
        }
        holds.push(Hold { from: from.as_nanos(), to: to.as_nanos(), fence: guard.fence().get() });
        grants.fetch_add(1, Ordering::SeqCst);
        drop(guard.unlock().await);
    }
    holds
}

/// How soon everything has to go on after a fault: the election and a session's timeout.
const BOUND: Duration = Duration::from_secs(25);

async fn of_the_leader_let_nobody_hold_together() {
    let mut ensemble = Ensemble::start();
    let workers = Workers::start(&ensemble.url(), 6).await;
    workers.go_on(BOUND).await;

    let leader = ensemble.leader();
    ensemble.servers[leader].kill();
    workers.go_on(BOUND).await;
    ensemble.servers[leader].restart();
    ensemble.await_ready();

    let leader = ensemble.leader();
    ensemble.servers[leader].freeze();
    workers.go_on(BOUND).await;
    ensemble.servers[leader].thaw();
    ensemble.await_ready();
    workers.go_on(BOUND).await;

    for server in &mut ensemble.servers {
        server.kill();
    }
    sleep(Duration::from_secs(1)).await;
    ensemble.servers.iter_mut().for_each(|server| server.restart());
    ensemble.await_ready();
    workers.go_on(BOUND).await;
    workers.judge().await;
}

async fn of_the_majority_are_noticed_in_time() {
    let ensemble = Ensemble::start();
    let locks = connect(&ensemble.url()).await;
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    let leader = ensemble.leader();
    // Reads and pings may still be answered, but nobody confirms.
    for (at, server) in ensemble.servers.iter().enumerate() {
        if at != leader {
            server.freeze();
        }
    }
    tokio::time::timeout(Duration::from_millis(2100), held.lost()).await.unwrap();
    assert!(!held.is_valid());
    ensemble.servers.iter().for_each(|server| server.thaw());
    let again = locks.lock("a", &LockOptions::new().wait(BOUND)).await.unwrap();
    assert!(again.fence() > held.fence());
}

/// Servers are known to lose transactions when they are killed and frozen: one goes on to show contenders that
/// the others do not have. Here it is made to have one that they never had.
async fn of_a_server_that_has_lost_a_transaction_stop_nobody() {
    let mut ensemble = Ensemble::start();
    let locks = connect(&ensemble.url()).await;
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    let odd = (ensemble.leader() + 1) % 3;
    ensemble.servers[odd].kill();
    ensemble.servers[odd].alone(async |address| haunt(address, "a").await).await;
    // More transactions than the odd one has had alone: the next of the leader's it takes for its own next.
    for _ in 0..5 {
        let options = LockOptions::new().wait(BOUND);
        locks.lock("b", &options).await.unwrap().unlock().await.unwrap();
    }
    ensemble.servers[odd].restart();
    ensemble.await_ready();

    let led_astray = connect(&ensemble.servers[odd].url()).await;
    let astray = led_astray.try_lock("a", &LockOptions::new()).await.unwrap();
    assert!(astray.acquired().is_none(), "the server has no ghost: this tests nothing");
    let held = led_astray.lock("a", &LockOptions::new().wait(BOUND)).await.unwrap();
    assert!(locks.try_lock("a", &LockOptions::new()).await.unwrap().acquired().is_none());
    held.unlock().await.unwrap();
}

/// Stores a contender that nobody owns.
async fn haunt(address: &str, key: &str) {
    let client = Client::connect(address).await.unwrap();
    let options = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let path = format!("/{key}/_c_00000000-0000-4000-8000-000000000000-lock-");
    client.create(&path, b"ghost", &options).await.unwrap();
}
