//! What people do with `redis-cli` in the well-known demos of distributed locks, beside locks of ours: they see
//! them, respect them, and are respected.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::Backoff;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Handle;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Wait;
use lock_redis::DRIVER;

use crate::servers::Server;

/// What everybody releases with.
const COMPARE_AND_DELETE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// A resource that remembers the highest token it has seen.
const WRITE_WITH_TOKEN: &str = "\
    if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[2]) or 0) then return 'stale write rejected' end \
    redis.call('SET', KEYS[2], ARGV[1]) return redis.call('SET', KEYS[1], ARGV[2])";

async fn connect(server: &Server) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

/// What `redis-cli` prints to who is no terminal: nothing for nil.
fn cli(server: &Server, words: &[&str]) -> String {
    let output =
        Command::new("redis-cli").args(["-p", &server.port.to_string()]).args(words).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn set(server: &Server, key: &str, value: &str, millis: u64) -> String {
    cli(server, &["SET", key, value, "NX", "PX", &millis.to_string()])
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Takes a lock and is heard of no more, as a process that crashes.
async fn crash_with(locks: &Arc<dyn LockProvider>, key: &str, ttl: Duration) -> Handle {
    let guard = locks.lock(key, &LockOptions::new().ttl(ttl)).await.unwrap();
    guard.into_handle().unwrap()
}

#[tokio::test]
async fn demo_2_set_nx_excludes_ours_and_ours_excludes_it() {
    let (server, key) = (Server::start(&[]), "lock:payment:user123");
    let locks = connect(&server).await;
    assert_eq!(set(&server, key, "instance-1", 5000), "OK");
    assert_eq!(set(&server, key, "instance-2", 5000), "");
    let refused = locks.try_lock(key, &LockOptions::new()).await.unwrap();
    assert!(refused.acquired().is_none());
    assert_eq!(cli(&server, &["GET", key]), "instance-1", "a refusal changes nothing");
    assert_eq!(cli(&server, &["DEL", key]), "1");

    let held = locks.lock(key, &LockOptions::new()).await.unwrap();
    assert_eq!(set(&server, key, "instance-2", 5000), "");
    assert!(!cli(&server, &["GET", key]).is_empty());
    held.unlock().await.unwrap();
    assert_eq!(set(&server, key, "instance-2", 5000), "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_2_one_payment_at_a_time_loses_no_update() {
    let server = Arc::new(Server::start(&[]));
    cli(&server, &["SET", "balance:user123", "1000"]);
    let mut payments = Vec::new();
    for _ in 0..10 {
        let (server, locks) = (server.clone(), connect(&server).await);
        payments.push(tokio::spawn(async move {
            let held = locks.lock("lock:payment:user123", &LockOptions::new()).await.unwrap();
            // Check, then act: as the first demo does without a lock.
            let balance: u32 = cli(&server, &["GET", "balance:user123"]).parse().unwrap();
            tokio::time::sleep(ms(5)).await;
            cli(&server, &["SET", "balance:user123", &(balance - 100).to_string()]);
            held.unlock().await.unwrap();
        }));
    }
    for payment in payments {
        payment.await.unwrap();
    }
    assert_eq!(cli(&server, &["GET", "balance:user123"]), "0");
}

#[tokio::test]
async fn demo_3_a_crash_frees_the_lock_at_its_ttl_whoever_crashed() {
    let (server, key) = (Server::start(&[]), "lock:order:123");
    let locks = connect(&server).await;
    let seconds = || cli(&server, &["TTL", key]);
    crash_with(&locks, key, ms(5000)).await;
    assert_eq!(seconds(), "5");
    tokio::time::sleep(ms(3000)).await;
    assert_eq!(seconds(), "2");
    assert_eq!(set(&server, key, "worker-2", 5000), "");
    tokio::time::sleep(ms(2100)).await;
    assert_eq!(cli(&server, &["GET", key]), "");
    assert_eq!(seconds(), "-2");

    assert_eq!(set(&server, key, "worker-1", 700), "OK");
    let start = Instant::now();
    let held = locks.lock(key, &LockOptions::new().wait(ms(5000))).await.unwrap();
    assert!((ms(500)..ms(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    held.unlock().await.unwrap();
}

#[tokio::test]
async fn demo_3_a_lock_that_is_kept_outlives_its_ttl() {
    let (server, key) = (Server::start(&[]), "lock:test");
    let locks = connect(&server).await;
    let held = locks.lock(key, &LockOptions::new().ttl(ms(900))).await.unwrap();
    tokio::time::sleep(ms(2000)).await;
    let left: u64 = cli(&server, &["PTTL", key]).parse().unwrap();
    assert!((1..=900).contains(&left), "{left}");
    held.unlock().await.unwrap();
    assert_eq!(cli(&server, &["EXISTS", key]), "0");
}

#[tokio::test]
async fn demo_4_a_stale_token_is_refused() {
    let (server, key) = (Server::start(&[]), "lock:order:123");
    let locks = connect(&server).await;
    let write = |token: u64, status: &str| {
        let keys = ["2", "order:123", "fence:order:123"];
        cli(
            &server,
            &[&["EVAL", WRITE_WITH_TOKEN], &keys[..], &[&token.to_string(), status]].concat(),
        )
    };
    let slow = locks.lock(key, &LockOptions::new().ttl(ms(300)).without_renewal()).await.unwrap();
    tokio::time::sleep(ms(400)).await;
    let quick = locks.lock(key, &LockOptions::new()).await.unwrap();
    assert!(quick.fence() > slow.fence());
    assert_eq!(write(quick.fence().get(), "completed"), "OK");
    assert_eq!(write(slow.fence().get(), "processing"), "stale write rejected");
    assert_eq!(cli(&server, &["GET", "order:123"]), "completed");
    assert_eq!(cli(&server, &["GET", "fence:order:123"]), quick.fence().get().to_string());
    // Its unlock comes too late as well, and hits nobody.
    let token = cli(&server, &["GET", key]);
    assert_eq!(slow.unlock().await.unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(cli(&server, &["GET", key]), token);
    quick.unlock().await.unwrap();
}

#[tokio::test]
async fn demo_4_a_release_with_another_token_does_nothing() {
    let (server, key) = (Server::start(&[]), "lock:order:123");
    let locks = connect(&server).await;
    let held = locks.lock(key, &LockOptions::new().ttl(ms(900))).await.unwrap();
    let release = |token: &str| cli(&server, &["EVAL", COMPARE_AND_DELETE, "1", key, token]);
    assert_eq!(release("process-b"), "0");
    assert_eq!(release(""), "0");
    tokio::time::sleep(ms(400)).await;
    held.check().unwrap();
    // Who knows the token may: that is how an operator frees exactly one hold.
    assert_eq!(release(&cli(&server, &["GET", key])), "1");
    tokio::time::timeout(ms(900), held.lost()).await.unwrap();
}

#[tokio::test]
async fn demo_7_retries_back_off_and_end() {
    let (server, key) = (Server::start(&[]), "lock:resource");
    let locks = connect(&server).await;
    let backoff = Backoff::exponential(ms(100), ms(1600)).jittered();
    let options = LockOptions::new().wait(Wait::Attempts { max: 5, backoff });
    // Each delay is lengthened by chance, to its double at the most.
    assert_eq!(set(&server, key, "worker", 350), "OK");
    let start = Instant::now();
    locks.lock(key, &options).await.unwrap().unlock().await.unwrap();
    assert!((ms(300)..ms(2000)).contains(&start.elapsed()), "{:?}", start.elapsed());

    assert_eq!(set(&server, key, "worker", 60_000), "OK");
    let start = Instant::now();
    let error = locks.lock(key, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!((ms(1500)..ms(3600)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(cli(&server, &["GET", key]), "worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_7_all_who_retry_are_served() {
    let server = Server::start(&[]);
    let backoff = Backoff::exponential(ms(100), ms(400)).jittered();
    let options = LockOptions::new().wait(Wait::Attempts { max: 20, backoff });
    let mut workers = Vec::new();
    for _ in 0..10 {
        let (locks, options) = (connect(&server).await, options.clone());
        workers.push(tokio::spawn(async move {
            let held = locks.lock("lock:resource", &options).await.unwrap();
            tokio::time::sleep(ms(20)).await;
            held.unlock().await.unwrap();
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_9_a_fair_queue_serves_in_order() {
    let server = Server::start(&[]);
    let first = connect(&server).await;
    let held = first.lock("lock:resource", &LockOptions::new()).await.unwrap();
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 1..=5 {
        let (locks, served) = (connect(&server).await, served.clone());
        waiting.push(tokio::spawn(async move {
            let options = LockOptions::new().fair().wait(ms(10_000));
            let held = locks.lock("lock:resource", &options).await.unwrap();
            served.lock().unwrap().push(number);
            tokio::time::sleep(ms(20)).await;
            held.unlock().await.unwrap();
        }));
        while first.status("lock:resource").await.unwrap().waiting < number {
            tokio::time::sleep(ms(5)).await;
        }
    }
    // A newcomer does not overtake them.
    held.unlock().await.unwrap();
    assert!(
        first.try_lock("lock:resource", &LockOptions::new()).await.unwrap().acquired().is_none()
    );
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(cli(&server, &["EXISTS", "lock:resource"]), "0");
}

#[tokio::test]
async fn keys_shows_the_locks_and_nothing_of_ours_beside_them() {
    let server = Server::start(&[]);
    let locks = connect(&server).await;
    let names = ["lock:order:123", "lock:payment:user123", "lock:test"];
    let mut held = Vec::new();
    for name in names {
        held.push(locks.lock(name, &LockOptions::new()).await.unwrap());
    }
    set(&server, "lock:theirs", "worker-1", 5000);
    let shown = cli(&server, &["KEYS", "lock:*"]);
    let mut shown: Vec<_> = shown.lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, ["lock:order:123", "lock:payment:user123", "lock:test", "lock:theirs"]);
    for guard in held {
        guard.unlock().await.unwrap();
    }
    assert_eq!(cli(&server, &["KEYS", "lock:*"]), "lock:theirs");
}
