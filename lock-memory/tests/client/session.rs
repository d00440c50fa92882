//! Clients whose locks hang on one session.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Kept;
use lock_core::Release;
use lock_memory::Call;
use lock_memory::When;
use proptest::prelude::*;

use crate::rig::*;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test]
async fn keeping_nothing_keeps_the_session_with_all_its_locks() {
    let rig = sessions();
    for name in ["one", "two"] {
        grant(&rig.a, &claim(name, "exclusive")).await;
    }
    rig.hand.jump(secs(9));
    rig.a.keep(&[]).await.unwrap();
    rig.hand.jump(secs(9));
    assert!(locked(&rig.b, "one").await && locked(&rig.b, "two").await);
    rig.hand.jump(secs(1));
    assert!(!locked(&rig.b, "one").await && !locked(&rig.b, "two").await);
}

#[tokio::test]
async fn a_lease_counts_from_the_last_keep_alive_that_was_acknowledged() {
    let rig = sessions();
    let start = rig.hand.clock().now();
    let (_, first) = grant(&rig.a, &claim("one", "exclusive")).await;
    rig.hand.jump(secs(3));
    let (_, shared) = grant(&rig.a, &claim("two", "exclusive")).await;
    assert_eq!((first.since, first.ttl, shared), (start, TTL, first));
    let broken = Error::new(ErrorKind::Unavailable, "lost");
    rig.a.controls().fail_next(Call::Keep, When::After, broken);
    rig.a.keep(&[]).await.unwrap_err();
    assert_eq!(grant(&rig.a, &claim("three", "exclusive")).await.1, first);
    rig.a.keep(&[]).await.unwrap();
    assert_eq!(grant(&rig.a, &claim("four", "exclusive")).await.1.since, start + secs(3));
}

#[tokio::test]
async fn an_attempt_on_an_old_session_brings_a_keep_alive_along() {
    let rig = sessions();
    grant(&rig.a, &claim("one", "exclusive")).await;
    rig.hand.jump(secs(9));
    let (_, lease) = grant(&rig.a, &claim("two", "exclusive")).await;
    assert_eq!(lease.since, rig.hand.clock().now());
    rig.hand.jump(secs(9));
    assert!(locked(&rig.b, "one").await);
}

#[tokio::test]
async fn a_dead_session_takes_all_with_it_and_the_next_adopts_nothing() {
    for end in [
        |rig: &Rig| rig.hand.jump(TTL),
        |rig: &Rig| {
            assert_eq!(rig.a.controls().end_session(), 2);
        },
    ] {
        let rig = sessions();
        let old = [claim("one", "exclusive"), claim("two", "shared")];
        let (fence, _) = grant(&rig.a, &old[0]).await;
        grant(&rig.a, &old[1]).await;
        end(&rig);
        let (_, lease) = grant(&rig.a, &claim("new", "exclusive")).await;
        assert_eq!(lease.since, rig.hand.clock().now());
        assert_eq!(rig.a.keep(&old).await.unwrap(), [Kept::Gone, Kept::Gone]);
        assert_eq!(rig.a.release(&old[0]).await.unwrap(), Release::NotHeld);
        assert!(grant(&rig.a, &old[0]).await.0 > fence);
    }
}

#[tokio::test]
async fn what_the_session_holds_itself_is_refused_without_asking() {
    let rig = sessions();
    grant(&rig.a, &exclusive()).await;
    rig.a.controls().reset_counts();
    for mode in ["exclusive", "shared", "permits:2"] {
        let Attempt::Held { holders, .. } = rig.a.attempt(&claim("k", mode)).await.unwrap() else {
            panic!("granted twice");
        };
        assert_eq!(holders[0].owner.as_deref(), Some("ann"));
    }
    assert_eq!(rig.a.controls().total(), 0);
}

#[tokio::test]
async fn modes_hold_within_one_session_as_between_two() {
    let rig = sessions();
    let mut last = None;
    for (client, mode, granted) in [
        (&rig.a, "shared", true),
        (&rig.a, "shared", true),
        (&rig.b, "shared", true),
        (&rig.a, "exclusive", false),
        (&rig.b, "permits:2", false),
    ] {
        let fence = attempt(client, &claim("readers", mode)).await.map(|(fence, _)| fence);
        assert_eq!(fence.is_some(), granted, "{mode}");
        assert!(fence.is_none() || fence > last);
        last = fence.or(last);
    }
    for granted in [true, true, false] {
        assert_eq!(attempt(&rig.a, &claim("p", "permits:2")).await.is_some(), granted);
    }
    assert_eq!(rig.a.controls().stacked(), 0);
}

#[tokio::test]
async fn waiters_of_one_session_stand_in_line_like_those_of_two() {
    let rig = sessions();
    let (held, own, other) = (exclusive(), queued(), queued());
    grant(&rig.a, &held).await;
    assert_eq!(attempt(&rig.a, &own).await, None);
    assert_eq!(attempt(&rig.b, &other).await, None);
    rig.a.release(&held).await.unwrap();
    assert_eq!(attempt(&rig.b, &other).await, None);
    assert_eq!(attempt(&rig.a, &exclusive()).await, None);
    grant(&rig.a, &own).await;
    rig.a.release(&own).await.unwrap();
    grant(&rig.b, &other).await;
    assert_eq!(rig.a.controls().stacked(), 0);
}

#[tokio::test]
async fn the_place_of_a_dead_session_is_dead() {
    let rig = sessions();
    grant(&rig.b, &exclusive()).await;
    assert_eq!(attempt(&rig.a, &queued()).await, None);
    rig.a.controls().end_session();
    assert_eq!(rig.b.inspect(&key("k")).await.unwrap().waiting, 0);
}

#[tokio::test]
async fn an_eviction_with_the_session_counts_the_other_locks() {
    let rig = sessions();
    let held = claim("one", "exclusive");
    grant(&rig.a, &held).await;
    grant(&rig.a, &claim("two", "exclusive")).await;
    let evicted = rig.b.evict(&key("one"), Eviction::EndSession).await.unwrap();
    assert_eq!((evicted.holders, evicted.others), (1, 1));
    assert!(!locked(&rig.b, "two").await);
    assert_eq!(rig.a.keep(&[held]).await.unwrap(), [Kept::Gone]);
}

#[tokio::test]
async fn after_an_eviction_the_session_can_take_the_key_again() {
    let rig = sessions();
    let held = exclusive();
    grant(&rig.a, &held).await;
    rig.b.evict(&key("k"), Eviction::LockOnly).await.unwrap();
    assert_eq!(rig.a.keep(&[held]).await.unwrap(), [Kept::Gone]);
    grant(&rig.a, &exclusive()).await;
}

#[tokio::test]
async fn a_call_waits_for_the_one_under_way_on_its_key_and_for_no_other() {
    let rig = sessions();
    let first = exclusive();
    let hung = rig.a.controls().hang_next(Call::Attempt, When::Before);
    let (client, claimed) = (rig.a.clone(), first.clone());
    let call = tokio::spawn(async move { attempt(&client, &claimed).await });
    hung.reached().await;
    let client = rig.a.clone();
    let second = tokio::spawn(async move { attempt(&client, &exclusive()).await });
    grant(&rig.a, &claim("other", "exclusive")).await;
    rig.hand.advance(Duration::ZERO).await;
    assert!(!second.is_finished());
    hung.resume();
    assert!(call.await.unwrap().is_some());
    assert_eq!(second.await.unwrap(), None);
    assert_eq!(rig.a.controls().stacked(), 0);
}

#[tokio::test]
async fn a_keep_that_was_overtaken_by_a_grant_does_not_unlearn_it() {
    let rig = sessions();
    let first = exclusive();
    grant(&rig.a, &claim("other", "exclusive")).await;
    let hung = rig.a.controls().hang_next(Call::Keep, When::After);
    let (client, claims) = (rig.a.clone(), [first.clone()]);
    let keep = tokio::spawn(async move { client.keep(&claims).await.unwrap() });
    hung.reached().await;
    grant(&rig.a, &first).await;
    hung.resume();
    assert_eq!(keep.await.unwrap(), [Kept::Gone]);
    assert_eq!(attempt(&rig.a, &exclusive()).await, None);
    assert_eq!(rig.a.controls().stacked(), 0);
}

/// What one of two clients does next, and how the network treats it.
#[derive(Clone, Debug)]
enum Step {
    Attempt { who: usize, queue: bool, fault: Option<When> },
    Drop { who: usize, when: When },
    Release { who: usize, fault: Option<When> },
    Keep { client: usize, fault: Option<When> },
    EndSession(usize),
    Wait(u64),
}

const MODES: [&str; 4] = ["exclusive", "exclusive", "shared", "shared"];

fn fault() -> impl Strategy<Value = Option<When>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(When::Before)), 1 => Just(Some(When::After))]
}

fn step() -> impl Strategy<Value = Step> {
    let (who, when) = (0..2 * MODES.len(), prop_oneof![Just(When::Before), Just(When::After)]);
    prop_oneof![
        6 => (who.clone(), any::<bool>(), fault())
            .prop_map(|(who, queue, fault)| Step::Attempt { who, queue, fault }),
        2 => (who.clone(), when).prop_map(|(who, when)| Step::Drop { who, when }),
        4 => (who, fault()).prop_map(|(who, fault)| Step::Release { who, fault }),
        2 => (0..2_usize, fault()).prop_map(|(client, fault)| Step::Keep { client, fault }),
        1 => (0..2_usize).prop_map(Step::EndSession),
        2 => (0..6_u64).prop_map(Step::Wait),
    ]
}

struct Play {
    rig: Rig,
    claims: Vec<Claim>,
}

impl Play {
    fn client(&self, who: usize) -> &lock_memory::Memory {
        [&self.rig.a, &self.rig.b][who / MODES.len()]
    }

    fn fail(&self, who: usize, call: Call, fault: Option<When>) {
        let error = Error::new(ErrorKind::Unavailable, "the cable is out");
        self.client(who).controls().heal();
        if let Some(when) = fault {
            self.client(who).controls().fail_next(call, when, error);
        }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Attempt { who, queue, fault } => {
                self.claims[who].queue = queue;
                self.fail(who, Call::Attempt, fault);
                let _ = self.client(who).attempt(&self.claims[who]).await;
            }
            Step::Drop { who, when } => {
                self.fail(who, Call::Attempt, None);
                let _hung = self.client(who).controls().hang_next(Call::Attempt, when);
                let call = self.client(who).attempt(&self.claims[who]);
                tokio::select! { biased; _ = call => {}, () = std::future::ready(()) => {} }
            }
            Step::Release { who, fault } => {
                self.fail(who, Call::Release, fault);
                let _ = self.client(who).release(&self.claims[who]).await;
            }
            Step::Keep { client, fault } => {
                let who = client * MODES.len();
                self.fail(who, Call::Keep, fault);
                let _ = self.client(who).keep(&self.claims[who..who + MODES.len()]).await;
            }
            Step::EndSession(client) => {
                self.client(client * MODES.len()).controls().end_session();
            }
            Step::Wait(seconds) => self.rig.hand.jump(secs(seconds)),
        }
    }

    /// Nothing of a client's confusion is left once it has released all it ever asked for.
    async fn end(&self) {
        for who in 0..self.claims.len() {
            self.fail(who, Call::Release, None);
            self.client(who).release(&self.claims[who]).await.unwrap();
        }
        assert_eq!(self.rig.a.controls().stacked(), 0);
        let state = self.rig.a.inspect(&key("k")).await.unwrap();
        assert!(!state.is_locked() && state.waiting == 0, "{state:?}");
        for client in [&self.rig.a, &self.rig.b] {
            let last = exclusive();
            grant(client, &last).await;
            client.release(&last).await.unwrap();
        }
    }
}

proptest! {
    #[test]
    fn no_fault_makes_a_client_stack_or_leak(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let claims = MODES.iter().chain(&MODES).map(|mode| claim("k", mode)).collect();
            let mut play = Play { rig: sessions(), claims };
            for step in steps {
                play.run(step).await;
            }
            play.end().await;
        });
    }
}
