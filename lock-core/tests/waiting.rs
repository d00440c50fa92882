//! Waiting: when a waiter looks, when it gives up, and what it costs.

mod common;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use common::Op;
use common::Order;
use common::SECOND;
use common::ms;
use common::plain;
use common::refused;
use common::rest;
use common::setup;
use lock_core::Backoff;
use lock_core::Engine;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::ManualClock;
use lock_core::Result;
use lock_core::Wait;
use lock_core::Waiting;
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(3600);

fn lock(engine: &Engine, key: &'static str, options: LockOptions) -> JoinHandle<Result<LockGuard>> {
    let engine = engine.clone();
    tokio::spawn(async move { engine.lock(key, &options).await })
}

fn attempts(max: u32) -> LockOptions {
    plain().wait(Wait::Attempts { max, backoff: Backoff::fixed(ms(200)) })
}

/// How long `task` takes, to the millisecond.
async fn time<T>(hand: &ManualClock, task: &JoinHandle<T>) -> Duration {
    let began = hand.clock().now();
    rest(hand).await;
    while !task.is_finished() {
        hand.advance(ms(1)).await;
    }
    hand.clock().now().saturating_since(began)
}

#[tokio::test]
async fn a_wait_for_a_held_lock_ends_exactly_and_names_the_holder() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let waiter = lock(&engine, "k", plain().wait(ms(300)));
    assert_eq!(time(&hand, &waiter).await, ms(300));
    let error = waiter.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.holders().len()), (ErrorKind::Timeout, 1));
    assert_eq!(error.key(), Some("k"));
}

#[tokio::test]
async fn counted_attempts_are_made_although_others_of_the_process_wait_for_ever() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let forever = lock(&engine, "k", plain().wait(Wait::Forever));
    rest(&hand).await;
    let before = store.calls(Op::Attempt);
    let counted = lock(&engine, "k", attempts(3));
    hand.advance(ms(400)).await;
    assert!(counted.is_finished(), "it does not stand behind the other");
    assert_eq!(counted.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.calls(Op::Attempt) - before, 3);
    forever.abort();
}

#[tokio::test]
async fn a_wait_behind_others_of_the_same_process_ends_exactly() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let first = lock(&engine, "k", plain().wait(SECOND));
    rest(&hand).await;
    let second = lock(&engine, "k", plain().wait(ms(300)));
    assert_eq!(time(&hand, &second).await, ms(300));
    assert_eq!(second.await.unwrap().unwrap_err().holders().len(), 1);
    first.abort();
}

#[tokio::test]
async fn a_wait_on_a_store_that_hangs_ends_exactly() {
    let (hand, store, engine) = setup();
    store.always(Op::Attempt, Order::Hang);
    let waiter = lock(&engine, "k", plain().wait(ms(300)));
    assert_eq!(time(&hand, &waiter).await, ms(300));
    assert_eq!(waiter.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_wait_for_no_time_still_asks_a_store_that_takes_some() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Delay(ms(3)));
    let waiter = lock(&engine, "k", plain().wait(Wait::For(Duration::ZERO)));
    hand.advance(ms(10)).await;
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn counted_attempts_are_as_many_as_were_asked_for() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let waiter = lock(&engine, "k", attempts(3));
    assert_eq!(time(&hand, &waiter).await, ms(400));
    assert_eq!(waiter.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!((store.calls(Op::Attempt), store.calls(Op::Peek)), (3, 0));
}

#[tokio::test]
async fn a_hint_uses_up_no_counted_attempt() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let waiter = lock(&engine, "k", attempts(3));
    for _ in 0..5 {
        hand.advance(ms(10)).await;
        store.hint();
    }
    rest(&hand).await;
    assert!(!waiter.is_finished());
    assert_eq!(time(&hand, &waiter).await, ms(350));
    waiter.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_lock_freed_without_a_hint_is_found_by_looking() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
    hand.advance(SECOND * 10).await;
    store.vacate("k");
    hand.advance(ms(120)).await;
    assert!(waiter.is_finished());
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_broken_hint_is_armed_again_and_wakes_again() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    store.always(Op::Peek, Order::Hang);
    let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
    rest(&hand).await;
    assert_eq!(store.calls(Op::Watch), 1);
    for armed in 2..5 {
        store.break_watches();
        hand.advance(ms(200)).await;
        assert_eq!(store.calls(Op::Watch), armed);
    }
    store.vacate("k");
    store.hint();
    rest(&hand).await;
    assert!(waiter.is_finished(), "woken by the hint that was armed last");
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_hint_that_cannot_be_armed_is_tried_again_later() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    store.always(Op::Peek, Order::Hang);
    store.order(Op::Watch, Order::Fail(refused()));
    let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
    hand.advance(ms(300)).await;
    assert_eq!(store.calls(Op::Watch), 2, "once more, not in a loop");
    store.vacate("k");
    store.hint();
    rest(&hand).await;
    assert!(waiter.is_finished());
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_lock_freed_while_the_hint_is_armed_is_not_missed() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    store.always(Op::Peek, Order::Hang);
    store.order(Op::Watch, Order::Delay(ms(50)));
    let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
    hand.advance(ms(20)).await;
    store.vacate("k");
    hand.advance(ms(40)).await;
    assert!(waiter.is_finished());
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn idle_waiters_share_their_looks() {
    const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (hand, store, engine) = setup();
    let mut waiters = Vec::new();
    for key in KEYS {
        store.occupy(key, HOUR);
        waiters.extend((0..5).map(|_| lock(&engine, key, plain().wait(Wait::Forever))));
        hand.advance(ms(3)).await;
    }
    hand.advance(SECOND * 5).await;
    let before = store.calls(Op::Peek);
    hand.advance(SECOND * 10).await;
    let looks = store.calls(Op::Peek) - before;
    assert!(looks <= 10 * 11 * 2, "{looks} looks in 10 s for {} waiters", waiters.len());
    assert!(store.calls(Op::Attempt) <= 2 * KEYS.len(), "only contenders attempt");
    waiters.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn who_waits_for_a_key_that_is_handed_around_goes_on_looking_eagerly() {
    let (hand, store, engine) = setup();
    store.hand_on("k");
    let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
    hand.advance(SECOND * 5).await;
    for _ in 0..10 {
        store.hand_on("k");
        // Until it has seen that somebody else has the key.
        hand.advance(ms(120)).await;
        let before = store.calls(Op::Peek);
        hand.advance(ms(500)).await;
        let looks = store.calls(Op::Peek) - before;
        assert!(looks >= 90, "{looks} looks in half a second");
    }
    assert_eq!(store.calls(Op::Attempt), 2, "looking costs no attempts");
    hand.advance(SECOND * 5).await;
    let before = store.calls(Op::Peek);
    hand.advance(SECOND).await;
    let looks = store.calls(Op::Peek) - before;
    assert!(looks <= 11, "{looks} looks in a second, though one holds it all the time");
    waiter.abort();
}

#[tokio::test]
async fn looks_that_can_never_succeed_give_way_to_attempts() {
    for order in [Order::Fail(Error::new(ErrorKind::Corrupt, "no")), Order::AnswerNothing] {
        let (hand, store, engine) = setup();
        store.occupy("k", HOUR);
        store.always(Op::Peek, order);
        let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
        hand.advance(SECOND).await;
        store.vacate("k");
        hand.advance(SECOND).await;
        assert!(waiter.is_finished());
        drop(waiter.await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_waiter_outlives_an_outage() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let waiter = lock(&engine, "k", plain().wait(Wait::Forever));
    rest(&hand).await;
    store.always(Op::Peek, Order::Fail(refused()));
    store.always(Op::Attempt, Order::Fail(refused()));
    hand.advance(SECOND * 30).await;
    assert!(!waiter.is_finished());
    store.always(Op::Peek, Order::Obey);
    store.always(Op::Attempt, Order::Obey);
    store.vacate("k");
    hand.advance(SECOND * 3).await;
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_call_that_is_not_to_wait_repeats_a_failed_request_twice_only() {
    let (hand, store, engine) = setup();
    store.always(Op::Attempt, Order::Fail(refused()));
    let waiter = lock(&engine, "k", plain());
    hand.advance(SECOND).await;
    assert_eq!(waiter.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.calls(Op::Attempt), 3);
}

#[tokio::test]
async fn a_shutdown_ends_every_kind_of_wait_at_once() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    let contender = lock(&engine, "k", plain().wait(Wait::Forever));
    rest(&hand).await;
    let behind = lock(&engine, "k", plain().wait(Wait::Forever));
    let counted = lock(&engine, "other", attempts(9));
    store.occupy("other", HOUR);
    rest(&hand).await;
    store.always(Op::Attempt, Order::Hang);
    let hanging = lock(&engine, "third", plain());
    let hurried = lock(&engine, "fourth", plain().wait(ms(500)));
    rest(&hand).await;
    store.always(Op::Attempt, Order::Obey);
    let shutdown = tokio::spawn(async move { engine.shutdown(SECOND * 10).await });
    rest(&hand).await;
    for waiter in [contender, behind, counted, hanging, hurried] {
        assert!(waiter.is_finished());
        assert_eq!(waiter.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
    hand.advance(SECOND * 10).await;
    shutdown.await.unwrap().unwrap();
}

#[tokio::test]
async fn waiters_of_one_process_are_served_in_order_and_the_dropped_are_skipped() {
    let (hand, _store, engine) = setup();
    let held = engine.lock("k", &plain()).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for number in 0..5 {
        let (engine, order) = (engine.clone(), order.clone());
        waiters.push(tokio::spawn(async move {
            let guard = engine.lock("k", &plain().wait(Wait::Forever)).await.unwrap();
            order.lock().unwrap().push(number);
            guard.unlock().await.unwrap();
        }));
        rest(&hand).await;
    }
    waiters[2].abort();
    held.unlock().await.unwrap();
    hand.advance(SECOND).await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
}

#[tokio::test]
async fn an_observer_hears_who_holds_and_what_fails_and_costs_nothing() {
    let (hand, store, engine) = setup();
    store.occupy("k", HOUR);
    store.order(Op::Attempt, Order::Fail(Error::new(ErrorKind::Unavailable, "away")));
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let ear = heard.clone();
    let options = plain().wait(Wait::Forever).observe(move |news| {
        ear.lock().unwrap().push(match news {
            Waiting::Held { holders, ahead } => format!("{} hold, {ahead:?} ahead", holders.len()),
            Waiting::Failed { error } => error.message().to_owned(),
            _ => "something else".to_owned(),
        });
    });
    let waiter = lock(&engine, "k", options);
    hand.advance(SECOND).await;
    rest(&hand).await;
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(heard.first().map(String::as_str), Some("away"));
    assert!(heard.len() > 1, "{heard:?}");
    assert!(heard[1..].iter().all(|news| news == "1 hold, None ahead"), "{heard:?}");
    assert_eq!(store.calls(Op::Attempt), heard.len(), "it hears of each attempt, and causes none");
    waiter.abort();
}
