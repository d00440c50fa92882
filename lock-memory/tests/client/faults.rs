//! What the switches do, on both kinds of client.

use std::time::Duration;

use lock_core::Backend as _;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Kept;
use lock_core::Release;
use lock_memory::Call;
use lock_memory::When;

use crate::rig::*;

fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "the cable is out")
}

#[tokio::test]
async fn a_failure_before_the_effect_leaves_nothing() {
    for rig in [leases(), sessions()] {
        rig.a.controls().fail_next(Call::Attempt, When::Before, broken());
        let error = rig.a.attempt(&exclusive()).await.unwrap_err();
        assert!(!error.is_ambiguous());
        assert!(!locked(&rig.b, "k").await);
        grant(&rig.a, &exclusive()).await;
    }
}

#[tokio::test]
async fn a_lost_reply_is_ambiguous_and_a_repeat_returns_the_same_fence() {
    for rig in [leases(), sessions()] {
        let lost = exclusive();
        rig.a.controls().fail_next(Call::Attempt, When::After, broken());
        assert!(rig.a.attempt(&lost).await.unwrap_err().is_ambiguous());
        let held = rig.b.inspect(&key("k")).await.unwrap().holders;
        rig.hand.jump(Duration::from_secs(1));
        let (fence, _) = grant(&rig.a, &lost).await;
        assert_eq!(held[0].fence, Some(fence));
        assert_eq!(rig.a.controls().stacked(), 0);
    }
}

#[tokio::test]
async fn what_a_lost_reply_left_behind_keeps_others_out_until_it_is_released() {
    for rig in [leases(), sessions()] {
        let lost = exclusive();
        rig.a.controls().fail_next(Call::Attempt, When::After, broken());
        rig.a.attempt(&lost).await.unwrap_err();
        assert_eq!(attempt(&rig.a, &exclusive()).await, None);
        assert_eq!(attempt(&rig.b, &exclusive()).await, None);
        assert_eq!(rig.a.release(&lost).await.unwrap(), Release::Released);
        grant(&rig.a, &exclusive()).await;
        assert_eq!(rig.a.controls().stacked(), 0);
    }
}

#[tokio::test]
async fn a_lost_reply_of_a_release_leaves_the_key_free() {
    for rig in [leases(), sessions()] {
        let first = exclusive();
        grant(&rig.a, &first).await;
        rig.a.controls().fail_next(Call::Release, When::After, broken());
        rig.a.release(&first).await.unwrap_err();
        assert_eq!(rig.a.release(&first).await.unwrap(), Release::NotHeld);
        grant(&rig.a, &exclusive()).await;
    }
}

#[tokio::test]
async fn a_call_dropped_while_it_hangs_is_wholly_before_or_after() {
    for (when, held) in [(When::Before, false), (When::After, true)] {
        for rig in [leases(), sessions()] {
            let dropped = exclusive();
            let hung = rig.a.controls().hang_next(Call::Attempt, when);
            tokio::select! {
                biased;
                _ = rig.a.attempt(&dropped) => panic!("it did not hang"),
                () = hung.reached() => {}
            }
            assert_eq!(locked(&rig.b, "k").await, held);
            let released = rig.a.release(&dropped).await.unwrap();
            assert_eq!(released == Release::Released, held);
            grant(&rig.a, &exclusive()).await;
            assert_eq!(rig.a.controls().stacked(), 0);
        }
    }
}

#[tokio::test]
async fn a_call_that_hangs_goes_on_when_it_is_resumed() {
    for rig in [leases(), sessions()] {
        let hung = rig.a.controls().hang_next(Call::Attempt, When::Before);
        let client = rig.a.clone();
        let call = tokio::spawn(async move { attempt(&client, &exclusive()).await });
        hung.reached().await;
        hung.reached().await;
        assert!(!locked(&rig.b, "k").await);
        hung.resume();
        assert!(call.await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_late_reply_has_used_up_its_part_of_the_lease() {
    let rig = leases();
    let delay = Duration::from_secs(4);
    rig.a.controls().delay(Call::Attempt, When::After, delay);
    let sent = rig.hand.clock().now();
    let client = rig.a.clone();
    let call = tokio::spawn(async move { grant(&client, &exclusive()).await });
    rig.hand.advance(delay).await;
    let (_, lease) = call.await.unwrap();
    assert_eq!(lease.since, sent);
    rig.hand.jump(TTL - delay);
    assert!(!locked(&rig.b, "k").await);
}

#[tokio::test]
async fn an_outage_lasts_until_it_is_healed_and_other_clients_go_on() {
    let rig = leases();
    let held = exclusive();
    grant(&rig.a, &held).await;
    rig.a.controls().fail_all(broken());
    rig.a.keep(std::slice::from_ref(&held)).await.unwrap_err();
    rig.a.inspect(&key("k")).await.unwrap_err();
    assert!(locked(&rig.b, "k").await);
    rig.a.controls().heal();
    let kept = rig.a.keep(&[held]).await.unwrap();
    assert!(matches!(kept[..], [Kept::Renewed { .. }]));
}

#[tokio::test]
async fn a_thief_has_a_higher_fence_and_the_holder_finds_out_by_keeping() {
    for rig in [leases(), sessions()] {
        let held = exclusive();
        let (fence, _) = grant(&rig.a, &held).await;
        let (ear, _watch) = Ear::on(&rig.a, &held).await;
        let stolen = rig.a.controls().steal("k", "thief", TTL).unwrap();
        assert!(stolen > fence);
        assert_eq!(ear.heard(), 0);
        assert_eq!(rig.a.keep(std::slice::from_ref(&held)).await.unwrap(), [Kept::Gone]);
        assert_eq!(rig.a.release(&held).await.unwrap(), Release::NotHeld);
        assert!(locked(&rig.b, "k").await);
        rig.hand.jump(TTL);
        assert!(!locked(&rig.b, "k").await);
    }
}

#[tokio::test]
async fn a_key_that_expired_early_can_be_taken_and_not_kept() {
    for rig in [leases(), sessions()] {
        let held = exclusive();
        let (fence, _) = grant(&rig.a, &held).await;
        rig.a.controls().expire("k").unwrap();
        assert_eq!(rig.a.keep(std::slice::from_ref(&held)).await.unwrap(), [Kept::Gone]);
        assert!(grant(&rig.b, &exclusive()).await.0 > fence);
    }
}

#[tokio::test]
async fn a_store_that_forgot_everything_still_draws_higher_fences() {
    for rig in [leases(), sessions()] {
        let held = exclusive();
        let (fence, _) = grant(&rig.a, &held).await;
        rig.hand.jump(Duration::from_micros(1));
        rig.a.controls().forget_everything();
        assert_eq!(rig.a.keep(&[held]).await.unwrap(), [Kept::Gone]);
        assert!(grant(&rig.b, &exclusive()).await.0 > fence);
    }
}

#[tokio::test]
async fn calls_are_counted_whatever_comes_of_them() {
    let rig = leases();
    let controls = rig.a.controls();
    controls.fail_next(Call::Keep, When::Before, broken());
    grant(&rig.a, &exclusive()).await;
    rig.a.keep(&[]).await.unwrap_err();
    rig.a.peek(&[exclusive(), exclusive()]).await.unwrap();
    let counts = [Call::Attempt, Call::Keep, Call::Peek, Call::List].map(|it| controls.count(it));
    assert_eq!(counts, [1, 1, 1, 0]);
    assert_eq!((controls.total(), rig.b.controls().total()), (3, 0));
    controls.reset_counts();
    assert_eq!(controls.total(), 0);
}

#[tokio::test]
async fn a_closed_client_refuses_and_its_session_is_over() {
    let rig = sessions();
    grant(&rig.a, &exclusive()).await;
    rig.a.close().await.unwrap();
    rig.a.controls().heal();
    assert_eq!(rig.a.attempt(&exclusive()).await.unwrap_err().kind(), ErrorKind::Closed);
    grant(&rig.b, &exclusive()).await;
}
