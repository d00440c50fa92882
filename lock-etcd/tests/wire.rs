//! What is in the store, what others see of it, and how many requests it takes.

#![allow(clippy::disallowed_methods, reason = "a test lets time pass, and ends what hangs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use etcd_client::DeleteOptions;
use etcd_client::GetOptions;
use etcd_client::PutOptions;
use etcd_client::TxnOp;
use lock_core::Attempt;
use lock_core::Claim;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Owner;
use lock_core::Release;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_core::TryLock;
use lock_etcd::DRIVER;
use lock_etcd::fenced;
use lock_etcd::judge;

use crate::servers::Server;
use crate::servers::until;

async fn open(url: &str) -> Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

fn options() -> LockOptions {
    LockOptions::new().wait(seconds(20))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn client(server: &Server) -> Client {
    Client::connect([format!("127.0.0.1:{}", server.port)], None).await.unwrap()
}

fn etcdctl(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(format!("127.0.0.1:{}", server.port));
    command.args(arguments);
    command
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn is_held(locks: &Arc<dyn LockProvider>, key: &str) -> bool {
    matches!(locks.try_lock(key, &LockOptions::new()).await.unwrap(), TryLock::Held(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_etcdctl_keeps_us_out_and_wakes_us() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let mut holder = etcdctl(&server, &["lock", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut looker, mut held) = (client(&server).await, false);
    while !held {
        let all = GetOptions::new().with_prefix();
        held = looker.get("a/", Some(all)).await.unwrap().count() == 1;
    }
    assert!(is_held(&locks, "a").await);
    let waiter = locks.clone();
    let waiting = tokio::spawn(async move { waiter.lock("a", &options()).await.unwrap() });
    tokio::time::sleep(seconds(1)).await;
    assert!(!waiting.is_finished());
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&holder),
        rustix::process::Signal::INT,
    )
    .unwrap();
    waiting.await.unwrap().unlock().await.unwrap();
    holder.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_ours_keeps_etcdctl_out_and_wakes_it() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let guard = locks.lock("a", &options()).await.unwrap();
    let mut waiter = etcdctl(&server, &["lock", "a", "true"]).spawn().unwrap();
    tokio::time::sleep(seconds(2)).await;
    assert!(waiter.try_wait().unwrap().is_none());
    assert_eq!(locks.status("a").await.unwrap().waiting, 1);
    guard.unlock().await.unwrap();
    let ended = tokio::task::spawn_blocking(move || waiter.wait().unwrap());
    assert!(tokio::time::timeout(seconds(10), ended).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_and_another_further_down_are_strangers() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let below = locks.lock("a/b", &options()).await.unwrap();
    let above = locks.lock("a", &options()).await.unwrap();
    assert!(is_held(&locks, "a").await && is_held(&locks, "a/b").await);
    let second = locks.try_lock("a/b/c", &LockOptions::new()).await.unwrap();
    assert!(matches!(second, TryLock::Acquired(_)));
    assert_eq!(locks.list("a").await.unwrap().len(), 3);
    above.unlock().await.unwrap();
    below.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_locks_further_down_hide_no_contender() {
    let server = Server::start(&[]);
    let mut client = client(&server).await;
    for page in 0..25 {
        let put = |at| TxnOp::put(format!("a/{page}/{at}"), "", None);
        let puts: Vec<_> = (0..100).map(put).collect();
        client.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    }
    let locks = open(&server.url()).await.unwrap();
    let guard = locks.lock("a", &options()).await.unwrap();
    assert!(is_held(&locks, "a").await);
    guard.unlock().await.unwrap();
    // Behind all of them.
    client.put("a/~", "", Some(PutOptions::new())).await.unwrap();
    assert!(is_held(&locks, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_key_costs_one_transaction_to_lock_and_one_to_unlock() {
    const ROUNDS: u64 = 100;
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
    let count = |method: &str| {
        server.metric(&format!(
            "grpc_server_started_total{{grpc_method=\"{method}\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}}"
        ))
    };
    let all = |server: &Server| server.sum("grpc_server_started_total{");
    let (txns, requests) = (count("Txn"), all(&server));
    for _ in 0..ROUNDS {
        locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
    }
    assert_eq!(count("Txn") - txns, 2 * ROUNDS);
    assert_eq!(all(&server) - requests, 2 * ROUNDS, "no other requests");
}

fn claim(key: &str) -> Claim {
    Claim::new(LockKey::new(key).unwrap(), Owner::new("ann").unwrap(), seconds(30))
}

/// Makes all attempts at once while the server is frozen, so that all but the first gather. Returns what came of
/// them, and how many transactions that took.
async fn together(
    server: &Server,
    backend: &SharedBackend,
    claims: &[Claim],
) -> (Vec<Result<Attempt>>, u64) {
    let txns = || {
        server.sum("grpc_server_started_total{grpc_method=\"Txn\",grpc_service=\"etcdserverpb.KV\"")
    };
    let before = txns();
    server.freeze();
    let attempts = claims.iter().map(|claim| {
        let (backend, claim) = (backend.clone(), claim.clone());
        tokio::spawn(async move { backend.attempt(&claim).await })
    });
    let attempts: Vec<_> = attempts.collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.thaw();
    let mut outcomes = Vec::new();
    for attempt in attempts {
        outcomes.push(attempt.await.unwrap());
    }
    (outcomes, txns() - before)
}

fn acquired(outcome: &Result<Attempt>) -> bool {
    matches!(outcome, Ok(Attempt::Acquired { .. }))
}

/// Opens a backend whose lease is at hand.
async fn warm(url: &str) -> SharedBackend {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    assert!(acquired(&backend.attempt(&claim("shop:warm")).await));
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_come_while_one_is_under_way_go_out_together() {
    let server = Server::start(&[]);
    let backend = warm(&server.url()).await;
    let claims: Vec<_> = (0..40).map(|number| claim(&format!("k/{number}"))).collect();
    let (outcomes, txns) = together(&server, &backend, &claims).await;
    assert!(outcomes.iter().all(acquired), "{outcomes:?}");
    // One alone, and the rest; later ones, if this machine is busy.
    assert!((2..=8).contains(&txns), "{txns} transactions for 40");
    for claim in &claims {
        assert_eq!(backend.release(claim).await.unwrap(), Release::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_attempts_at_one_lock_that_go_out_at_once_one_holds() {
    let server = Server::start(&[]);
    let backend = warm(&server.url()).await;
    let of = |number: usize| {
        let mut claim = claim(&format!("k/{}", number % 4));
        claim.queue = number.is_multiple_of(3);
        claim
    };
    let claims: Vec<_> = (0..40).map(of).collect();
    let (outcomes, _) = together(&server, &backend, &claims).await;
    for lock in 0..4 {
        let holding = outcomes.iter().skip(lock).step_by(4).filter(|it| acquired(it)).count();
        assert_eq!(holding, 1, "of {lock}: {outcomes:?}");
    }
    // Each place in the line has a revision of its own.
    let mut client = client(&server).await;
    for lock in 0..4 {
        let line = client.get(format!("k/{lock}/"), Some(GetOptions::new().with_prefix())).await;
        let line = line.unwrap();
        let mut came: Vec<_> = line.kvs().iter().map(|kv| kv.create_revision()).collect();
        let count = came.len();
        came.sort_unstable();
        came.dedup();
        assert_eq!(came.len(), count);
    }
}

/// The keys below a lock.
async fn names(client: &mut Client, lock: &str) -> Vec<String> {
    let below = GetOptions::new().with_prefix().with_keys_only();
    let found = client.get(format!("{lock}/"), Some(below)).await.unwrap();
    found.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_taken_again_and_again_has_one_name() {
    let server = Server::start(&[]);
    let (backend, mut client) = (warm(&server.url()).await, client(&server).await);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let claim = claim("k");
        assert!(acquired(&backend.attempt(&claim).await));
        seen.extend(names(&mut client, "k").await);
        assert_eq!(backend.release(&claim).await.unwrap(), Release::Released);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    // What has been taken away may have been put anew by somebody: its name is left to them.
    let taken = claim("k");
    assert!(acquired(&backend.attempt(&taken).await));
    client.delete(seen[0].as_str(), None).await.unwrap();
    client.put(seen[0].as_str(), "", None).await.unwrap();
    assert_eq!(backend.release(&taken).await.unwrap(), Release::NotHeld);
    assert_eq!(names(&mut client, "k").await, seen);
    client.delete(seen[0].as_str(), None).await.unwrap();
    let next = claim("k");
    assert!(acquired(&backend.attempt(&next).await));
    assert_ne!(names(&mut client, "k").await, seen);
    // Who has released long ago takes nothing from who holds now.
    assert_eq!(backend.release(&taken).await.unwrap(), Release::NotHeld);
    assert_eq!(backend.release(&next).await.unwrap(), Release::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeping_a_hundred_locks_takes_two_requests_a_round() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let mut guards = Vec::new();
    for number in 0..100 {
        guards.push(locks.lock(&format!("k{number}"), &options().ttl(seconds(6))).await.unwrap());
    }
    let before = server.sum("grpc_server_started_total{");
    tokio::time::sleep(seconds(6)).await;
    let requests = server.sum("grpc_server_started_total{") - before;
    // A keep-alive and a look each 2 s; the first round is in as many batches as the locks came.
    assert!(requests <= 16, "{requests} requests in 6 s");
    assert!(guards.iter().all(|guard| guard.is_valid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_is_rounded_up_to_what_the_server_grants() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let ttl = async |ttl| locks.lock("a", &options().ttl(ttl)).await.unwrap().ttl();
    assert_eq!(ttl(Duration::from_millis(300)).await, seconds(2));
    assert_eq!(ttl(Duration::from_millis(6300)).await, seconds(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_end_with_the_provider() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let _guards = [
        locks.lock("a", &options()).await.unwrap(),
        locks.lock("b", &options().ttl(seconds(40))).await.unwrap(),
    ];
    let mut client = client(&server).await;
    assert!(client.leases().await.unwrap().leases().len() >= 2);
    locks.shutdown(seconds(5)).await.unwrap();
    let left = client.leases().await.unwrap();
    assert!(left.leases().is_empty(), "{left:?}");
    assert_eq!(client.get("a/", Some(GetOptions::new().with_prefix())).await.unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_refuses_the_write_of_a_stale_holder() {
    let server = Server::start(&[]);
    let mut client = client(&server).await;
    let fence = |number| Fence::new(number).unwrap();
    for (number, value, good) in [(7, "a", true), (7, "b", true), (6, "c", false), (8, "d", true)] {
        let write = TxnOp::put("stock", value, None);
        let answer = client.txn(fenced("fence/stock", fence(number), [write])).await.unwrap();
        match judge(&answer) {
            Ok(()) => assert!(good, "{value}"),
            Err(error) => assert!(!good && error.kind() == ErrorKind::Lost, "{value}: {error}"),
        }
    }
    let stock = client.get("stock", None).await.unwrap();
    assert_eq!(stock.kvs()[0].value_str().unwrap(), "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_base_is_kept_in_the_store() {
    let server = Server::start(&[]);
    let with = format!("{}?fence_base=1700000000000000", server.url());
    let locks = open(&with).await.unwrap();
    let fence = locks.lock("a", &options()).await.unwrap().fence();
    assert!(fence.get() > 1_700_000_000_000_000);
    // Whoever does not name it has it too.
    let others = open(&server.url()).await.unwrap();
    let guard = others.lock("a", &options()).await.unwrap();
    assert!(guard.fence() > fence);
    assert_eq!(others.status("a").await.unwrap().holders[0].fence, Some(guard.fence()));
    let error = open(&format!("{}?fence_base=5", server.url())).await.unwrap_err();
    assert!(error.to_string().contains("1700000000000000"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_and_no_error_shows_a_password() {
    let server = Server::start(&[]);
    for words in [
        &["user", "add", "root:s3cret"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "locker"],
        &["role", "grant-permission", "locker", "--prefix=true", "readwrite", "shop:"],
        &["role", "grant-permission", "locker", "read", "lock-etcd.fence_base"],
        &["user", "add", "ann:t0psecret"],
        &["user", "grant-role", "ann", "locker"],
        &["auth", "enable"],
    ] {
        let output = run(etcdctl(&server, words)).await;
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    let host = format!("127.0.0.1:{}", server.port);
    let locks = open(&format!("etcd://ann:t0psecret@{host}")).await.unwrap();
    // Least rights: its own prefix, and the fence base to read.
    let guard = locks.lock("shop:a", &options()).await.unwrap();
    assert!(is_held(&locks, "shop:a").await);
    guard.unlock().await.unwrap();
    let error = locks.lock("other:a", &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    // Also if others come at the same time, who may.
    let backend = warm(&format!("etcd://ann:t0psecret@{host}")).await;
    let claims: Vec<_> = ["shop:b", "shop:c", "other:a", "shop:d", "shop:e"].map(claim).into();
    let (outcomes, _) = together(&server, &backend, &claims).await;
    for (claim, outcome) in claims.iter().zip(&outcomes) {
        assert_eq!(acquired(outcome), claim.key.as_str() != "other:a", "{outcome:?}");
    }
    for login in ["", "ann:wr0ngsecret@"] {
        let error = open(&format!("etcd://{login}{host}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error} {error:?}").contains("wr0ngsecret"), "{error:?}");
    }
    assert!(!format!("{locks:?}").contains("t0psecret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_knows_is_said_to_be_one() {
    let error = open("etcd://no-such-host.invalid?reply_timeout=2s").await.unwrap_err();
    assert!(error.to_string().contains("nobody knows a host"), "{error:?}");
    // Another may be known.
    let server = Server::start(&[]);
    let hosts = format!("no-such-host.invalid,127.0.0.1:{}", server.port);
    let locks = open(&format!("etcd://{hosts}?reply_timeout=2s")).await.unwrap();
    locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_certificate_is_reached_by_its_authority_only() {
    let folder = std::env::temp_dir().join(format!("lock-etcd-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=locks",
            "-addext",
            "subjectAltName=DNS:locks,IP:127.0.0.1",
        ])
        .args([
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let server = Server::start(&["--cert-file", &certificate, "--key-file", &key]);
    let url = format!("etcds://127.0.0.1:{}", server.port);
    let locks = open(&format!("{url}?tls_ca={certificate}")).await.unwrap();
    locks.lock("a", &options()).await.unwrap().unlock().await.unwrap();
    let error = open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    let plain = format!("etcd://127.0.0.1:{}?reply_timeout=1s", server.port);
    let error = open(&plain).await.unwrap_err();
    assert!(error.to_string().contains("write etcds://"), "{error:?}");
    until("a folder that can go", || std::fs::remove_dir_all(&folder).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_before_the_history_begins_is_watched_all_the_same() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let first = locks.lock("a", &options()).await.unwrap();
    let waiter = locks.clone();
    let waiting = tokio::spawn(async move { waiter.lock("a", &options()).await.unwrap() });
    while locks.status("a").await.unwrap().waiting == 0 {}
    let (mut looker, mut latest) = (client(&server).await, 0);
    for _ in 0..5 {
        latest = looker.put("x", "", None).await.unwrap().header().unwrap().revision();
    }
    looker.compact(latest, None).await.unwrap();
    first.unlock().await.unwrap();
    let second = waiting.await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = server.sum("grpc_server_started_total{");
    tokio::time::sleep(seconds(1)).await;
    let requests = server.sum("grpc_server_started_total{") - before;
    assert!(requests <= 2, "{requests} requests in 1 s to hold a lock for 30 s");
    let all = DeleteOptions::new().with_prefix();
    looker.delete("a/", Some(all)).await.unwrap();
    tokio::time::timeout(seconds(5), second.lost()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_others_are_no_matter_to_a_list() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await.unwrap();
    let _guard = locks.lock("a", &options()).await.unwrap();
    let (mut looker, value) = (client(&server).await, "x".repeat(1 << 20));
    for number in 0..5 {
        looker.put(format!("data/{number}"), value.clone(), None).await.unwrap();
    }
    assert_eq!(locks.list("").await.unwrap().len(), 1);
}
