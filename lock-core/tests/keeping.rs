//! Renewals: when they come, what their failures do, and what a new TTL changes.

mod common;

use common::Op;
use common::Order;
use common::SECOND;
use common::Scripted;
use common::ms;
use common::plain;
use common::refused;
use common::rest;
use common::setup;
use common::setup_with;
use lock_core::ErrorKind;
use lock_core::LockProvider as _;
use lock_core::Loss;

#[tokio::test]
async fn a_lock_is_kept_for_many_times_its_ttl_at_three_requests_a_ttl() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    hand.advance(SECOND * 100).await;
    assert!(guard.is_valid() && store.is_held("k"));
    assert!((28..=31).contains(&store.calls(Op::Keep)), "{}", store.calls(Op::Keep));
}

#[tokio::test]
async fn a_shorter_ttl_is_kept_at_its_own_pace() {
    let (hand, _store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60)).await.unwrap();
    hand.advance(SECOND).await;
    guard.extend(SECOND * 3).await.unwrap();
    hand.advance(SECOND * 10).await;
    assert!(guard.is_valid(), "the keeper knows of the new pace");
}

#[tokio::test]
async fn a_shorter_deadline_is_told_before_it_is_asked_for() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60)).await.unwrap();
    let hold = guard.hold();
    let known = hold.valid_until();
    let renewed = tokio::spawn(async move { hold.renewed(known).await });
    store.order(Op::Keep, Order::Hang);
    let extend = tokio::spawn(async move { guard.extend(SECOND * 30).await });
    rest(&hand).await;
    assert!(renewed.is_finished());
    assert!(renewed.await.unwrap().unwrap() < known);
    extend.abort();
}

#[tokio::test]
async fn the_risk_of_a_shorter_ttl_is_told_while_the_store_is_silent() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60).grace(ms(1_500))).await.unwrap();
    let hold = guard.hold();
    let at_risk = tokio::spawn(async move { hold.at_risk().await });
    store.always(Op::Keep, Order::Hang);
    let extend = tokio::spawn(async move { guard.extend(SECOND * 2).await });
    rest(&hand).await;
    assert!(!at_risk.is_finished());
    hand.advance(ms(500)).await;
    assert!(at_risk.is_finished());
    extend.abort();
}

#[tokio::test]
async fn an_extension_that_hangs_does_not_stop_renewals() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 6)).await.unwrap();
    hand.advance(ms(1500)).await;
    store.order(Op::Keep, Order::Hang);
    let hold = guard.hold();
    let extend = tokio::spawn(async move { (guard.extend(SECOND * 6).await, guard) });
    hand.advance(SECOND * 8).await;
    assert!(hold.is_valid(), "the request was given up in time for another");
    let (outcome, _guard) = extend.await.unwrap();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_extension_that_is_not_answered_for_is_an_error() {
    let (_hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    store.order(Op::Keep, Order::AnswerNothing);
    let error = guard.extend(SECOND * 60).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.key(), Some("k"));
    assert!(guard.valid_for() <= SECOND * 10);
}

#[tokio::test]
async fn renewals_that_are_not_answered_for_are_repeated_until_the_deadline() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    store.always(Op::Keep, Order::AnswerNothing);
    hand.advance(SECOND * 9).await;
    assert!(guard.is_valid());
    assert!(store.calls(Op::Keep) > 3);
    store.vacate("k");
    hand.advance(SECOND).await;
    assert_eq!(guard.lost().await, Loss::Expired);
}

#[tokio::test]
async fn a_store_that_grants_less_at_a_renewal_moves_the_loss_forward() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60)).await.unwrap();
    store.order(Op::Keep, Order::Grant(SECOND * 6));
    // Silent, so that nothing but the timer can tell.
    store.always(Op::Keep, Order::Hang);
    let hold = guard.hold();
    let lost = tokio::spawn(async move { hold.lost().await });
    hand.advance(SECOND * 20).await;
    assert_eq!(guard.ttl(), SECOND * 6);
    hand.advance(ms(5_950)).await;
    assert!(!guard.is_valid());
    assert!(lost.is_finished(), "the timer moved with the deadline");
}

#[tokio::test]
async fn a_failed_renewal_is_repeated_and_a_lost_reply_harmless() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    for order in [Order::Fail(refused()), Order::LoseReply, Order::Hang] {
        store.order(Op::Keep, order);
        hand.advance(SECOND * 8).await;
        assert!(guard.is_valid());
    }
}

#[tokio::test]
async fn a_backend_that_panics_once_is_asked_again() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    store.order(Op::Keep, Order::Panic);
    hand.advance(SECOND * 30).await;
    assert!(guard.is_valid() && store.is_held("k"));
}

#[tokio::test]
async fn a_renewal_that_hangs_to_the_deadline_loses_the_lock_there() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    store.always(Op::Keep, Order::Hang);
    hand.advance(ms(7999)).await;
    tokio::select! {
        biased;
        () = guard.at_risk() => {}
        () = std::future::ready(()) => panic!("at risk a fifth before the deadline"),
    }
    assert!(guard.is_valid());
    hand.advance(SECOND * 2).await;
    assert_eq!(guard.lost().await, Loss::Expired);
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn an_eviction_hinted_while_a_renewal_is_under_way_is_looked_into() {
    let (hand, store, engine) = setup_with(|hand| {
        let mut store = Scripted::new(hand);
        store.profile.watches_holders = true;
        store
    });
    let guard = engine.lock("k", &plain().ttl(SECOND * 60)).await.unwrap();
    store.order(Op::Keep, Order::Delay(SECOND));
    hand.advance(ms(20_500)).await;
    assert_eq!(store.calls(Op::Keep), 1);
    store.vacate("k");
    store.hint();
    hand.advance(SECOND * 2).await;
    assert!(!guard.is_valid(), "long before the next renewal is due");
    assert_eq!(guard.lost().await, Loss::Evicted);
}

#[tokio::test]
async fn a_watch_that_hangs_holds_up_no_grant() {
    let (hand, store, engine) = setup_with(|hand| {
        let mut store = Scripted::new(hand);
        store.profile.watches_holders = true;
        store
    });
    store.order(Op::Watch, Order::Hang);
    let lock = tokio::spawn({
        let engine = engine.clone();
        async move { engine.lock("k", &plain()).await }
    });
    rest(&hand).await;
    assert!(lock.is_finished());
    drop(lock.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_short_lock_on_a_slow_store_takes_no_long_one_with_it() {
    let (hand, store, engine) = setup();
    let long = engine.lock("long", &plain().ttl(SECOND * 12)).await.unwrap();
    store.always(Op::Keep, Order::Delay(ms(100)));
    for _ in 0..80 {
        let short = engine.lock("short", &plain().ttl(ms(150))).await.unwrap();
        hand.advance(ms(250)).await;
        drop(short);
        rest(&hand).await;
    }
    assert!(long.is_valid(), "its renewals have time of their own");
}

#[tokio::test]
async fn a_lock_that_the_store_can_keep_is_not_given_up_with_one_that_it_cannot() {
    let (hand, store, engine) = setup();
    let long = engine.lock("long", &plain().ttl(SECOND * 12)).await.unwrap();
    store.always(Op::Keep, Order::Delay(SECOND * 2));
    for _ in 0..20 {
        let short = engine.lock("short", &plain().ttl(ms(3300))).await.unwrap();
        hand.advance(SECOND * 3).await;
        drop(short);
        rest(&hand).await;
    }
    assert!(long.is_valid(), "two seconds are less than a third of its TTL");
}
