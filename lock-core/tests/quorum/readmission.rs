//! A member that restarted empty does not count before all that it may have forgotten has ended.

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::ErrorKind;
use lock_core::Peek;
use lock_core::drift;

use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::TTL;
use crate::rig::claim;
use crate::rig::key;

/// The longest TTL of the rig's quorum, as by default.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(60);

/// Ann holds at m1 and m2 while m3 is down; then m2 restarts empty and m3 comes back.
async fn ann_at_two_of_which_one_forgets(rig: &Rig) -> Claim {
    rig.fail(2);
    let mut ann = claim();
    ann.ttl = LONGEST;
    rig.acquire(&ann).await;
    rig.heal(2);
    rig.controls(1).restart();
    ann
}

#[tokio::test]
async fn a_restarted_member_makes_no_second_majority() {
    let rig = Rig::new();
    ann_at_two_of_which_one_forgets(&rig).await;
    rig.hand.advance(SECOND * 3).await;
    let attempt = rig.during(SECOND, rig.other().attempt(&claim())).await.unwrap();
    let Attempt::Held { holders, .. } = attempt else { panic!("{attempt:?}") };
    assert_eq!(holders[0].owner.as_deref(), Some("ann"));
    rig.rest().await;
    assert_eq!(rig.held_at().await, [0], "what it granted is taken back");
}

#[tokio::test]
async fn it_counts_again_when_the_longest_ttl_is_over() {
    let rig = Rig::new();
    ann_at_two_of_which_one_forgets(&rig).await;
    rig.controls(0).expire("job").unwrap();
    rig.fail(0);
    let out = LONGEST + drift(LONGEST);
    rig.hand.advance(out - SECOND).await;
    let claim = claim();
    rig.during(SECOND / 2, rig.quorum.attempt(&claim)).await.unwrap_err();
    rig.hand.advance(SECOND / 2).await;
    assert!(matches!(rig.quorum.attempt(&claim).await, Ok(Attempt::Acquired { .. })));
}

#[tokio::test]
async fn the_others_go_on_without_it() {
    let rig = Rig::new();
    rig.controls(1).restart();
    let claim = claim();
    rig.acquire(&claim).await;
    assert_eq!(rig.held_at().await, [0, 1, 2], "it is given the lock, for the time when it counts");
    rig.quorum.keep(std::slice::from_ref(&claim)).await.unwrap();
    rig.quorum.release(&claim).await.unwrap();
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn what_it_shows_does_not_count_either() {
    let rig = Rig::new();
    ann_at_two_of_which_one_forgets(&rig).await;
    let state = rig.quorum.inspect(&key()).await.unwrap();
    assert_eq!(state.holders.len(), 1, "ann still holds, as far as anybody can know");
    let page = rig.quorum.list("", None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
    let peeks = rig.quorum.peek(&[claim()]).await.unwrap();
    assert!(matches!(peeks[..], [Peek::Held { .. }]), "{peeks:?}");
}

#[tokio::test]
async fn what_it_has_forgotten_is_not_told_as_lost() {
    let rig = Rig::new();
    let ann = ann_at_two_of_which_one_forgets(&rig).await;
    // Nobody else can have got it: one released it, one never had it, one does not know.
    let error = rig.quorum.release(&ann).await.unwrap_err();
    assert!(error.is_ambiguous() && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("m2: it started 0.0 s ago"), "{error}");
    rig.rest().await;
    assert_eq!(rig.held_at().await, []);
}

#[tokio::test]
async fn an_outage_of_all_ends_after_the_longest_ttl() {
    let rig = Rig::with(3, |options| options.ttl_max(TTL));
    (0..3).for_each(|at| rig.controls(at).restart());
    rig.hand.advance(SECOND * 3).await;
    let error = rig.quorum.attempt(&claim()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = "m1: it started 3.0 s ago and may have forgotten locks that still live: it counts again \
                in 7.1 s; m2";
    assert!(error.to_string().contains(told), "{error}");
    rig.rest().await;
    assert_eq!(rig.held_at().await, [], "what they granted is taken back");
    rig.hand.advance(TTL + drift(TTL) - SECOND * 3).await;
    rig.acquire(&claim()).await;
}
