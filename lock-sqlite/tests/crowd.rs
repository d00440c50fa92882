//! A long line for one key: what it costs, and that it keeps its order.
#![expect(clippy::disallowed_methods, reason = "these tests do what the backend must not")]

mod common;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Wake;
use std::time::Duration;
use std::time::Instant;

use common::Directory;
use common::acquire;
use common::ahead;
use common::claim_in;
use common::in_line;
use common::open;
use common::tamper;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Hint;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::WatchFor;

/// More with `LOCK_TEST_FULL`.
fn crowd() -> u64 {
    if std::env::var_os("LOCK_TEST_FULL").is_some() { 1000 } else { 60 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_in_line_is_served_once_each() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let engine = Engine::new(Arc::new(backend), EngineOptions::default()).unwrap();
    let fair = LockOptions::new().fair().wait(Duration::from_secs(300));
    let held = engine.lock("k", &LockOptions::new()).await.unwrap();
    let (began, served) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..crowd() {
        let (engine, fair, served) = (engine.clone(), fair.clone(), served.clone());
        waiting.spawn(async move {
            let guard = engine.lock("k", &fair).await.unwrap();
            served.lock().unwrap().push(number);
            guard.unlock().await.unwrap();
        });
    }
    while !engine.status("k").await.is_ok_and(|state| state.waiting == crowd()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let joined = began.elapsed();
    held.unlock().await.unwrap();
    waiting.join_all().await;
    println!("{} came in {joined:?} and were served by {:?}", crowd(), began.elapsed());
    let mut served = served.lock().unwrap().clone();
    served.sort_unstable();
    assert!(served.into_iter().eq(0..crowd()));
}

#[tokio::test]
async fn each_in_a_line_is_told_how_many_are_ahead_and_only_the_first_is_served() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (holder, modes) = (claim_in("exclusive"), ["exclusive", "shared", "permits:2"]);
    acquire(&backend, &holder).await;
    let line: Vec<Claim> = (0..12).map(|n| in_line(modes[n % 3])).collect();
    for round in 0..2 {
        for (before, claim) in line.iter().enumerate() {
            let counted = ahead(&backend, claim).await;
            assert_eq!(counted, Some(before as u64 + 1), "round {round}");
        }
    }
    assert_eq!(ahead(&backend, &claim_in("exclusive")).await, Some(13));
    let dead = line[4].token;
    tamper(&directory, &format!("UPDATE locks_claims SET expires_at = 1 WHERE token = '{dead}'"));
    assert_eq!(ahead(&backend, &line[9]).await, Some(9), "the dead do not count");
    assert_eq!(ahead(&backend, &claim_in("exclusive")).await, Some(12));
    backend.release(&holder).await.unwrap();
    assert_eq!(ahead(&backend, &line[9]).await, Some(8), "those before it still stand");
    acquire(&backend, &line[0]).await;
}

/// Whether it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_release_wakes_the_first_in_line_and_readers_wake_each_other() {
    for (mode, all) in [("exclusive", false), ("shared", true)] {
        let directory = Directory::new();
        let backend = open(&directory.file()).await;
        let holder = claim_in("exclusive");
        acquire(&backend, &holder).await;
        let line: Vec<_> = (0..20).map(|_| (in_line(mode), Arc::new(Woken::default()))).collect();
        let mut watches = Vec::new();
        for (claim, woken) in &line {
            ahead(&backend, claim).await;
            let hint = Hint::new(woken.clone().into());
            watches.push(backend.watch(claim, WatchFor::Release, hint).await.unwrap());
        }
        backend.release(&holder).await.unwrap();
        let served = if all { line.len() } else { 1 };
        for (claim, woken) in &line[..served] {
            while !woken.0.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            acquire(&backend, claim).await;
        }
        let last = line.last().map(|(_, woken)| woken.0.load(Ordering::SeqCst));
        assert_eq!(last, Some(all), "{mode}");
    }
}
