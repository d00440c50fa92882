//! Re-entry: who enters what, and who leaves last.

mod common;

use common::Op;
use common::Order;
use common::SECOND;
use common::Scripted;
use common::ms;
use common::plain;
use common::rest;
use common::setup;
use common::setup_with;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::Mode;
use lock_core::Wait;

fn ann() -> LockOptions {
    plain().owner("ann").wait(Wait::Forever)
}

#[tokio::test]
async fn two_tasks_of_one_owner_at_once_share_one_acquisition() {
    let (hand, store, engine) = setup();
    store.always(Op::Attempt, Order::Delay(ms(20)));
    let call = || {
        let engine = engine.clone();
        tokio::spawn(async move { engine.lock("k", &ann()).await })
    };
    let (one, two) = (call(), call());
    hand.advance(ms(100)).await;
    let (one, two) = (one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
    assert_eq!(one.fence(), two.fence());
    assert_eq!(store.calls(Op::Attempt), 1);
    one.unlock().await.unwrap();
    assert!(two.is_valid() && store.is_held("k"));
    two.unlock().await.unwrap();
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_waiting_owner_enters_what_its_other_task_gets_without_waiting() {
    let (hand, store, engine) = setup();
    store.occupy("k", SECOND * 60);
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.lock("k", &ann()).await }
    });
    hand.advance(SECOND).await;
    store.always(Op::Peek, Order::Hang);
    hand.advance(SECOND).await;
    store.vacate("k");
    let other = engine.try_lock("k", &ann()).await.unwrap().acquired().unwrap();
    rest(&hand).await;
    let entered = waiter.await.unwrap().unwrap();
    assert_eq!(entered.fence(), other.fence());
}

#[tokio::test]
async fn nobody_enters_a_lost_or_released_hold() {
    let (hand, store, engine) = setup();
    let lost = engine.lock("k", &ann()).await.unwrap();
    store.vacate("k");
    hand.advance(SECOND * 5).await;
    let next = engine.lock("k", &ann()).await.unwrap();
    assert!(next.fence() > lost.fence());
    assert!(next.is_valid() && !lost.is_valid());
    drop(lost);
    rest(&hand).await;
    assert!(next.is_valid() && store.is_held("k"), "the lost guard takes nothing with it");
    let entered = engine.lock("k", &ann()).await.unwrap();
    assert_eq!(entered.fence(), next.fence());
}

#[tokio::test]
async fn a_hold_on_its_way_out_is_not_entered_but_waited_for() {
    let (hand, store, engine) = setup();
    let first = engine.lock("k", &ann()).await.unwrap();
    let fence = first.fence();
    store.order(Op::Release, Order::Delay(ms(50)));
    drop(first);
    let second = tokio::spawn({
        let engine = engine.clone();
        async move { engine.lock("k", &ann()).await }
    });
    hand.advance(ms(100)).await;
    assert!(second.await.unwrap().unwrap().fence() > fence);
}

#[tokio::test]
async fn another_mode_is_refused_and_changes_nothing() {
    let (_hand, store, engine) = setup_with(|hand| {
        let mut store = Scripted::new(hand);
        store.profile.shared = true;
        store
    });
    let guard = engine.lock("k", &ann()).await.unwrap();
    let error = engine.lock("k", &ann().mode(Mode::Shared)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(guard.is_valid() && store.is_held("k"));
    guard.unlock().await.unwrap();
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_shared_hold_is_not_detached_from_under_its_other_guard() {
    let (hand, store, engine) = setup();
    let one = engine.lock("k", &ann()).await.unwrap();
    let two = engine.lock("k", &ann()).await.unwrap();
    assert_eq!(one.into_handle().unwrap_err().kind(), ErrorKind::InvalidInput);
    rest(&hand).await;
    assert!(two.is_valid() && store.is_held("k"));
    let handle = two.into_handle().unwrap();
    assert!(store.is_held("k"));
    engine.release(&handle).await.unwrap();
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn two_calls_without_an_owner_exclude_each_other() {
    let (_hand, _store, engine) = setup();
    let _guard = engine.lock("k", &plain()).await.unwrap();
    assert!(engine.try_lock("k", &plain()).await.unwrap().acquired().is_none());
}
