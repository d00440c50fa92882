//! Servers that die, freeze, restart and forget their history; leases that others revoke; lost replies.

#![allow(clippy::disallowed_methods, reason = "a test lets time pass, and ends what hangs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use conformance_tests::Link as _;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use etcd_client::Client;
use etcd_client::GetOptions;
use lock_core::Attempt;
use lock_core::Claim;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockGuard;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::SharedBackend;
use lock_etcd::DRIVER;

use crate::servers::Cluster;
use crate::servers::Server;

async fn backend(url: &str) -> SharedBackend {
    DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap()
}

async fn open(url: &str) -> Arc<dyn LockProvider> {
    Arc::new(Engine::new(backend(url).await, EngineOptions::default()).unwrap())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn options() -> LockOptions {
    LockOptions::new().ttl(seconds(4)).wait(seconds(20))
}

async fn client(server: &Server) -> Client {
    Client::connect([format!("127.0.0.1:{}", server.port)], None).await.unwrap()
}

/// Locks while the store may be in trouble: an outage is not an end.
async fn lock_by(locks: &Arc<dyn LockProvider>, key: &str, limit: Duration) -> LockGuard {
    let start = Instant::now();
    loop {
        match locks.lock(key, &options()).await {
            Ok(guard) => return guard,
            Err(error) => assert!(start.elapsed() < limit, "{:?}: {error}", start.elapsed()),
        }
    }
}

/// The keys below `lock`, in the order in which they came, with their leases.
async fn contenders(client: &mut Client, lock: &str) -> Vec<(Vec<u8>, i64)> {
    use etcd_client::SortOrder;
    use etcd_client::SortTarget;
    let all = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend);
    let answer = client.get(format!("{lock}/"), Some(all)).await.unwrap();
    answer.kvs().iter().map(|kv| (kv.key().to_vec(), kv.lease())).collect()
}

/// Waits until so many contend for `lock`.
async fn crowd(client: &mut Client, lock: &str, count: usize) -> Vec<(Vec<u8>, i64)> {
    loop {
        let all = contenders(client, lock).await;
        if all.len() == count {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn wait(
    locks: &Arc<dyn LockProvider>,
    key: &'static str,
    options: LockOptions,
) -> tokio::task::JoinHandle<LockGuard> {
    let locks = locks.clone();
    tokio::spawn(async move { locks.lock(key, &options).await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_revoked_by_others_ends_its_locks_at_once() {
    let server = Server::start(&[]);
    let (locks, mut client) = (open(&server.url()).await, client(&server).await);
    let guard = locks.lock("a", &options().ttl(seconds(60))).await.unwrap();
    let lease = contenders(&mut client, "a").await[0].1;
    client.lease_revoke(lease).await.unwrap();
    tokio::time::timeout(seconds(2), guard.lost()).await.unwrap();
    // A new lease takes its place.
    locks.lock("a", &options().ttl(seconds(60))).await.unwrap().unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_whose_lease_is_revoked_stands_in_line_again() {
    let server = Server::start(&[]);
    let (holder, waiter) = (open(&server.url()).await, open(&server.url()).await);
    let mut client = client(&server).await;
    let held = holder.lock("a", &options()).await.unwrap();
    let waiting = wait(&waiter, "a", options());
    let place = crowd(&mut client, "a", 2).await[1].clone();
    client.lease_revoke(place.1).await.unwrap();
    let again = crowd(&mut client, "a", 2).await[1].clone();
    assert_ne!(place.1, again.1, "it has another lease");
    let fence = held.fence();
    held.unlock().await.unwrap();
    assert!(waiting.await.unwrap().fence() > fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_does_not_hide_a_release() {
    let server = Server::start(&[]);
    let (holder, waiter) = (open(&server.url()).await, open(&server.url()).await);
    let mut client = client(&server).await;
    let held = holder.lock("a", &options()).await.unwrap();
    let waiting = wait(&waiter, "a", options());
    crowd(&mut client, "a", 2).await;
    for _ in 0..3 {
        let revision = client.put("x", "", None).await.unwrap().header().unwrap().revision();
        client.compact(revision, None).await.unwrap();
    }
    held.unlock().await.unwrap();
    drop(tokio::time::timeout(seconds(3), waiting).await.unwrap().unwrap());
    // And a hold that is older than the history still learns of its eviction.
    let held = holder.lock("b", &options().ttl(seconds(60))).await.unwrap();
    let revision = client.put("x", "", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, None).await.unwrap();
    let own = contenders(&mut client, "b").await[0].0.clone();
    client.delete(own, None).await.unwrap();
    tokio::time::timeout(seconds(3), held.lost()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_locks_and_lines() {
    let mut server = Server::start(&[]);
    let (holder, waiter) = (open(&server.url()).await, open(&server.url()).await);
    let held = holder.lock("a", &options().ttl(seconds(15))).await.unwrap();
    let waiting = wait(&waiter, "a", options().wait(seconds(40)));
    crowd(&mut client(&server).await, "a", 2).await;
    server.kill();
    server.restart();
    tokio::time::sleep(seconds(6)).await;
    assert!(held.is_valid(), "it was renewed after the restart");
    let fence = held.fence();
    held.unlock().await.unwrap();
    let next = waiting.await.unwrap();
    assert!(next.fence() > fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_stay_apart_from_writers_when_one_in_the_middle_dies() {
    let server = Server::start(&[]);
    let url = server.url();
    let (first, writer, dead, last) =
        (open(&url).await, open(&url).await, open(&url).await, open(&url).await);
    let mut client = client(&server).await;
    let reader = || options().mode(Mode::Shared);
    let holder = first.lock("a", &options()).await.unwrap();
    let dying = wait(&dead, "a", reader());
    crowd(&mut client, "a", 2).await;
    let writing = wait(&writer, "a", options());
    let middle = crowd(&mut client, "a", 3).await[1].clone();
    let reading = wait(&last, "a", reader());
    crowd(&mut client, "a", 4).await;
    // The reader in the middle dies; the last must still not pass the writer.
    dying.abort();
    client.delete(middle.0, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!reading.is_finished() && !writing.is_finished());
    holder.unlock().await.unwrap();
    let written = writing.await.unwrap();
    assert!(!reading.is_finished());
    written.unlock().await.unwrap();
    reading.await.unwrap().unlock().await.unwrap();
}

/// A frozen server has the requests in its pockets, and carries them out in any order when it thaws.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_given_up_never_comes_back() {
    let server = Server::start(&[]);
    let backend = backend(&format!("{}?reply_timeout=1s", server.url())).await;
    let claim = |key: &str| {
        let mut claim =
            Claim::new(LockKey::new(key).unwrap(), Owner::new("ann").unwrap(), seconds(30));
        claim.queue = true;
        claim
    };
    let warm = claim("warm");
    assert!(matches!(backend.attempt(&warm).await.unwrap(), Attempt::Acquired { .. }));
    // From now on both leases are at hand, and each attempt is one transaction.
    assert!(matches!(backend.attempt(&claim("warm")).await.unwrap(), Attempt::Held { .. }));
    let claims: Vec<_> = (0..50).map(|number| claim(&format!("late/{number}"))).collect();
    server.freeze();
    let attempts: Vec<_> = claims.iter().map(|claim| spawn_attempt(&backend, claim)).collect();
    for attempt in attempts {
        assert!(attempt.await.unwrap().unwrap_err().is_ambiguous());
    }
    let releases: Vec<_> = claims.iter().map(|claim| spawn_release(&backend, claim)).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.thaw();
    for release in releases {
        release.await.unwrap();
    }
    tokio::time::sleep(seconds(2)).await;
    let mut client = client(&server).await;
    let all = contenders(&mut client, "late").await;
    let left = all.iter().filter(|(key, _)| !key.contains(&0xff)).count();
    assert_eq!(left, 0, "of {} keys", all.len());
    // Nor would one that comes only now: it would be the same transaction.
    for claim in &claims {
        let late = backend.attempt(claim).await.unwrap();
        assert!(matches!(late, Attempt::Held { .. }), "{late:?}");
    }
}

fn spawn_attempt(
    backend: &SharedBackend,
    claim: &Claim,
) -> tokio::task::JoinHandle<lock_core::Result<Attempt>> {
    let (backend, claim) = (backend.clone(), claim.clone());
    tokio::spawn(async move { backend.attempt(&claim).await })
}

/// Releases as the engine does: until there is an answer.
fn spawn_release(backend: &SharedBackend, claim: &Claim) -> tokio::task::JoinHandle<()> {
    let (backend, claim) = (backend.clone(), claim.clone());
    tokio::spawn(async move { while backend.release(&claim).await.is_err() {} })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_the_lock_at_its_deadline_and_no_later() {
    let server = Server::start(&[]);
    let locks = open(&server.url()).await;
    let held = locks.lock("a", &options().ttl(seconds(2))).await.unwrap();
    server.freeze();
    let start = Instant::now();
    tokio::time::timeout(seconds(4), held.lost()).await.unwrap();
    assert!(start.elapsed() <= seconds(2) + Duration::from_millis(500), "{:?}", start.elapsed());
    server.thaw();
    lock_by(&locks, "a", seconds(15)).await.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlives_the_death_of_the_member_it_was_asked_at() {
    let mut cluster = Cluster::start();
    let locks = open(&cluster.url()).await;
    let held = locks.lock("a", &options().ttl(seconds(12))).await.unwrap();
    cluster.servers[0].kill();
    tokio::time::sleep(seconds(8)).await;
    assert!(held.is_valid());
    locks.lock("b", &options()).await.unwrap().unlock().await.unwrap();
    held.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_takes_over_locks_and_lines() {
    let mut cluster = Cluster::start();
    let (holder, waiter) = (open(&cluster.url()).await, open(&cluster.url()).await);
    let held = holder.lock("a", &options().ttl(seconds(15))).await.unwrap();
    let waiting = wait(&waiter, "a", options().wait(seconds(60)));
    tokio::time::sleep(seconds(1)).await;
    let leader = cluster.leader();
    cluster.servers[leader].kill();
    tokio::time::sleep(seconds(8)).await;
    assert!(held.is_valid(), "it was renewed by the new leader");
    assert!(!waiting.is_finished());
    let fence = held.fence();
    held.unlock().await.unwrap();
    assert!(waiting.await.unwrap().fence() > fence);
    cluster.servers[leader].restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_left() {
    let cluster = Cluster::start();
    let locks = open(&cluster.url()).await;
    let held = locks.lock("a", &options().ttl(seconds(20))).await.unwrap();
    let leader = cluster.leader();
    cluster.servers[leader].freeze();
    let other = lock_by(&locks, "b", seconds(25)).await;
    other.unlock().await.unwrap();
    tokio::time::timeout(seconds(10), async {
        while held.valid_for() < seconds(10) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    let fence = held.fence();
    cluster.servers[leader].thaw();
    held.unlock().await.unwrap();
    assert!(lock_by(&locks, "a", seconds(15)).await.fence() > fence);
}

/// A member without the others says that it knows no leader, and is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_cut_off_from_its_member_goes_to_another() {
    let cluster = Cluster::start();
    let mut proxies = Vec::new();
    for server in &cluster.servers {
        proxies.push(Proxy::start(format!("127.0.0.1:{}", server.port)).await.unwrap());
    }
    let hosts: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
    let locks = open(&format!("etcd://{}", hosts.join(","))).await;
    let held = locks.lock("a", &options().ttl(seconds(9))).await.unwrap();
    assert_eq!(proxies[1].connections(), 0, "one channel at a time");
    proxies[0].set(Weather::Hangs);
    tokio::time::sleep(seconds(12)).await;
    assert!(held.is_valid(), "renewed by another member");
    held.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_come_late_take_nothing_from_those_that_came_instead() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port)).await.unwrap();
    let (slow, direct) = (proxy.address(), server.port);
    let locks = open(&format!("etcd://{slow},127.0.0.1:{direct}?reply_timeout=500ms")).await;
    let patient = options().ttl(seconds(20));
    // Somebody waits, so that a lease for places in line is at hand.
    let held = locks.lock("b", &patient).await.unwrap();
    let waiter = (locks.clone(), patient.clone());
    let waiting = tokio::spawn(async move { waiter.0.lock("b", &waiter.1).await.unwrap() });
    while locks.status("b").await.unwrap().waiting == 0 {}
    proxy.set(Weather::Hangs);
    let locking = (0..20).map(|n| {
        let (locks, patient) = (locks.clone(), patient.clone());
        tokio::spawn(async move { locks.lock(&format!("a{n}"), &patient).await.unwrap() })
    });
    let mut guards = Vec::new();
    for locking in locking.collect::<Vec<_>>() {
        guards.push(locking.await.unwrap());
    }
    let mut looker = client(&server).await;
    let mut leases = async || {
        let all = looker.get("a", Some(GetOptions::new().with_prefix())).await.unwrap();
        all.kvs().iter().map(|kv| kv.lease()).collect::<Vec<_>>()
    };
    let before = leases().await;
    proxy.set(Weather::Fair);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(leases().await, before, "they hang on what is renewed for them");
    drop((held, guards, waiting));
}
