//! A majority is needed and is enough; what fails is undone everywhere.

use std::error::Error as _;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::MemberErrors;
use lock_core::drift;
use lock_memory::Call;
use lock_memory::When;

use crate::rig::BUDGET;
use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::TTL;
use crate::rig::claim;
use crate::rig::granted;
use crate::rig::ms;

#[tokio::test]
async fn takes_every_set_of_members_that_is_a_majority_and_no_other() {
    for size in [3, 5] {
        for mask in 0..1_u32 << size {
            let rig = Rig::of(size);
            let down = (0..size).filter(|at| mask & 1 << at != 0);
            down.for_each(|at| rig.fail(at));
            let attempt = rig.quorum.attempt(&claim()).await;
            let majority = mask.count_ones() as usize <= size / 2;
            assert_eq!(attempt.is_ok(), majority, "{mask:b} of {size}: {attempt:?}");
            rig.rest().await;
            assert_eq!(!rig.held_at().await.is_empty(), majority, "{mask:b} of {size}");
        }
    }
}

#[tokio::test]
async fn names_each_member_that_failed_and_how() {
    let rig = Rig::new();
    rig.fail(0);
    rig.controls(2).delay(Call::Attempt, When::Before, SECOND);
    let error = rig.during(SECOND, rig.quorum.attempt(&claim())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 of 3 members failed: m1: connection refused; m3: no answer within 100ms"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable() && error.is_ambiguous(), "{error:?}");
    let members = error.source().and_then(|it| it.downcast_ref::<MemberErrors>()).unwrap();
    let kinds: Vec<_> = members.iter().map(|(name, it)| (name, it.is_ambiguous())).collect();
    assert_eq!(kinds, [("m1", false), ("m3", true)]);
}

#[tokio::test]
async fn fails_for_good_only_if_enough_members_do() {
    let corrupt = || Error::new(ErrorKind::Corrupt, "not ours");
    for (bad, kind, retryable) in
        [(1, ErrorKind::Unavailable, true), (2, ErrorKind::Corrupt, false)]
    {
        let rig = Rig::new();
        rig.fail(2);
        (0..bad).for_each(|at| rig.controls(at).fail_all(corrupt()));
        let error = rig.quorum.attempt(&claim()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
    }
}

#[tokio::test]
async fn is_not_held_up_by_a_member_that_hangs() {
    let rig = Rig::new();
    for (call, when) in [(Call::Attempt, When::Before), (Call::Attempt, When::After)] {
        let hung = rig.controls(1).hang_next(call, when);
        let claim = claim();
        rig.acquire(&claim).await;
        rig.quorum.release(&claim).await.unwrap();
        hung.resume();
        rig.rest().await;
        assert_eq!(rig.held_at().await, [], "{when:?}");
    }
}

#[tokio::test]
async fn gives_up_at_the_budget_when_a_majority_hangs_and_leaves_nothing() {
    let rig = Rig::new();
    let hung = [0, 1].map(|at| rig.controls(at).hang_next(Call::Attempt, When::After));
    let began = rig.hand.clock().now();
    let attempt = async {
        let error = rig.quorum.attempt(&claim()).await.unwrap_err();
        (error, rig.hand.clock().now())
    };
    let (error, ended) = rig.during(SECOND, attempt).await;
    assert_eq!(ended.saturating_since(began), BUDGET);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Granted, and nobody knows: released when the reply comes.
    assert_eq!(rig.held_at().await, [0, 1]);
    hung.into_iter().for_each(lock_memory::Hung::resume);
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn a_late_grant_of_a_failed_attempt_is_released() {
    for when in [When::Before, When::After] {
        let rig = Rig::new();
        let hung = rig.controls(0).hang_next(Call::Attempt, when);
        rig.fail(1);
        rig.fail(2);
        let error = rig.during(SECOND, rig.quorum.attempt(&claim())).await.unwrap_err();
        assert!(error.is_ambiguous(), "{error:?}");
        hung.resume();
        rig.rest().await;
        assert_eq!(rig.controls(0).count(Call::Release), 1, "{when:?}");
        assert_eq!(rig.held_at().await, [], "{when:?}");
    }
}

#[tokio::test]
async fn a_late_grant_of_a_successful_attempt_stays_as_a_member() {
    for when in [When::Before, When::After] {
        let rig = Rig::new();
        // A higher fence than the others draw, and a lower one.
        for ahead in [0, 2] {
            rig.controls(ahead).steal("job", "bob", SECOND).unwrap();
            rig.controls(ahead).expire("job").unwrap();
        }
        let hung = rig.controls(1).hang_next(Call::Attempt, when);
        let claim = claim();
        let (fence, _) = rig.acquire(&claim).await;
        hung.resume();
        rig.rest().await;
        let fences: Vec<_> = rig.at_members().await.iter().map(|it| it[0].fence).collect();
        assert_eq!(fences, [Some(fence); 3], "{when:?}");
        rig.quorum.release(&claim).await.unwrap();
        rig.rest().await;
        assert_eq!(rig.held_at().await, []);
    }
}

#[tokio::test]
async fn a_lost_reply_of_a_failed_attempt_is_released() {
    let rig = Rig::new();
    rig.controls(0).fail_next(Call::Attempt, When::After, crate::rig::refused());
    rig.fail(1);
    rig.fail(2);
    let error = rig.quorum.attempt(&claim()).await.unwrap_err();
    assert!(error.is_ambiguous(), "{error:?}");
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn contention_on_a_majority_is_no_error_and_names_the_holder() {
    let rig = Rig::new();
    let (fence, _) = rig.acquire(&claim()).await;
    let other = rig.other();
    let Attempt::Held { holders, retry_in, ahead } = other.attempt(&claim()).await.unwrap() else {
        panic!("granted twice")
    };
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!((holders[0].owner.as_deref(), holders[0].fence), (Some("ann"), Some(fence)));
    assert_eq!((retry_in, ahead), (Some(TTL), None));
}

#[tokio::test]
async fn contention_is_told_from_failure_by_a_majority() {
    let rig = Rig::new();
    rig.acquire(&claim()).await;
    rig.fail(0);
    assert!(matches!(rig.quorum.attempt(&claim()).await, Ok(Attempt::Held { .. })));
    rig.fail(1);
    let error = rig.quorum.attempt(&claim()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.holders().len(), 1, "{error}");
}

#[tokio::test]
async fn too_few_failures_to_prevent_it_leave_it_to_who_is_in_the_way() {
    let rig = Rig::new();
    rig.fail(0);
    rig.occupy(1, "bob", TTL).await;
    let attempt = rig.during(SECOND * 2, rig.quorum.attempt(&claim())).await.unwrap();
    let Attempt::Held { holders, .. } = attempt else { panic!("{attempt:?}") };
    assert_eq!(holders[0].owner.as_deref(), Some("bob"));
    assert_eq!(rig.held_at().await, [1], "what was granted is released before the answer");
}

#[tokio::test]
async fn a_member_that_did_not_answer_is_not_waited_for_again() {
    let rig = Rig::new();
    rig.occupy(0, "bob", TTL).await;
    rig.controls(2).delay(Call::Attempt, When::Before, SECOND * 3600);
    let timed = async |claim| {
        let began = rig.hand.clock().now();
        assert!(matches!(rig.quorum.attempt(&claim).await, Ok(Attempt::Held { .. })));
        rig.hand.clock().now().saturating_since(began)
    };
    let first = rig.during(SECOND * 3, timed(claim())).await;
    let second = rig.during(SECOND * 3, timed(claim())).await;
    assert!(first >= BUDGET && second < BUDGET, "{first:?}, {second:?}");
}

#[tokio::test]
async fn a_minority_that_somebody_left_behind_is_in_nobodys_way() {
    let rig = Rig::new();
    let dead = rig.occupy(1, "dead", TTL).await;
    let claim = claim();
    rig.acquire(&claim).await;
    assert_eq!(rig.held_at().await, [0, 1, 2]);
    rig.quorum.release(&claim).await.unwrap();
    assert_eq!(rig.at_members().await[1][0].owner.as_deref(), Some(dead.owner.as_str()));
}

#[tokio::test]
async fn validity_counts_from_before_the_first_request() {
    let rig = Rig::new();
    (0..3).for_each(|at| rig.controls(at).delay(Call::Attempt, When::After, ms(60)));
    let began = rig.hand.clock().now();
    let attempt = rig.during(SECOND, rig.quorum.attempt(&claim())).await.unwrap();
    assert_eq!(granted(attempt).1.since, began);
}

#[tokio::test]
async fn what_is_too_short_to_be_worth_it_is_released() {
    let budget = SECOND * 9;
    let limit = TTL - drift(TTL) - TTL / 5;
    for (took, good) in [(limit, true), (limit + ms(1), false)] {
        let rig = Rig::with(3, |options| options.budget(budget));
        (0..3).for_each(|at| rig.controls(at).delay(Call::Attempt, When::After, took));
        let attempt = rig.during(SECOND * 9, rig.quorum.attempt(&claim())).await;
        assert_eq!(attempt.is_ok(), good, "{attempt:?}");
        rig.rest().await;
        assert_eq!(rig.held_at().await.is_empty(), !good);
        if let Err(error) = attempt {
            assert!(error.to_string().starts_with("the members took so long that only"), "{error}");
            assert!(error.is_retryable() && !error.is_ambiguous(), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_ttl_that_cannot_leave_what_has_to_be_left_is_refused_before_any_member_is_asked() {
    let best = TTL - drift(TTL);
    for (least, good) in [(best, true), (best + ms(1), false)] {
        let rig = Rig::with(3, |options| options.min_validity(least));
        let attempt = rig.quorum.attempt(&claim()).await;
        assert_eq!(attempt.is_ok(), good, "{attempt:?}");
        if let Err(error) = attempt {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.message().contains("min_validity wants"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_repeat_has_the_same_fence_and_a_new_lease() {
    let rig = Rig::new();
    let claim = claim();
    let (fence, lease) = rig.acquire(&claim).await;
    rig.hand.advance(SECOND).await;
    let (again, later) = rig.acquire(&claim).await;
    assert_eq!((again, later.since), (fence, lease.since + SECOND));
}

#[tokio::test]
async fn a_member_that_never_answers_is_sent_no_more_than_it_can_be_owed() {
    let rig = Rig::new();
    rig.controls(2).delay(Call::Attempt, When::Before, SECOND * 3600);
    for _ in 0..1100 {
        let claim = claim();
        rig.acquire(&claim).await;
        rig.quorum.release(&claim).await.unwrap();
    }
    assert!(rig.controls(2).count(Call::Attempt) <= 1024);
    // Given up after their TTL, so that it is asked again.
    rig.hand.advance(TTL + SECOND).await;
    rig.heal(2);
    rig.hand.advance(TTL + SECOND).await;
    rig.acquire(&claim()).await;
    assert_eq!(rig.held_at().await, [0, 1, 2]);
}
