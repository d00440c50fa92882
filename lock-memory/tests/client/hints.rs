//! Who is woken by what.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Eviction;

use crate::rig::*;

#[tokio::test]
async fn a_release_hints_the_first_who_waits_and_no_herd() {
    let rig = leases();
    let held = exclusive();
    grant(&rig.a, &held).await;
    let (first, second) = (exclusive(), exclusive());
    let (ear1, watch1) = Ear::on(&rig.a, &first).await;
    let (ear2, _watch2) = Ear::on(&rig.b, &second).await;
    attempt(&rig.a, &first).await;
    attempt(&rig.b, &second).await;
    rig.a.release(&held).await.unwrap();
    assert_eq!((ear1.heard(), ear2.heard()), (1, 0));
    // The hint of a waiter that goes away without having tried is passed on.
    drop(watch1);
    assert_eq!((ear1.heard(), ear2.heard()), (0, 1));
}

#[tokio::test]
async fn a_hint_armed_before_the_first_attempt_is_not_missed() {
    let rig = leases();
    let held = exclusive();
    grant(&rig.a, &held).await;
    let (ear, _watch) = Ear::on(&rig.b, &exclusive()).await;
    rig.a.release(&held).await.unwrap();
    assert_eq!(ear.heard(), 1);
}

#[tokio::test]
async fn a_line_is_hinted_in_its_order_whoever_armed_first() {
    let rig = leases();
    let (held, first, second) = (exclusive(), queued(), queued());
    grant(&rig.a, &held).await;
    attempt(&rig.a, &first).await;
    attempt(&rig.a, &second).await;
    let (ear2, _watch2) = Ear::on(&rig.a, &second).await;
    let (ear1, _watch1) = Ear::on(&rig.a, &first).await;
    rig.a.release(&held).await.unwrap();
    assert_eq!((ear1.heard(), ear2.heard()), (1, 0));
    rig.a.release(&first).await.unwrap();
    assert_eq!((ear1.heard(), ear2.heard()), (0, 1));
}

#[tokio::test]
async fn readers_who_wait_are_hinted_together() {
    let rig = leases();
    let held = exclusive();
    grant(&rig.a, &held).await;
    let readers = [claim("k", "shared"), claim("k", "shared")];
    let (ear1, _watch1) = Ear::on(&rig.a, &readers[0]).await;
    let (ear2, _watch2) = Ear::on(&rig.b, &readers[1]).await;
    rig.a.release(&held).await.unwrap();
    assert_eq!((ear1.heard(), ear2.heard()), (1, 1));
}

#[tokio::test]
async fn an_eviction_tells_the_holder_and_the_waiter() {
    for rig in [leases(), sessions()] {
        let (held, waiter) = (exclusive(), exclusive());
        grant(&rig.a, &held).await;
        let (holder_ear, _holder) = Ear::on(&rig.a, &held).await;
        let (waiter_ear, _waiter) = Ear::on(&rig.b, &waiter).await;
        let evicted = rig.b.evict(&key("k"), Eviction::LockOnly).await.unwrap();
        assert_eq!((evicted.holders, evicted.others), (1, 0));
        assert_eq!((holder_ear.heard(), waiter_ear.heard()), (1, 1));
    }
}

#[tokio::test]
async fn a_release_does_not_hint_the_watch_of_the_holder_itself() {
    let rig = leases();
    let (held, waiter) = (exclusive(), exclusive());
    grant(&rig.a, &held).await;
    let (holder_ear, _holder) = Ear::on(&rig.a, &held).await;
    let (waiter_ear, _waiter) = Ear::on(&rig.b, &waiter).await;
    rig.a.release(&held).await.unwrap();
    assert_eq!((holder_ear.heard(), waiter_ear.heard()), (0, 1));
}

#[tokio::test]
async fn a_waiter_that_was_served_takes_no_more_hints_from_others() {
    let rig = leases();
    let (held, first, second) = (exclusive(), exclusive(), exclusive());
    grant(&rig.a, &held).await;
    let (ear1, _watch1) = Ear::on(&rig.a, &first).await;
    let (ear2, _watch2) = Ear::on(&rig.b, &second).await;
    attempt(&rig.a, &first).await;
    rig.a.release(&held).await.unwrap();
    grant(&rig.a, &first).await;
    assert_eq!((ear1.heard(), ear2.heard()), (1, 0));
    rig.a.release(&first).await.unwrap();
    assert_eq!((ear1.heard(), ear2.heard()), (0, 1));
}

#[tokio::test]
async fn expiry_gives_no_hint_and_the_refusal_says_when_to_look() {
    let rig = leases();
    let waiter = exclusive();
    grant(&rig.a, &exclusive()).await;
    let (ear, _watch) = Ear::on(&rig.b, &waiter).await;
    let held = rig.b.attempt(&waiter).await.unwrap();
    assert!(matches!(held, Attempt::Held { retry_in: Some(TTL), .. }), "{held:?}");
    rig.hand.advance(TTL).await;
    assert_eq!(ear.heard(), 0);
    grant(&rig.b, &waiter).await;
}

#[tokio::test]
async fn dropped_hints_are_lost_for_one_client_only() {
    let rig = leases();
    let held = claim("k", "permits:2");
    grant(&rig.a, &held).await;
    grant(&rig.a, &claim("k", "permits:2")).await;
    let (deaf, deaf_watch) = Ear::on(&rig.a, &claim("k", "permits:2")).await;
    rig.a.controls().drop_hints();
    rig.a.release(&held).await.unwrap();
    assert_eq!(deaf.heard(), 0);
    let (ear, _watch) = Ear::on(&rig.b, &claim("k", "permits:2")).await;
    drop(deaf_watch);
    assert_eq!(ear.heard(), 1);
}

#[tokio::test]
async fn a_disarmed_watch_hears_nothing() {
    let rig = leases();
    let held = exclusive();
    grant(&rig.a, &held).await;
    let (ear, watch) = Ear::on(&rig.b, &exclusive()).await;
    drop(watch);
    rig.a.release(&held).await.unwrap();
    assert_eq!(ear.heard(), 0);
}

#[tokio::test]
async fn readers_that_keep_coming_do_not_pass_a_writer_that_polls() {
    let rig = leases();
    let (reader, writer) = (claim("k", "shared"), exclusive());
    grant(&rig.a, &reader).await;
    let (ear, watch) = Ear::on(&rig.b, &writer).await;
    assert_eq!(attempt(&rig.b, &writer).await, None);
    assert_eq!(attempt(&rig.a, &claim("k", "shared")).await, None);
    rig.a.release(&reader).await.unwrap();
    assert_eq!(ear.heard(), 1);
    assert_eq!(attempt(&rig.a, &claim("k", "shared")).await, None);
    drop(watch);
    grant(&rig.a, &claim("k", "shared")).await;
}

#[tokio::test]
async fn a_writer_that_ignores_its_hint_stops_readers_for_five_seconds_only() {
    let rig = leases();
    let (reader, writer) = (claim("k", "shared"), exclusive());
    grant(&rig.a, &reader).await;
    let (_ear, _watch) = Ear::on(&rig.b, &writer).await;
    attempt(&rig.b, &writer).await;
    rig.a.release(&reader).await.unwrap();
    rig.hand.jump(Duration::from_millis(4_999));
    assert_eq!(attempt(&rig.a, &claim("k", "shared")).await, None);
    rig.hand.jump(Duration::from_millis(1));
    grant(&rig.a, &claim("k", "shared")).await;
}
