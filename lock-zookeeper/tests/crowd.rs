//! Many in one line, and many locks held at once: what that costs.
//!
//! Some by default; with `LOCK_TEST_FULL` a thousand in line and ten thousand held. Requests are judged, times only told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::env;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Fence;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_zookeeper::DRIVER;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;

use crate::servers::Server;

/// As many as processes in practice: each has a session and waiters of its own.
const PROVIDERS: usize = 4;

/// As long as a machine needs for ten thousand, and no longer.
fn session_timeout() -> Duration {
    Duration::from_secs(if is_full() { 9 } else { 4 })
}

async fn connect(server: &Server) -> Arc<dyn LockProvider> {
    let (address, timeout) = (server.address(), session_timeout().as_secs());
    let url = format!("zookeeper://{address}?session_timeout={timeout}s&tick_time=100ms");
    let backend = DRIVER.open(ConnectUrl::parse(&url).unwrap()).await.unwrap();
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
    let mut options = LockOptions::new().wait(Duration::from_secs(120));
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
    let client = Client::connect(&server.address()).await.unwrap();
    let node = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    client.create("/x", b"", &node).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        client.set_data("/x", b"", None).await.unwrap();
        times.push(start.elapsed());
    }
    median(times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_wakes_one_of_those_who_wait() {
    let _turn = TURN.lock().await;
    let count = if is_full() { 1000 } else { 100 };
    let server = Server::start();
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
    let requests = || server.figure("zk_packets_received");
    let (before, begun) = (requests(), Instant::now());
    held.unlock().await.unwrap();
    let mut holds = Vec::new();
    for wait in waits {
        holds.push(wait.await.unwrap());
    }
    let (asked, seconds) = (requests() - before, begun.elapsed().as_secs_f64());
    holds.sort_by_key(|hold| hold.from);
    assert!(holds.is_sorted_by_key(|hold| hold.fence), "served out of order");
    let gaps = holds.windows(2).map(|pair| pair[1].from - pair[0].to).collect();
    let handed = median(gaps);
    let each = asked as f64 / count as f64;
    println!(
        "{count} waiters: {each:.2} requests for each, handed over in {handed:?}, a write takes {write:?}"
    );
    // A delete, and two for the one who looks: one that refreshes and one that lists. Watches that are taken back,
    // and looks in case that a hint was lost, are less than a second one who looks would cost.
    let most = 4.0 + 12.0 * seconds / count as f64;
    assert!(each <= most, "{each} requests for each in {seconds} s, instead of {most}");
}

/// Returns how much memory this process uses, in KB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_held_locks_share_a_session_and_a_connection() {
    let _turn = TURN.lock().await;
    let count = if is_full() { 10_000 } else { 1000 };
    let server = Server::start();
    let locks = connect(&server).await;
    let (before, mut taking) = (memory(), Vec::new());
    for part in 0..50 {
        let locks = locks.clone();
        taking.push(tokio::spawn(async move {
            let mut guards = Vec::new();
            for n in 0..count / 50 {
                let key = format!("held/{part}/{n}");
                guards.push(locks.lock(&key, &LockOptions::new()).await.unwrap());
            }
            guards
        }));
    }
    let mut guards = Vec::new();
    for taken in taking {
        guards.extend(taken.await.unwrap());
    }
    let used = memory().saturating_sub(before);
    let asked = server.figure("zk_packets_received");
    sleep(session_timeout()).await;
    let asked = server.figure("zk_packets_received") - asked;
    let connections = server.figure("zk_num_alive_connections");
    assert!(guards.iter().all(|guard| guard.is_valid()));
    let time = session_timeout();
    println!("{count} held: {asked} requests in {time:?}, {connections} connections, {used} KB");
    // The other one asks for the figure.
    assert!(connections <= 2, "{connections} connections");
    // A write, and a read for each 250, three times in a timeout; pings.
    assert!(asked <= count / 250 * 5 + 40, "{asked} requests for {count} in {time:?}");
    locks.shutdown(Duration::from_secs(30)).await.unwrap();
}
