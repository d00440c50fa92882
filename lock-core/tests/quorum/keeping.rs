//! Renewing and releasing by majority.

use std::sync::Arc;

use lock_core::Backend as _;
use lock_core::Background;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Kept;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::Loss;
use lock_core::Release;
use lock_memory::Call;
use lock_memory::When;
use tokio::runtime::Handle;

use crate::rig::BUDGET;
use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::TTL;
use crate::rig::claim;
use crate::rig::ms;
use crate::rig::refused;

#[tokio::test]
async fn a_majority_renews_and_the_lease_counts_from_before_the_round() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.fail(0);
    rig.hand.advance(SECOND).await;
    let began = rig.hand.clock().now();
    (1..3).for_each(|at| rig.controls(at).delay(Call::Keep, When::After, ms(60)));
    let kept = rig.during(SECOND, rig.quorum.keep(&[claim])).await.unwrap();
    let [Kept::Renewed { lease }] = kept[..] else { panic!("{kept:?}") };
    assert_eq!((lease.since, lease.ttl), (began, TTL));
}

#[tokio::test]
async fn a_member_that_forgot_does_not_count_and_is_not_given_the_lock_anew() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.controls(0).forget_everything();
    let kept = rig.quorum.keep(std::slice::from_ref(&claim)).await.unwrap();
    assert!(matches!(kept[..], [Kept::Renewed { .. }]), "{kept:?}");
    assert_eq!(rig.held_at().await, [1, 2]);
    rig.controls(1).forget_everything();
    assert_eq!(rig.quorum.keep(&[claim]).await.unwrap(), [Kept::Gone]);
    assert_eq!(rig.held_at().await, [2]);
}

#[tokio::test]
async fn nothing_that_has_expired_is_revived() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.hand.advance(TTL).await;
    assert_eq!(rig.quorum.keep(&[claim]).await.unwrap(), [Kept::Gone]);
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn too_few_answers_are_an_error_within_the_budget() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    let _hung = [0, 1].map(|at| rig.controls(at).hang_next(Call::Keep, When::Before));
    let began = rig.hand.clock().now();
    let keep = async {
        let error = rig.quorum.keep(&[claim]).await.unwrap_err();
        (error, rig.hand.clock().now().saturating_since(began))
    };
    let (error, took) = rig.during(SECOND, keep).await;
    assert_eq!((error.kind(), took), (ErrorKind::Unavailable, BUDGET));
    assert!(error.is_retryable() && error.is_ambiguous(), "{error:?}");
}

#[tokio::test]
async fn one_lock_in_doubt_is_no_harm_to_the_others_of_its_batch() {
    let rig = Rig::new();
    let (doubtful, mut sure) = (claim(), claim());
    sure.key = LockKey::new("sure").unwrap();
    rig.acquire(&doubtful).await;
    rig.acquire(&sure).await;
    rig.controls(0).expire("job").unwrap();
    rig.fail(2);
    let kept = rig.quorum.keep(&[doubtful.clone(), sure]).await.unwrap();
    assert!(matches!(kept[..], [Kept::Unknown, Kept::Renewed { .. }]), "{kept:?}");
    assert!(rig.quorum.keep(&[doubtful]).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_guard_outlives_the_doubt_of_its_neighbour_and_both_the_end_of_the_doubt() {
    let rig = Rig::new();
    let (stores, hand) = (rig.stores.clone(), rig.hand.clone());
    let options =
        EngineOptions::new().clock(hand.clock()).background(Background::Runtime(Handle::current()));
    let engine = Engine::new(Arc::new(rig.quorum), options).unwrap();
    let wanted = LockOptions::new().ttl(TTL);
    let doubtful = engine.lock("job", &wanted).await.unwrap();
    let sure = engine.lock("sure", &wanted).await.unwrap();
    rig.members[0].controls().expire("job").unwrap();
    rig.members[2].controls().fail_all(refused());
    hand.advance(TTL * 3).await;
    assert!(sure.is_valid(), "{sure:?}");
    assert!(!doubtful.is_valid());
    assert_eq!(doubtful.lost().await, Loss::Expired);
    rig.members[2].controls().heal();
    let again = engine.lock("job", &wanted).await.unwrap();
    rig.members[0].controls().expire("job").unwrap();
    rig.members[2].controls().fail_all(refused());
    hand.advance(TTL / 2).await;
    rig.members[2].controls().heal();
    hand.advance(TTL * 2).await;
    assert!(again.is_valid(), "the doubt was over in time: {again:?}");
    drop(stores);
}

#[tokio::test]
async fn a_release_tells_what_the_majority_had() {
    for (lost, outcome) in [
        (vec![], Release::Released),
        (vec![2], Release::Released),
        (vec![0, 2], Release::NotHeld),
        (vec![0, 1, 2], Release::NotHeld),
    ] {
        let rig = Rig::new();
        let claim = claim();
        rig.acquire(&claim).await;
        lost.iter().for_each(|at| rig.controls(*at).expire("job").unwrap());
        assert_eq!(rig.quorum.release(&claim).await.unwrap(), outcome, "{lost:?} lost it");
        assert_eq!(rig.held_at().await, []);
    }
}

#[tokio::test]
async fn a_release_without_a_majority_is_in_doubt_and_goes_on() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.fail(0);
    rig.controls(1).expire("job").unwrap();
    let error = rig.quorum.release(&claim).await.unwrap_err();
    assert!(error.is_ambiguous() && error.is_retryable(), "{error:?}");
    rig.heal(0);
    rig.hand.advance(SECOND * 2).await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn a_release_is_not_held_up_by_a_member_that_hangs() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    let hung = rig.controls(0).hang_next(Call::Release, When::Before);
    assert_eq!(rig.quorum.release(&claim).await.unwrap(), Release::Released);
    hung.resume();
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn a_request_that_fails_after_a_long_silence_does_not_end_the_silence() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.rest().await;
    rig.controls(1).expire("job").unwrap();
    rig.controls(2).delay(Call::Keep, When::Before, SECOND / 2);
    for budget in [BUDGET, BUDGET / 10, BUDGET / 10] {
        rig.controls(2).fail_next(Call::Keep, When::After, refused());
        let began = rig.hand.clock().now();
        let keep = async {
            rig.quorum.keep(std::slice::from_ref(&claim)).await.unwrap_err();
            rig.hand.clock().now()
        };
        let ended = rig.during(SECOND, keep).await;
        assert_eq!(ended.saturating_since(began), budget);
    }
}
