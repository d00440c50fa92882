//! The same faults as users see them: through the engine.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Background;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::ManualClock;
use lock_core::Mode;
use lock_memory::Call;
use lock_memory::Memory;

use crate::rig::TTL;
use crate::rig::leases;
use crate::rig::sessions;

fn engine(memory: &Memory, hand: &ManualClock) -> Engine {
    let background = Background::Runtime(tokio::runtime::Handle::current());
    let options = EngineOptions::new().ttl(TTL).clock(hand.clock()).background(background);
    Engine::new(Arc::new(memory.clone()), options).unwrap()
}

fn options() -> LockOptions {
    LockOptions::new()
}

#[tokio::test]
async fn a_stolen_lock_is_lost_at_the_next_renewal() {
    for rig in [leases(), sessions()] {
        let locks = engine(&rig.a, &rig.hand);
        let guard = locks.lock("k", &options()).await.unwrap();
        let stolen = rig.a.controls().steal("k", "thief", TTL).unwrap();
        assert!(guard.is_valid());
        rig.hand.advance(TTL / 2).await;
        assert!(!guard.is_valid());
        assert!(guard.fence() < stolen);
        assert_eq!(guard.unlock().await.unwrap_err().kind(), ErrorKind::Lost);
    }
}

#[tokio::test]
async fn a_forced_unlock_is_told_at_once() {
    for rig in [leases(), sessions()] {
        let (locks, admin) = (engine(&rig.a, &rig.hand), engine(&rig.b, &rig.hand));
        let guard = locks.lock("k", &options()).await.unwrap();
        admin.force_unlock("k", Eviction::LockOnly).await.unwrap();
        rig.hand.advance(Duration::ZERO).await;
        assert!(!guard.is_valid());
    }
}

#[tokio::test]
async fn a_lock_is_kept_for_as_long_as_the_store_answers() {
    for rig in [leases(), sessions()] {
        let locks = engine(&rig.a, &rig.hand);
        let guard = locks.lock("k", &options()).await.unwrap();
        rig.hand.advance(TTL * 10).await;
        assert!(guard.is_valid());
        rig.a.controls().fail_all(lock_core::Error::new(ErrorKind::Unavailable, "gone"));
        rig.hand.advance(TTL).await;
        assert!(!guard.is_valid());
    }
}

#[tokio::test]
async fn a_waiter_in_another_process_is_handed_the_lock_without_polling() {
    for rig in [leases(), sessions()] {
        let (here, there) = (engine(&rig.a, &rig.hand), engine(&rig.b, &rig.hand));
        let guard = here.lock("k", &options()).await.unwrap();
        let waiter = tokio::spawn(async move { there.lock("k", &options()).await });
        rig.hand.advance(Duration::ZERO).await;
        guard.unlock().await.unwrap();
        let guard = waiter.await.unwrap().unwrap();
        assert!(guard.is_valid());
        assert_eq!(rig.b.controls().count(Call::Peek), 0);
    }
}

#[tokio::test]
async fn a_waiter_whose_hints_are_lost_still_gets_the_lock_within_a_second() {
    for rig in [leases(), sessions()] {
        let (here, there) = (engine(&rig.a, &rig.hand), engine(&rig.b, &rig.hand));
        rig.b.controls().drop_hints();
        let guard = here.lock("k", &options()).await.unwrap();
        let waiter = tokio::spawn(async move { there.lock("k", &options()).await });
        rig.hand.advance(Duration::ZERO).await;
        guard.unlock().await.unwrap();
        rig.hand.advance(Duration::from_millis(1_020)).await;
        assert!(waiter.is_finished());
    }
}

#[tokio::test]
async fn a_writer_that_meets_readers_stands_in_line_while_it_waits() {
    for rig in [leases(), sessions()] {
        let (here, there) = (engine(&rig.a, &rig.hand), engine(&rig.b, &rig.hand));
        let shared = options().mode(Mode::Shared);
        let _reader = here.lock("k", &shared).await.unwrap();
        let wait = options().wait(Duration::from_millis(300));
        let writer = tokio::spawn(async move { there.lock("k", &wait).await });
        rig.hand.advance(Duration::ZERO).await;
        assert_eq!(here.status("k").await.unwrap().waiting, 1);
        assert!(here.try_lock("k", &shared).await.unwrap().acquired().is_none());
        rig.hand.advance(Duration::from_millis(300)).await;
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        rig.hand.advance(Duration::ZERO).await;
        assert_eq!(here.status("k").await.unwrap().waiting, 0);
        assert!(here.try_lock("k", &shared).await.unwrap().acquired().is_some());
    }
}

#[tokio::test]
async fn who_only_polled_stands_in_line_as_soon_as_there_is_one() {
    for rig in [leases(), sessions()] {
        let (here, there) = (engine(&rig.a, &rig.hand), engine(&rig.b, &rig.hand));
        rig.b.controls().drop_hints();
        let _held = here.lock("k", &options()).await.unwrap();
        let writer = tokio::spawn(async move { there.lock("k", &options()).await });
        rig.hand.advance(Duration::from_secs(1)).await;
        assert_eq!(here.status("k").await.unwrap().waiting, 0);
        let other = here.clone();
        let fair = tokio::spawn(async move { other.lock("k", &options().fair()).await });
        rig.hand.advance(Duration::from_secs(1)).await;
        assert_eq!(here.status("k").await.unwrap().waiting, 2);
        writer.abort();
        fair.abort();
    }
}

#[tokio::test]
async fn an_uncontended_cycle_costs_one_request_each_way_and_a_watch() {
    let rig = leases();
    let locks = engine(&rig.a, &rig.hand);
    for _ in 0..10 {
        locks.lock("k", &options()).await.unwrap().unlock().await.unwrap();
    }
    let controls = rig.a.controls();
    let counts = [Call::Attempt, Call::Watch, Call::Release].map(|call| controls.count(call));
    assert_eq!((counts, controls.total()), ([10, 10, 10], 30));
}
