//! Many in one line, and many locks held at once: what that costs.
//!
//! Some by default; with `LOCK_TEST_FULL` a thousand in line and ten thousand held. Requests are judged, times only told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]
#![allow(clippy::disallowed_methods, reason = "a test lets time pass")]

mod servers;

use std::env;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use etcd_client::Client;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Fence;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_etcd::DRIVER;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::servers::Server;

/// As many as processes in practice: each has a connection and waiters of its own.
const PROVIDERS: usize = 4;

async fn connect(server: &Server) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

/// One crowd at a time: each is measured.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn is_full() -> bool {
    env::var_os("LOCK_TEST_FULL").is_some()
}

/// A lock that was held for no longer than it takes to say so.
struct Hold {
    fence: Fence,
    from: Instant,
    to: Instant,
}

fn wait(locks: &Arc<dyn LockProvider>) -> JoinHandle<Hold> {
    let locks = locks.clone();
    let mut options =
        LockOptions::new().ttl(Duration::from_secs(30)).wait(Duration::from_secs(120));
    options.fair = true;
    tokio::spawn(async move {
        let guard = locks.lock("line", &options).await.unwrap();
        let (fence, from) = (guard.fence(), Instant::now());
        let to = Instant::now();
        guard.unlock().await.unwrap();
        Hold { fence, from, to }
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How long a write of one client takes.
async fn round_trip(server: &Server) -> Duration {
    let mut client = Client::connect([format!("127.0.0.1:{}", server.port)], None).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        client.put("x", "", None).await.unwrap();
        times.push(start.elapsed());
    }
    median(times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_wakes_one_of_those_who_wait() {
    let _turn = TURN.lock().await;
    let count = if is_full() { 1000 } else { 100 };
    let server = Server::start(&[]);
    let write = round_trip(&server).await;
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        providers.push(connect(&server).await);
    }
    let held = providers[0].lock("line", &LockOptions::new()).await.unwrap();
    let waits: Vec<_> = (0..count).map(|n| wait(&providers[n % PROVIDERS])).collect();
    while providers[0].status("line").await.unwrap().waiting < count as u64 {
        sleep(Duration::from_millis(20)).await;
    }
    // Who has just lined up still arms its watch: that is not to be counted.
    sleep(Duration::from_secs(1)).await;
    let txns = || {
        server.metric(
            "grpc_server_started_total{grpc_method=\"Txn\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}",
        )
    };
    let (before, begun) = (txns(), Instant::now());
    held.unlock().await.unwrap();
    let mut holds = Vec::new();
    for wait in waits {
        holds.push(wait.await.unwrap());
    }
    let (asked, seconds) = (txns() - before, begun.elapsed().as_secs_f64());
    holds.sort_by_key(|hold| hold.from);
    assert!(holds.is_sorted_by_key(|hold| hold.fence), "served out of order");
    let gaps = holds.windows(2).map(|pair| pair[1].from - pair[0].to).collect();
    let handed = median(gaps);
    let each = asked as f64 / count as f64;
    println!(
        "{count} waiters: {each:.2} transactions for each, handed over in {handed:?}, a write takes {write:?}"
    );
    // One that asks for its turn and one that gives back; and looks, in case that a hint was lost.
    let most = 2.1 + 8.0 * seconds / count as f64;
    assert!(each <= most, "{each} transactions for each in {seconds} s, instead of {most}");
}

/// Returns how much memory this process uses, in KB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_held_locks_share_a_lease_and_a_connection() {
    let _turn = TURN.lock().await;
    let (count, ttl) = if is_full() { (10_000, 9) } else { (1000, 3) };
    let ttl = Duration::from_secs(ttl);
    let server = Server::start(&[]);
    let locks = connect(&server).await;
    let warm = locks.lock("warm", &LockOptions::new()).await.unwrap();
    let (before, mut taking) = (memory(), Vec::new());
    for part in 0..50 {
        let locks = locks.clone();
        taking.push(tokio::spawn(async move {
            let mut guards = Vec::new();
            for n in 0..count / 50 {
                let key = format!("held/{part}/{n}");
                let options = LockOptions::new().ttl(ttl);
                guards.push(locks.lock(&key, &options).await.unwrap());
            }
            guards
        }));
    }
    let mut guards = Vec::new();
    for taken in taking {
        guards.extend(taken.await.unwrap());
    }
    let used = memory().saturating_sub(before);
    let kept = || server.sum("etcd_debugging_lease_renewed_total");
    let requests = || server.sum("grpc_server_msg_received_total{");
    let (renewals, asked) = (kept(), requests());
    sleep(ttl).await;
    let (renewals, asked) = (kept() - renewals, requests() - asked);
    assert!(guards.iter().all(|guard| guard.is_valid()));
    let mut client = Client::connect([format!("127.0.0.1:{}", server.port)], None).await.unwrap();
    let leases = client.leases().await.unwrap().leases().len();
    println!(
        "{count} held: {renewals} keep-alives and {asked} messages in {ttl:?}, {leases} leases, {used} KB"
    );
    // One for the default TTL, one for these, and the one that was asked for when it connected.
    assert!(leases <= 3, "{leases} leases");
    assert!(renewals <= 12, "{renewals} keep-alives in {ttl:?}");
    // Three times a look at each hundred, beside the keep-alives; and the watch of each hold, once.
    assert!(asked <= count / 100 * 4 + count + 40, "{asked} messages for {count} in {ttl:?}");
    warm.unlock().await.unwrap();
    locks.shutdown(Duration::from_secs(30)).await.unwrap();
}
