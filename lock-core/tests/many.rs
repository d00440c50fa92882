//! Several keys in one call: their order, their one deadline, and all or none.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Op;
use common::Order;
use common::SECOND;
use common::Scripted;
use common::ms;
use common::plain;
use common::refused;
use common::rest;
use common::setup;
use futures_util::FutureExt as _;
use lock_core::Backoff;
use lock_core::Engine;
use lock_core::ErrorKind;
use lock_core::LockGuards;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::Loss;
use lock_core::ManualClock;
use lock_core::Result;
use lock_core::Wait;
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(3600);

type Keys = &'static [&'static str];

fn lock_many(engine: &Engine, keys: Keys, options: LockOptions) -> JoinHandle<Result<LockGuards>> {
    let engine = engine.clone();
    tokio::spawn(async move { engine.lock_many(keys, &options).await })
}

fn held(store: &Scripted, keys: Keys) -> Vec<&'static str> {
    keys.iter().copied().filter(|key| store.is_held(key)).collect()
}

/// How long `task` takes, to the millisecond.
async fn time<T>(hand: &ManualClock, task: &JoinHandle<T>) -> Duration {
    let began = hand.clock().now();
    rest(hand).await;
    while !task.is_finished() {
        hand.advance(ms(1)).await;
        assert!(hand.clock().now() < began + SECOND * 30, "it takes too long");
    }
    hand.clock().now().saturating_since(began)
}

/// Takes all `keys` with one request each.
async fn all(engine: &Engine, keys: Keys) -> LockGuards {
    engine.lock_many(keys, &plain()).await.expect("all are free")
}

#[tokio::test]
async fn keys_are_taken_in_the_order_of_their_names_and_released_together() {
    let (hand, store, engine) = setup();
    store.occupy("b", ms(100));
    let call = lock_many(&engine, &["c", "b", "a"], plain().wait(SECOND));
    rest(&hand).await;
    assert_eq!(held(&store, &["a", "c"]), ["a"], "c comes after b");
    hand.advance(ms(200)).await;
    let guards = call.await.unwrap().unwrap();
    let keys: Vec<_> = guards.iter().map(|guard| guard.key()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert!(guards.is_valid() && guards.check().is_ok());
    assert_eq!(guards.fence("b"), guards.get("b").map(|guard| guard.fence()));
    assert!(guards.fence("d").is_none());
    guards.unlock().await.unwrap();
    assert!(held(&store, &["a", "b", "c"]).is_empty());
}

#[tokio::test]
async fn a_key_named_twice_is_locked_once() {
    let (_hand, store, engine) = setup();
    let guards = all(&engine, &["b", "a", "b"]).await;
    assert_eq!((guards.iter().len(), store.calls(Op::Attempt)), (2, 2));
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    let (_hand, store, engine) = setup();
    let none = engine.lock_many(&[], &plain()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::InvalidInput);
    let bad = engine.lock_many(&["a", "b\0"], &plain()).await.unwrap_err();
    assert_eq!((bad.kind(), bad.key()), (ErrorKind::InvalidInput, Some("b\0")));
    assert_eq!(store.calls(Op::Attempt), 0);
}

#[tokio::test]
async fn one_deadline_is_for_all_keys() {
    let (hand, store, engine) = setup();
    store.occupy("a", ms(200));
    store.occupy("b", HOUR);
    let call = lock_many(&engine, &["a", "b"], plain().wait(ms(300)));
    assert_eq!(time(&hand, &call).await, ms(300));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Timeout, Some("b")));
    assert_eq!(error.holders().len(), 1);
    assert!(error.to_string().starts_with("lock_many \"b\" on scripted: "), "{error}");
    rest(&hand).await;
    assert!(!store.is_held("a"));
}

#[tokio::test]
async fn pauses_are_counted_over_all_keys() {
    let (hand, store, engine) = setup();
    store.occupy("a", ms(150));
    store.occupy("b", HOUR);
    let wait = Wait::Attempts { max: 3, backoff: Backoff::fixed(ms(200)) };
    let call = lock_many(&engine, &["a", "b"], plain().wait(wait));
    assert_eq!(time(&hand, &call).await, ms(400));
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.calls(Op::Attempt), 4, "two for each");
}

#[tokio::test]
async fn time_used_up_by_the_first_key_is_a_timeout_of_the_next() {
    let (hand, store, engine) = setup();
    store.occupy("a", ms(290));
    let call = lock_many(&engine, &["a", "b"], plain().wait(ms(300)));
    hand.advance(ms(280)).await;
    store.always(Op::Attempt, Order::Delay(ms(9)));
    hand.advance(ms(20)).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Timeout, Some("b")));
    hand.advance(ms(20)).await;
    assert!(held(&store, &["a", "b"]).is_empty());
}

#[tokio::test]
async fn a_store_that_hangs_is_no_timeout() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Obey);
    store.always(Op::Attempt, Order::Hang);
    let call = lock_many(&engine, &["a", "b"], plain().wait(ms(300)));
    assert_eq!(time(&hand, &call).await, ms(300));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some("b")));
}

#[tokio::test]
async fn a_call_that_is_not_to_wait_keeps_nothing() {
    let (hand, store, engine) = setup();
    store.occupy("b", HOUR);
    let error = engine.lock_many(&["c", "b", "a"], &plain()).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Held, Some("b")));
    rest(&hand).await;
    assert!(held(&store, &["a", "c"]).is_empty());
}

#[tokio::test]
async fn what_is_taken_is_kept_while_the_rest_is_waited_for() {
    let (hand, store, engine) = setup();
    store.occupy("b", SECOND * 60);
    let call = lock_many(&engine, &["a", "b"], plain().wait(Wait::Forever));
    hand.advance(SECOND * 59).await;
    assert!(store.is_held("a"));
    hand.advance(SECOND * 2).await;
    assert!(call.await.unwrap().unwrap().is_valid());
}

#[tokio::test]
async fn a_loss_while_the_rest_is_waited_for_ends_the_call() {
    let (hand, store, engine) = setup();
    store.occupy("c", HOUR);
    let options = plain().without_renewal().wait(Wait::Forever);
    let call = lock_many(&engine, &["a", "b", "c"], options);
    hand.advance(SECOND * 10).await;
    assert!(call.is_finished());
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Lost, Some("a")));
    rest(&hand).await;
    store.vacate("c");
    hand.advance(SECOND).await;
    assert!(held(&store, &["a", "b", "c"]).is_empty());
}

#[tokio::test]
async fn a_loss_in_the_moment_of_the_last_grant_is_found() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Delay(SECOND));
    store.order(Op::Attempt, Order::Delay(SECOND * 3));
    let options = plain().ttl(SECOND * 4).without_renewal();
    let call = lock_many(&engine, &["a", "b"], options);
    hand.advance(SECOND).await;
    // Both at once: the answer for b, and the end of a.
    hand.jump(ms(3500));
    rest(&hand).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Lost, Some("a")));
    rest(&hand).await;
    assert!(!store.is_held("b"));
}

#[tokio::test]
async fn a_call_dropped_at_any_time_leaves_nothing() {
    for step in 0..30 {
        let (hand, store, engine) = setup();
        store.occupy("b", ms(95));
        for op in [Op::Attempt, Op::Watch, Op::Peek, Op::Release] {
            store.always(op, Order::Delay(ms(20)));
        }
        let call = lock_many(&engine, &["a", "b", "c"], plain().wait(Wait::Forever));
        hand.advance(ms(10 * step)).await;
        call.abort();
        hand.advance(ms(200)).await;
        // Done or dropped, the guards are gone with the task.
        drop(call.await);
        hand.advance(ms(50)).await;
        assert!(held(&store, &["a", "b", "c"]).is_empty(), "after {} ms", 10 * step);
    }
}

#[tokio::test]
async fn an_owner_enters_what_it_holds() {
    let (hand, store, engine) = setup();
    let ann = plain().owner("ann");
    let own = engine.lock("b", &ann).await.unwrap();
    let guards = engine.lock_many(&["a", "b"], &ann).await.unwrap();
    assert_eq!(guards.fence("b"), Some(own.fence()));
    assert_eq!(store.calls(Op::Attempt), 2);
    drop(guards);
    rest(&hand).await;
    assert_eq!(held(&store, &["a", "b"]), ["b"]);
}

#[tokio::test]
async fn a_minimum_counts_for_a_call_that_succeeded_only() {
    let (hand, store, engine) = setup();
    let options = plain().min_hold(SECOND * 5);
    store.occupy("b", ms(100));
    engine.lock_many(&["a", "b"], &options).await.unwrap_err();
    rest(&hand).await;
    assert!(!store.is_held("a"), "nothing was done under it");
    hand.advance(ms(200)).await;
    engine.lock_many(&["a", "b"], &options).await.unwrap().unlock().await.unwrap();
    hand.advance(SECOND * 4).await;
    assert_eq!(held(&store, &["a", "b"]), ["a", "b"]);
    hand.advance(SECOND * 2).await;
    assert!(held(&store, &["a", "b"]).is_empty());
}

#[tokio::test]
async fn all_are_released_though_one_was_lost_and_another_is_not_confirmed() {
    let (hand, store, engine) = setup();
    let guards = all(&engine, &["a", "b", "c"]).await;
    store.vacate("b");
    store.order(Op::Release, Order::Fail(refused().permanent().ambiguous()));
    let unlock = tokio::spawn(guards.unlock());
    hand.advance(SECOND).await;
    let error = unlock.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Lost, Some("b")));
    assert!(held(&store, &["a", "b", "c"]).is_empty());
}

#[tokio::test]
async fn releases_that_are_not_confirmed_are_told() {
    let (hand, store, engine) = setup();
    let guards = all(&engine, &["a", "b"]).await;
    store.always(Op::Release, Order::Fail(refused()));
    let unlock = tokio::spawn(guards.unlock());
    hand.advance(SECOND * 2).await;
    let error = unlock.await.unwrap().unwrap_err();
    assert!(error.is_ambiguous() && error.key() == Some("a"), "{error}");
    store.always(Op::Release, Order::Obey);
    hand.advance(SECOND * 2).await;
    assert!(held(&store, &["a", "b"]).is_empty(), "they go on in the background");
}

#[tokio::test]
async fn an_unlock_dropped_before_or_after_its_first_poll_releases_all() {
    for polled in [false, true] {
        let (hand, store, engine) = setup();
        let guards = all(&engine, &["a", "b", "c"]).await;
        store.always(Op::Release, Order::Delay(ms(50)));
        let mut unlock = Box::pin(guards.unlock());
        if polled {
            assert!((&mut unlock).now_or_never().is_none());
        }
        drop(unlock);
        hand.advance(ms(60)).await;
        assert!(held(&store, &["a", "b", "c"]).is_empty());
        assert_eq!(store.calls(Op::Release), 3);
    }
}

#[tokio::test]
async fn the_first_at_risk_and_the_first_lost_are_named() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Obey);
    store.order(Op::Attempt, Order::Delay(SECOND));
    let options = plain().without_renewal();
    let call = lock_many(&engine, &["a", "b"], options);
    hand.advance(SECOND).await;
    let guards = Arc::new(call.await.unwrap().unwrap());
    assert_eq!(guards.valid_for(), guards.get("a").unwrap().valid_for());
    let (risk, loss) = (guards.clone(), guards.clone());
    let risk = tokio::spawn(async move { risk.at_risk().await.to_owned() });
    let loss = tokio::spawn(async move {
        let (key, why) = loss.lost().await;
        (key.to_owned(), why)
    });
    // Counted from before its answer took a second, b ends later by no more than the answer for a took.
    guards.get("b").unwrap().extend(SECOND * 60).await.unwrap();
    hand.advance(ms(6800)).await;
    assert!(!risk.is_finished());
    hand.advance(ms(300)).await;
    assert_eq!(risk.await.unwrap(), "a");
    assert!(guards.is_valid() && !loss.is_finished());
    hand.advance(SECOND * 2).await;
    assert_eq!(loss.await.unwrap(), ("a".to_owned(), Loss::Expired));
    assert!(!guards.is_valid() && guards.valid_for().is_zero());
    assert_eq!(guards.check().unwrap_err().key(), Some("a"));
}

#[tokio::test]
async fn a_shutdown_ends_the_wait_and_frees_what_was_taken() {
    let (hand, store, engine) = setup();
    store.occupy("b", HOUR);
    // The end of what is held comes first, then.
    store.order(Op::Watch, Order::Hang);
    let call = lock_many(&engine, &["a", "b"], plain().wait(Wait::Forever));
    rest(&hand).await;
    engine.shutdown(SECOND).await.unwrap();
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(!store.is_held("a"));
}
