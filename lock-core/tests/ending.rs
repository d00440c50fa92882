//! How holds end: released, lost, shut down, and what is left of them.

mod common;

use std::sync::Arc;
use std::sync::Mutex;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

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
use lock_core::Eviction;
use lock_core::LockGuard;
use lock_core::LockProvider as _;
use lock_core::Loss;

/// Drops a guard inside the clock, before the clock gets to the guard's own deadline.
struct DropsGuard(Mutex<Option<LockGuard>>);

impl Wake for DropsGuard {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().expect("nobody panics").take());
    }
}

#[tokio::test]
async fn a_guard_dropped_after_its_deadline_but_before_its_timer_is_lost_and_released() {
    let (hand, store, engine) = setup_with(Scripted::session);
    let guard = engine.lock("k", &plain()).await.unwrap();
    let hold = guard.hold();
    let lost = tokio::spawn({
        let hold = hold.clone();
        async move { hold.lost().await }
    });
    rest(&hand).await;
    let waker = Waker::from(Arc::new(DropsGuard(Mutex::new(Some(guard)))));
    let mut first = Box::pin(hand.clock().sleep(ms(1)));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    hand.jump(SECOND * 11);
    rest(&hand).await;
    assert!(lost.is_finished(), "whoever waits for the loss is told");
    assert_eq!(lost.await.unwrap(), Loss::Expired);
    assert!(!store.is_held("k"), "a session would hold it for ever");
}

#[tokio::test]
async fn a_release_of_an_extended_lock_is_repeated_for_its_new_ttl() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND)).await.unwrap();
    guard.extend(SECOND * 50).await.unwrap();
    store.always(Op::Release, Order::Fail(common::refused()));
    drop(guard);
    hand.advance(SECOND * 10).await;
    store.always(Op::Release, Order::Obey);
    hand.advance(SECOND * 3).await;
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_release_from_a_session_is_repeated_beyond_the_ttl() {
    let (hand, store, engine) = setup_with(Scripted::session);
    let guard = engine.lock("k", &plain().ttl(SECOND)).await.unwrap();
    store.always(Op::Release, Order::Fail(common::refused()));
    drop(guard);
    hand.advance(SECOND * 10).await;
    store.always(Op::Release, Order::Obey);
    hand.advance(SECOND * 3).await;
    assert!(!store.is_held("k"), "no TTL ends it there");
}

#[tokio::test]
async fn a_handle_released_with_a_lost_reply_is_released() {
    let (hand, store, engine) = setup();
    let handle = engine.lock("k", &plain()).await.unwrap().into_handle().unwrap();
    store.order(Op::Release, Order::LoseReply);
    let release = tokio::spawn({
        let engine = engine.clone();
        async move { engine.release(&handle).await }
    });
    hand.advance(SECOND).await;
    release.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_force_unlock_with_a_lost_reply_is_not_repeated_on_the_next_holder() {
    let (hand, store, engine) = setup();
    store.occupy("k", SECOND * 60);
    store.order(Op::Evict, Order::LoseReply);
    let evict = tokio::spawn({
        let engine = engine.clone();
        async move { engine.force_unlock("k", Eviction::LockOnly).await }
    });
    rest(&hand).await;
    store.occupy("k", SECOND * 60);
    hand.advance(SECOND).await;
    let error = evict.await.unwrap().unwrap_err();
    assert!(error.is_ambiguous(), "{error}");
    assert!(store.is_held("k"), "the next holder was not meant");
}

#[tokio::test]
async fn a_closed_provider_refuses_handles_and_says_where() {
    let (_hand, _store, engine) = setup();
    let handle = engine.lock("k", &plain()).await.unwrap().into_handle().unwrap();
    engine.shutdown(SECOND).await.unwrap();
    assert_eq!(engine.renew(&handle, SECOND).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(engine.release(&handle).await.unwrap_err().kind(), ErrorKind::Closed);
    let error = engine.cleanup_expired().await.unwrap_err();
    assert_eq!(error.backend(), Some("scripted"), "{error}");
}

#[tokio::test]
async fn a_shutdown_waits_for_an_attempt_under_way_and_releases_what_it_took() {
    let (hand, store, engine) = setup();
    store.order(Op::Attempt, Order::Delay(ms(300)));
    let lock = tokio::spawn({
        let engine = engine.clone();
        async move { engine.lock("k", &plain()).await }
    });
    rest(&hand).await;
    let shutdown = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown(SECOND).await }
    });
    hand.advance(ms(900)).await;
    assert_eq!(lock.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    shutdown.await.unwrap().unwrap();
    assert!(!store.is_held("k"));
    assert_eq!(store.log().last().unwrap().0, Op::Close, "{:?}", store.log());
}

#[tokio::test]
async fn a_shutdown_counts_the_releases_in_doubt_and_says_once_what_ends_them() {
    for (keys, words) in [
        (&["a"][..], "1 release is not confirmed after 1s: the TTL ends the lock"),
        (&["a", "b"], "2 releases are not confirmed after 1s: TTLs end the locks"),
    ] {
        let (hand, store, engine) = setup();
        store.always(Op::Release, Order::Hang);
        for key in keys {
            drop(engine.lock(key, &plain()).await.unwrap());
        }
        let shutdown = tokio::spawn(async move { engine.shutdown(SECOND).await });
        hand.advance(SECOND).await;
        let error = shutdown.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Timeout, words));
    }
}

#[tokio::test]
async fn requests_that_hang_end_each_at_its_own_limit() {
    let (hand, store, engine) = setup();
    let guards = [engine.lock("a", &plain()).await, engine.lock("b", &plain()).await];
    store.always(Op::Release, Order::Hang);
    let mut unlocks = Vec::new();
    for guard in guards {
        unlocks.push(tokio::spawn(guard.unwrap().unlock()));
        hand.advance(SECOND).await;
    }
    // The first of them was sent 2 s ago.
    hand.advance(SECOND * 3 - ms(1)).await;
    assert!(!unlocks[0].is_finished());
    hand.advance(ms(1)).await;
    assert!(unlocks[0].is_finished());
    hand.advance(SECOND - ms(1)).await;
    assert!(!unlocks[1].is_finished());
    hand.advance(ms(1)).await;
    for unlock in unlocks {
        assert!(unlock.is_finished());
        assert!(unlock.await.unwrap().unwrap_err().is_ambiguous());
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_an_unlock_under_way() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain()).await.unwrap();
    store.order(Op::Release, Order::Delay(ms(300)));
    let unlock = tokio::spawn(guard.unlock());
    rest(&hand).await;
    let shutdown = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown(SECOND).await }
    });
    rest(&hand).await;
    assert_eq!(store.calls(Op::Close), 0, "its connection is still needed");
    hand.advance(SECOND).await;
    unlock.await.unwrap().unwrap();
    shutdown.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_a_minimum_hold_on_a_session_end() {
    let (hand, store, engine) = setup_with(Scripted::session);
    let guard = engine.lock("k", &plain().min_hold(SECOND * 3)).await.unwrap();
    guard.unlock().await.unwrap();
    let shutdown = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown(SECOND * 5).await }
    });
    hand.advance(SECOND * 2).await;
    assert!(store.is_held("k"), "the minimum is not over");
    hand.advance(SECOND * 2).await;
    assert!(shutdown.is_finished(), "nothing is left to wait for");
    shutdown.await.unwrap().unwrap();
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_minimum_hold_whose_lock_is_lost_holds_up_no_shutdown() {
    let (hand, store, engine) = setup_with(Scripted::session);
    let guard = engine.lock("k", &plain().min_hold(SECOND * 3600)).await.unwrap();
    guard.unlock().await.unwrap();
    store.vacate("k");
    hand.advance(SECOND * 10).await;
    let shutdown = tokio::spawn(async move { engine.shutdown(SECOND * 5).await });
    hand.advance(SECOND).await;
    assert!(shutdown.is_finished());
    shutdown.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_leaves_a_guarded_lock_taken_for_its_minimum() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60).min_hold(SECOND * 3)).await.unwrap();
    engine.shutdown(SECOND).await.unwrap();
    assert!(!guard.is_valid());
    hand.advance(ms(2900)).await;
    assert!(store.is_held("k"), "the minimum is not over");
    hand.advance(SECOND).await;
    assert!(!store.is_held("k"), "the lease was shortened to the minimum");
}

#[tokio::test]
async fn a_minimum_hold_survives_a_failing_store() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60).min_hold(SECOND * 3)).await.unwrap();
    store.order(Op::Keep, Order::Fail(common::refused()));
    drop(guard);
    hand.advance(ms(2900)).await;
    assert!(store.is_held("k"));
    hand.advance(SECOND).await;
    assert!(!store.is_held("k"), "shortened at the second try");
}

#[tokio::test]
async fn a_minimum_hold_that_the_store_does_not_answer_for_is_not_called_lost() {
    let (_hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().min_hold(SECOND * 3)).await.unwrap();
    store.order(Op::Keep, Order::AnswerNothing);
    let error = guard.unlock().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_ambiguous(), "{error}");
}

#[tokio::test]
async fn a_minimum_hold_that_cannot_be_shortened_is_released_when_it_is_over() {
    let (hand, store, engine) = setup();
    let options = plain().ttl(SECOND * 60).min_hold(SECOND * 10);
    let guard = engine.lock("k", &options).await.unwrap();
    store.always(Op::Keep, Order::Fail(common::refused()));
    let unlock = tokio::spawn(guard.unlock());
    hand.advance(ms(9900)).await;
    let error = unlock.await.unwrap().unwrap_err();
    assert!(error.is_ambiguous(), "the store did not confirm: {error}");
    assert!(store.is_held("k"), "the minimum is not over");
    hand.advance(ms(200)).await;
    assert!(!store.is_held("k"), "nobody waits for the TTL");
}

#[tokio::test]
async fn a_lock_that_was_to_run_shorter_is_released_for_as_long_as_it_may_run() {
    let (hand, store, engine) = setup();
    let guard = engine.lock("k", &plain().ttl(SECOND * 60)).await.unwrap();
    store.always(Op::Keep, Order::Fail(common::refused()));
    store.always(Op::Release, Order::Fail(common::refused()));
    guard.extend(ms(300)).await.unwrap_err();
    hand.advance(SECOND * 5).await;
    assert!(!guard.is_valid(), "the shorter TTL is believed at once");
    assert!(store.is_held("k"), "the store still runs the longer one");
    store.always(Op::Release, Order::Obey);
    hand.advance(SECOND * 3).await;
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_minimum_hold_on_a_session_outlasts_the_maximum_and_the_ttl_of_its_guard() {
    for options in [plain().max_hold(SECOND), plain().ttl(SECOND).without_renewal()] {
        let (hand, store, engine) = setup_with(Scripted::session);
        let guard = engine.lock("k", &options.min_hold(SECOND * 3)).await.unwrap();
        guard.unlock().await.unwrap();
        hand.advance(ms(2900)).await;
        assert!(store.is_held("k"), "the minimum is not over");
        hand.advance(ms(200)).await;
        assert!(!store.is_held("k"));
    }
}

#[tokio::test]
async fn a_maximum_hold_outlasts_an_extension() {
    let (hand, store, engine) = setup();
    let options = plain().without_renewal().max_hold(SECOND * 12);
    let guard = engine.lock("k", &options).await.unwrap();
    guard.extend(SECOND * 60).await.unwrap();
    assert!(guard.valid_for() <= SECOND * 12, "{:?}", guard.valid_for());
    hand.advance(SECOND * 12).await;
    assert!(!guard.is_valid());
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_lock_on_a_session_that_is_not_renewed_ends_at_its_ttl_and_moves_with_an_extension() {
    let (hand, store, engine) = setup_with(Scripted::session);
    let guard = engine.lock("k", &plain().without_renewal()).await.unwrap();
    hand.advance(SECOND * 9).await;
    guard.extend(SECOND * 10).await.unwrap();
    hand.advance(SECOND * 9).await;
    assert!(guard.is_valid());
    hand.advance(SECOND).await;
    assert!(!guard.is_valid());
    assert!(!store.is_held("k"));
    assert_eq!(guard.unlock().await.unwrap_err().kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn nothing_stays_registered_after_any_end() {
    let (hand, store, engine) = setup();
    for round in 0..4 {
        let guard = engine.lock("k", &plain().owner("ann")).await.unwrap();
        match round {
            0 => guard.unlock().await.unwrap(),
            1 => drop(guard),
            2 => store.vacate("k"),
            _ => drop(guard.into_handle().unwrap()),
        }
        hand.advance(SECOND * 20).await;
    }
    assert!(format!("{engine:?}").contains("Register(0 kept)"), "{engine:?}");
    let weak = Arc::downgrade(&store);
    drop((engine, store));
    hand.advance(Duration::from_secs(60)).await;
    assert!(weak.upgrade().is_none(), "the engine let go of its store");
}
