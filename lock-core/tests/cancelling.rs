//! Futures dropped half-way: nothing stays held, queued or half-known.

mod common;

use common::Op;
use common::Order;
use common::SECOND;
use common::ms;
use common::plain;
use common::rest;
use common::setup;
use futures_util::FutureExt as _;
use lock_core::LockProvider as _;
use lock_core::LockProviderExt as _;
use lock_core::Result;
use lock_core::Wait;

#[tokio::test]
async fn a_lock_call_dropped_at_any_time_leaves_nothing() {
    for step in 0..20 {
        let (hand, store, engine) = setup();
        store.occupy("k", ms(95));
        for op in [Op::Attempt, Op::Watch, Op::Peek, Op::Release] {
            store.always(op, Order::Delay(ms(20)));
        }
        let call = tokio::spawn({
            let engine = engine.clone();
            async move { engine.lock("k", &plain().wait(Wait::Forever)).await.map(std::mem::forget) }
        });
        hand.advance(ms(10 * step)).await;
        let acquired = call.is_finished();
        call.abort();
        hand.advance(ms(200)).await;
        assert_eq!(store.is_held("k"), acquired, "after {} ms", 10 * step);
    }
}

#[tokio::test]
async fn a_release_does_not_overtake_its_attempt() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Delay(ms(300)));
    let call = tokio::spawn({
        let engine = engine.clone();
        async move { engine.lock("k", &plain()).await }
    });
    hand.advance(ms(100)).await;
    call.abort();
    hand.advance(ms(199)).await;
    assert_eq!(store.calls(Op::Release), 0);
    hand.advance(ms(1)).await;
    assert!(!store.is_held("k"));
    let log = store.log();
    assert_eq!(log[0], (Op::Attempt, log[1].1));
    assert_eq!(log[1].0, Op::Release);
}

#[tokio::test]
async fn an_attempt_without_an_answer_is_released_after_its_time() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Hang);
    let call = tokio::spawn({
        let engine = engine.clone();
        async move { engine.lock("k", &plain()).await }
    });
    rest(&hand).await;
    call.abort();
    hand.advance(SECOND * 6).await;
    assert_eq!(store.calls(Op::Release), 1);
}

#[tokio::test]
async fn a_token_is_not_used_again_once_its_release_may_be_on_its_way() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Delay(ms(1500)));
    let call = tokio::spawn({
        let engine = engine.clone();
        let options = plain().ttl(SECOND).wait(SECOND * 10);
        async move { engine.lock("k", &options).await }
    });
    hand.advance(SECOND * 4).await;
    let guard = call.await.unwrap().unwrap();
    assert!(guard.is_valid());
    let log = store.log();
    let late = log[0].1;
    let released = log.iter().position(|call| *call == (Op::Release, late)).unwrap();
    assert!(!log[released..].contains(&(Op::Attempt, late)), "{log:?}");
    assert!(store.is_held("k"));
}

#[tokio::test]
async fn an_unlock_dropped_before_or_after_its_first_poll_releases() {
    for polled in [false, true] {
        let (hand, store, engine) = setup();
        let guard = engine.lock("k", &plain()).await.unwrap();
        store.order(Op::Release, Order::Delay(ms(50)));
        let mut unlock = Box::pin(guard.unlock());
        if polled {
            assert!((&mut unlock).now_or_never().is_none());
        }
        drop(unlock);
        hand.advance(ms(60)).await;
        assert!(!store.is_held("k"));
        assert_eq!(store.calls(Op::Release), 1);
    }
}

#[tokio::test]
async fn an_extension_dropped_half_way_keeps_the_lock_kept() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    store.order(Op::Keep, Order::Delay(ms(50)));
    {
        let mut extend = Box::pin(guard.extend(SECOND * 5));
        assert!((&mut extend).now_or_never().is_none());
    }
    hand.advance(SECOND * 30).await;
    assert!(guard.is_valid() && store.is_held("k"));
    assert_eq!(guard.ttl(), SECOND * 5);
}

#[tokio::test]
async fn a_body_dropped_half_way_releases() {
    let (hand, store, engine) = setup();
    let task = tokio::spawn({
        let engine = engine.clone();
        async move {
            let forever = |_| std::future::pending::<Result<()>>();
            engine.with_lock("k", &plain(), forever).await
        }
    });
    rest(&hand).await;
    assert!(store.is_held("k"));
    task.abort();
    rest(&hand).await;
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_shutdown_dropped_half_way_goes_on() {
    let (hand, store, engine) = setup();
    let _guard = engine.lock("k", &plain()).await.unwrap();
    store.order(Op::Release, Order::Delay(ms(50)));
    {
        let mut shutdown = Box::pin(engine.shutdown(SECOND));
        assert!((&mut shutdown).now_or_never().is_none());
    }
    hand.advance(ms(100)).await;
    assert!(!store.is_held("k"));
    assert_eq!(store.calls(Op::Close), 1);
}
