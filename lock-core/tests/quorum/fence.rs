//! One fence for all members, higher than all before it, whichever majorities took part.

use lock_core::Backend as _;
use lock_core::Fence;
use lock_memory::Call;
use lock_memory::When;

use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::claim;
use crate::rig::refused;

/// Raises the last fence of one member above the others'.
fn raise(rig: &Rig, member: usize, times: usize) {
    for _ in 0..times {
        rig.controls(member).steal("job", "bob", SECOND).unwrap();
        rig.controls(member).expire("job").unwrap();
    }
}

async fn fences(rig: &Rig) -> Vec<Option<Fence>> {
    rig.at_members().await.iter().map(|holders| holders.first().and_then(|it| it.fence)).collect()
}

#[tokio::test]
async fn the_highest_is_written_back_to_all_who_granted() {
    let rig = Rig::new();
    raise(&rig, 1, 7);
    raise(&rig, 2, 3);
    let (fence, _) = rig.acquire(&claim()).await;
    rig.rest().await;
    assert_eq!(fences(&rig).await, [Some(fence); 3]);
}

#[tokio::test]
async fn a_second_round_is_spared_where_it_would_change_nothing() {
    let rig = Rig::new();
    let attempts = || (0..3).map(|at| rig.controls(at).count(Call::Attempt)).collect::<Vec<_>>();
    let first = claim();
    rig.acquire(&first).await;
    assert_eq!(attempts(), [1, 1, 1], "the clock stands still, so all drew the same");
    rig.quorum.release(&first).await.unwrap();
    raise(&rig, 1, 7);
    raise(&rig, 2, 3);
    rig.acquire(&claim()).await;
    assert_eq!(attempts(), [3, 2, 3], "only those who drew a lower one are asked again");
}

/// The clock stands still, so that nothing but the written fence lifts the next above the last.
#[tokio::test]
async fn rises_over_any_two_majorities() {
    for down in [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]] {
        let rig = Rig::new();
        raise(&rig, 0, 3);
        raise(&rig, 1, 5);
        raise(&rig, 2, 7);
        let mut last = None;
        for at in down.into_iter().cycle().take(6) {
            rig.fail(at);
            let claim = claim();
            let (fence, _) = rig.acquire(&claim).await;
            assert!(last < Some(fence), "{fence} after {last:?} with {down:?} down in turn");
            last = Some(fence);
            rig.quorum.release(&claim).await.unwrap();
            rig.heal(at);
        }
    }
}

#[tokio::test]
async fn rises_after_one_member_lost_its_data() {
    for (loser, down) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let rig = Rig::new();
        raise(&rig, down, 9);
        let first = claim();
        let (last, _) = rig.acquire(&first).await;
        rig.rest().await;
        rig.quorum.release(&first).await.unwrap();
        rig.controls(loser).forget_everything();
        rig.fail(down);
        let (fence, _) = rig.acquire(&claim()).await;
        assert!(fence > last, "{fence} after {last}: {loser} forgot, {down} is down");
    }
}

#[tokio::test]
async fn that_cannot_be_written_back_is_no_acquisition() {
    let rig = Rig::new();
    raise(&rig, 0, 5);
    raise(&rig, 1, 3);
    for at in [1, 2] {
        // The first attempt passes, the second fails.
        rig.controls(at).hang_next(Call::Attempt, When::Before).resume();
        rig.controls(at).fail_next(Call::Attempt, When::Before, refused());
    }
    let error = rig.quorum.attempt(&claim()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 of 3 members failed: m2: connection refused; m3: connection refused"
    );
    assert!(!error.is_ambiguous(), "{error:?}");
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn of_a_repeat_is_what_a_majority_has_though_a_late_member_drew_a_higher_one() {
    let rig = Rig::new();
    raise(&rig, 2, 9);
    let hung = rig.controls(2).hang_next(Call::Attempt, When::After);
    let claim = claim();
    let (fence, _) = rig.acquire(&claim).await;
    hung.resume();
    rig.rest().await;
    assert!(fences(&rig).await[2] > Some(fence));
    assert_eq!(rig.acquire(&claim).await.0, fence);
}

#[tokio::test]
async fn honours_the_floor_of_a_quorum_above_it() {
    let rig = Rig::new();
    let mut claim = claim();
    let (own, _) = rig.acquire(&claim).await;
    let floor = Fence::new(own.get() + 1000).unwrap();
    claim.fence_floor = Some(floor);
    assert_eq!(rig.acquire(&claim).await.0, floor);
    claim.fence_floor = Some(own);
    assert_eq!(rig.acquire(&claim).await.0, floor);
}
