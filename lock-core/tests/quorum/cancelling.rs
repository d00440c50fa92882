//! Nothing is left behind by a call that was dropped, and no release overtakes what it undoes.

use futures_util::FutureExt as _;
use lock_core::Backend as _;
use lock_core::Release;
use lock_memory::Call;
use lock_memory::When;

use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::TTL;
use crate::rig::claim;
use crate::rig::ms;
use crate::rig::refused;

#[tokio::test]
async fn a_dropped_attempt_is_undone_at_every_member() {
    for when in [When::Before, When::After] {
        let rig = Rig::new();
        let hung: Vec<_> = [1, 2].map(|at| rig.controls(at).hang_next(Call::Attempt, when)).into();
        let claim = claim();
        let attempt = rig.quorum.attempt(&claim);
        assert!(attempt.now_or_never().is_none(), "dropped with one grant and two on their way");
        rig.rest().await;
        hung.into_iter().for_each(lock_memory::Hung::resume);
        rig.rest().await;
        assert_eq!(rig.held_at().await, [], "{when:?}");
    }
}

#[tokio::test]
async fn a_release_waits_for_the_attempt_that_was_given_up() {
    let rig = Rig::new();
    let hung = rig.controls(2).hang_next(Call::Attempt, When::Before);
    let claim = claim();
    rig.acquire(&claim).await;
    assert_eq!(rig.quorum.release(&claim).await.unwrap(), Release::Released);
    rig.hand.advance(SECOND).await;
    assert_eq!(rig.controls(2).count(Call::Release), 0, "sent before the attempt has arrived");
    hung.resume();
    rig.rest().await;
    assert_eq!(rig.controls(2).count(Call::Release), 1);
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn the_next_attempt_of_a_token_waits_for_the_release_of_the_last() {
    let rig = Rig::new();
    let claim = claim();
    let first = rig.controls(0).hang_next(Call::Attempt, When::Before);
    rig.fail(1);
    rig.fail(2);
    rig.during(SECOND, rig.quorum.attempt(&claim)).await.unwrap_err();
    rig.heal(1);
    rig.heal(2);
    rig.acquire(&claim).await;
    first.resume();
    rig.rest().await;
    // Attempt, release, attempt: in that order, or the last would be gone.
    assert_eq!(
        (rig.controls(0).count(Call::Attempt), rig.controls(0).count(Call::Release)),
        (2, 1)
    );
    assert_eq!(rig.held_at().await, [0, 1, 2]);
}

#[tokio::test]
async fn an_attempt_does_not_wait_for_a_release_that_is_being_repeated() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.fail(0);
    rig.quorum.release(&claim).await.unwrap();
    rig.fail(1);
    rig.rest().await;
    // Two are down: if the first waited for its release, the budget would go by.
    let began = rig.hand.clock().now();
    let attempt = async {
        let error = rig.quorum.attempt(&claim).await.unwrap_err();
        (error, rig.hand.clock().now())
    };
    let (error, ended) = rig.during(SECOND, attempt).await;
    assert_eq!(ended, began, "{error}");
    assert!(
        error.to_string().starts_with("2 of 3 members failed: m1: connection refused"),
        "{error}"
    );
    // The duty has passed on: what the first still has of the token is released when it is back.
    assert_eq!(rig.held_at().await, [0]);
    rig.heal(0);
    rig.hand.advance(SECOND * 2).await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn a_dropped_release_goes_on() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    let hung: Vec<_> =
        (0..3).map(|at| rig.controls(at).hang_next(Call::Release, When::Before)).collect();
    assert!(rig.quorum.release(&claim).now_or_never().is_none());
    hung.into_iter().for_each(lock_memory::Hung::resume);
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn a_release_is_repeated_where_it_failed_until_it_is_certain() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.fail(1);
    assert_eq!(rig.quorum.release(&claim).await.unwrap(), Release::Released);
    rig.hand.advance(SECOND).await;
    assert_eq!(rig.held_at().await, [1]);
    rig.heal(1);
    rig.hand.advance(SECOND * 2).await;
    assert_eq!(rig.held_at().await, []);
    rig.controls(1).reset_counts();
    rig.hand.advance(SECOND * 5).await;
    assert_eq!(rig.controls(1).total(), 0, "repeated after it was certain");
}

#[tokio::test]
async fn a_release_that_hangs_is_sent_anew() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    let _for_ever = rig.controls(1).hang_next(Call::Release, When::Before);
    rig.quorum.release(&claim).await.unwrap();
    rig.hand.advance(SECOND - ms(1)).await;
    assert_eq!(rig.held_at().await, [1]);
    rig.hand.advance(ms(1)).await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn releases_are_not_repeated_for_longer_than_a_lease() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.controls(1).fail_all(refused());
    rig.quorum.release(&claim).await.unwrap();
    rig.hand.advance(TTL + SECOND).await;
    rig.controls(1).reset_counts();
    rig.hand.advance(TTL).await;
    assert_eq!(rig.controls(1).total(), 0);
}
