//! What can be a quorum, and what it can do.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::FenceKind;
use lock_core::Kept;
use lock_core::KeyRule;
use lock_core::LockKey;
use lock_core::Member;
use lock_core::Mode;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::SharedBackend;
use lock_memory::Memory;
use lock_memory::Store;

use crate::common::Op;
use crate::common::Order;
use crate::common::Scripted;
use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::claim;
use crate::rig::granted;

fn memory() -> SharedBackend {
    Arc::new(Memory::new(&Store::new(Clock::manual().clock())))
}

fn refusal(members: Vec<Member>) -> String {
    let error = Quorum::new(members, QuorumOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

#[test]
fn an_even_number_and_fewer_than_three_are_refused_and_told_what_to_do() {
    for (size, why) in [
        (0, "a quorum of 0 goes down with one: use an odd number of members from 3, here 3"),
        (1, "a quorum of 1 goes down with one: use an odd number of members from 3, here 3"),
        (2, "a quorum of 2 goes down with one: use an odd number of members from 3, here 3"),
        (
            4,
            "a quorum of 4 stands no more failures than one less: use an odd number of members from 3, here 5",
        ),
    ] {
        assert_eq!(refusal((0..size).map(|_| Member::from(memory())).collect()), why);
    }
}

#[test]
fn a_member_that_is_named_twice_is_refused() {
    let one = memory();
    let twice =
        vec![Member::new("a", one.clone()), Member::new("b", memory()), Member::new("c", one)];
    assert_eq!(refusal(twice), "c is a member twice: remove one");
    let same_name = ["a", "b", "a"].map(|name| Member::new(name, memory()));
    assert_eq!(refusal(same_name.into()), "a is a member twice: remove one");
}

#[test]
fn members_with_sessions_or_native_fences_are_refused_by_name() {
    let hand = Clock::manual();
    let session = Memory::with_session(&Store::new(hand.clock()), SECOND);
    let members = vec![memory().into(), Member::new("pg:5432", Arc::new(session)), memory().into()];
    assert!(refusal(members).starts_with("the locks of pg:5432 hang on a session"));
    let mut native = Scripted::new(&hand);
    native.profile.fence = FenceKind::Native;
    let members = vec![memory().into(), memory().into(), Member::new("etcd:1", Arc::new(native))];
    assert!(refusal(members).starts_with("the fences of etcd:1 do not come from a clock"));
}

#[tokio::test]
async fn it_can_do_what_all_members_can() {
    let hand = Clock::manual();
    let mut members: Vec<SharedBackend> = vec![memory(), memory()];
    let mut strict = Scripted::new(&hand);
    strict.profile.ttl_min = SECOND;
    strict.profile.ttl_max = SECOND * 20;
    strict.profile.granularity = SECOND / 2;
    strict.profile.batch = 7;
    strict.profile.key_rule = KeyRule::new(|key| match key.as_str() {
        "bad" => Err(Error::new(ErrorKind::InvalidInput, "no bad keys")),
        _ => Ok(()),
    });
    members.push(Arc::new(strict));
    let quorum = Quorum::new(members, QuorumOptions::new().name("redlock")).unwrap();
    let profile = quorum.profile();
    assert_eq!((profile.name, profile.ttl_min), ("redlock", SECOND));
    assert_eq!((profile.ttl_max, profile.granularity), (SECOND * 20, SECOND / 2));
    assert_eq!((profile.batch, profile.watches_holders), (7, false));
    assert!(!profile.shared && !profile.permits && !profile.fair && !profile.native_queue);
    assert!(profile.key_rule.check(&LockKey::new("bad").unwrap()).is_err());
    assert!(profile.key_rule.check(&LockKey::new("good").unwrap()).is_ok());
}

#[tokio::test]
async fn other_modes_lines_and_longer_ttls_are_refused_unsent() {
    let rig = Rig::new();
    let (mut shared, mut queued, mut long) = (claim(), claim(), claim());
    shared.mode = Mode::Shared;
    queued.queue = true;
    long.ttl = Duration::from_secs(61);
    for (claim, kind) in [
        (shared, ErrorKind::Unsupported),
        (queued, ErrorKind::Unsupported),
        (long, ErrorKind::InvalidInput),
    ] {
        assert_eq!(rig.quorum.attempt(&claim).await.unwrap_err().kind(), kind);
    }
    assert_eq!(rig.controls(0).total(), 0);
}

#[tokio::test]
async fn the_shortest_lease_of_those_granted_is_the_lease() {
    let hand = Clock::manual();
    let scripted: Vec<_> = (0..3).map(|_| Arc::new(Scripted::new(&hand))).collect();
    let members: Vec<SharedBackend> = scripted.iter().map(|it| it.clone() as _).collect();
    let options = QuorumOptions::new().clock(hand.clock());
    let quorum = Quorum::new(members, options).unwrap();
    let claim = claim();
    let began = hand.clock().now();
    let (_, lease) = granted(quorum.attempt(&claim).await.unwrap());
    assert_eq!((lease.since, lease.ttl), (began, claim.ttl));
    for (member, seconds) in scripted.iter().zip([9, 4, 6]) {
        member.order(Op::Keep, Order::Grant(SECOND * seconds));
    }
    let kept = quorum.keep(&[claim]).await.unwrap();
    assert!(matches!(kept[..], [Kept::Renewed { lease }] if lease.ttl == SECOND * 4), "{kept:?}");
}

#[tokio::test]
async fn a_member_that_panics_fails_alone() {
    let hand = Clock::manual();
    let scripted: Vec<_> = (0..3).map(|_| Arc::new(Scripted::new(&hand))).collect();
    let members: Vec<SharedBackend> = scripted.iter().map(|it| it.clone() as _).collect();
    let quorum = Quorum::new(members, QuorumOptions::new().clock(hand.clock())).unwrap();
    scripted[0].order(Op::Attempt, Order::Panic);
    assert!(matches!(quorum.attempt(&claim()).await, Ok(Attempt::Acquired { .. })));
}
