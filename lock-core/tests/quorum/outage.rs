//! Without a majority every call fails in time, typed, and nothing is left held.

use lock_core::Backend as _;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::WatchFor;
use lock_memory::Call;
use lock_memory::When;

use crate::rig::BUDGET;
use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::claim;
use crate::rig::key;

fn hang(rig: &Rig, member: usize) {
    for call in Call::ALL {
        rig.controls(member).delay(call, When::Before, SECOND * 3600);
    }
}

/// Makes one call of each kind and returns what it failed with and after what time.
async fn calls(rig: &Rig) -> Vec<(&'static str, Error, std::time::Duration)> {
    let claims = [claim()];
    let hint = Hint::new(std::task::Waker::noop().clone());
    let (quorum, clock) = (&rig.quorum, rig.hand.clock());
    let mut failed = Vec::new();
    macro_rules! call {
        ($name:literal, $call:expr) => {
            let began = clock.now();
            let error = $call.await.err().expect($name);
            failed.push(($name, error, clock.now().saturating_since(began)));
        };
    }
    call!("attempt", quorum.attempt(&claims[0]));
    call!("keep", quorum.keep(&claims));
    call!("release", quorum.release(&claims[0]));
    call!("peek", quorum.peek(&claims));
    call!("inspect", quorum.inspect(&key()));
    call!("list", quorum.list("", None, 10));
    call!("evict", quorum.evict(&key(), Eviction::LockOnly));
    call!("watch", quorum.watch(&claims[0], WatchFor::Release, hint));
    failed
}

#[tokio::test]
async fn with_two_members_down_or_hanging_everything_is_unavailable_within_the_budget() {
    for hangs in [false, true] {
        let rig = Rig::new();
        for member in [0, 2] {
            if hangs { hang(&rig, member) } else { rig.fail(member) }
        }
        for (call, error, took) in rig.during(SECOND * 10, calls(&rig)).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{call}: {error}");
            assert!(error.is_retryable(), "{call}: {error:?}");
            assert!(
                error.to_string().starts_with("2 of 3 members failed: m1: "),
                "{call}: {error}"
            );
            assert!(if hangs { took <= BUDGET } else { took.is_zero() }, "{call} took {took:?}");
        }
        rig.hand.advance(SECOND).await;
        assert_eq!(rig.held_at().await, []);
    }
}

#[tokio::test]
async fn it_is_over_as_soon_as_one_of_them_is_back() {
    let rig = Rig::new();
    hang(&rig, 0);
    hang(&rig, 2);
    rig.during(SECOND, rig.quorum.attempt(&claim())).await.unwrap_err();
    rig.heal(2);
    rig.acquire(&claim()).await;
}

#[tokio::test]
async fn who_was_not_waited_for_is_not_said_to_have_failed() {
    let rig = Rig::new();
    rig.fail(0);
    rig.controls(1).delay(Call::Attempt, When::Before, BUDGET / 2);
    rig.fail(2);
    let error = rig.during(SECOND, rig.quorum.attempt(&claim())).await.unwrap_err();
    let told = "2 of 3 members failed: m1: connection refused; m3: connection refused";
    assert_eq!(error.to_string(), told);
    assert!(error.is_ambiguous(), "m2 may hold for a moment");
    rig.hand.advance(SECOND).await;
    assert_eq!(rig.held_at().await, []);
}
