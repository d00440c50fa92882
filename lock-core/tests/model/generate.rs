//! Programs at random, as often in calm weather as in a storm.

use lock_core::Mode;
use lock_memory::Call;
use lock_memory::When;
use proptest::prelude::*;
use proptest::sample::select;

use super::program::Asked;
use super::program::Polls;
use super::program::Program;
use super::program::Step;
use super::program::Waits;
use super::program::permits;

/// The longest program.
const STEPS: usize = 28;

pub(crate) fn programs() -> impl Strategy<Value = Program> {
    let calm =
        prop::collection::vec(prop_oneof![12 => lock(), 20 => user(), 2 => mishap()], 1..STEPS);
    let storm = prop::collection::vec(
        prop_oneof![8 => lock(), 12 => user(), 2 => mishap(), 8 => fault()],
        1..STEPS,
    );
    (any::<bool>(), prop_oneof![calm, storm])
        .prop_map(|(session, steps)| Program { session, steps })
}

fn asked() -> impl Strategy<Value = Asked> {
    let mode = prop_oneof![
        5 => Just(Mode::Exclusive),
        2 => Just(Mode::Shared),
        2 => Just(permits(2)),
    ];
    let wait = prop_oneof![
        3 => Just(Waits::Never),
        3 => select(vec![0, 200, 1_000, 7_000]).prop_map(Waits::For),
        4 => Just(Waits::Forever),
        2 => (1_u32..4, select(vec![100, 450])).prop_map(|(max, pause)| Waits::Attempts(max, pause)),
    ];
    let ttl = select(vec![300, 1_000, 3_000, 10_000, 60_000]);
    let owner = select(vec![None, None, Some("ann"), Some("bob")]);
    let holds = (select(vec![0, 0, 0, 500, 2_000]), select(vec![None, None, None, Some(800)]));
    let rest = (prop::bool::weighted(0.8), select(vec![None, None, Some(100), Some(300)]), polls());
    (mode, wait, ttl, any::<bool>(), owner, holds, rest).prop_map(
        |(mode, wait, ttl, fair, owner, (min_hold, max_hold), (renews, grace, polls))| Asked {
            mode,
            wait,
            ttl,
            fair,
            owner,
            min_hold,
            max_hold,
            renews,
            grace,
            polls,
        },
    )
}

fn polls() -> impl Strategy<Value = Polls> {
    prop_oneof![9 => Just(Polls::All), 1 => (0_u8..6).prop_map(Polls::Only)]
}

fn index() -> impl Strategy<Value = u8> {
    0_u8..4
}

fn lock() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (index(), index(), asked()).prop_map(|(at, key, asked)| Step::Lock(at, key, asked)),
        1 => (index(), index(), asked()).prop_map(|(at, key, asked)| Step::TryLock(at, key, asked)),
    ]
}

/// What users do with what they have.
fn user() -> impl Strategy<Value = Step> {
    let time = || select(vec![1, 50, 99, 100, 250, 700, 1_500, 4_000, 11_000]);
    let ttl = || select(vec![300, 1_000, 5_000, 60_000]);
    prop_oneof![
        4 => (index(), polls()).prop_map(|(guard, polls)| Step::Unlock(guard, polls)),
        3 => index().prop_map(Step::DropGuard),
        2 => (index(), ttl(), polls()).prop_map(|(guard, ttl, polls)| Step::Extend(guard, ttl, polls)),
        1 => index().prop_map(Step::Detach),
        1 => (index(), index(), ttl()).prop_map(|(at, handle, ttl)| Step::Renew(at, handle, ttl)),
        1 => (index(), index()).prop_map(|(at, handle)| Step::Release(at, handle)),
        2 => index().prop_map(Step::Cancel),
        1 => (index(), index()).prop_map(|(at, key)| Step::Look(at, key)),
        1 => index().prop_map(Step::Cleanup),
        8 => time().prop_map(Step::Advance),
    ]
}

/// What operators and machines do to them.
fn mishap() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (index(), index(), any::<bool>()).prop_map(|(at, key, how)| Step::Force(at, key, how)),
        2 => (index(), select(vec![0, 100, 3_000])).prop_map(|(at, limit)| Step::Shutdown(at, limit)),
        2 => select(vec![80, 700, 2_500, 12_000]).prop_map(Step::Jump),
        1 => index().prop_map(Step::Mute),
        1 => index().prop_map(Step::Expire),
        1 => (index(), select(vec![200, 2_000])).prop_map(|(key, ttl)| Step::Steal(key, ttl)),
        1 => index().prop_map(Step::EndSession),
        1 => Just(Step::Forget),
    ]
}

/// What happens on the way to the store.
fn fault() -> impl Strategy<Value = Step> {
    let call = || {
        let main = vec![Call::Attempt, Call::Keep, Call::Release];
        prop_oneof![3 => select(main), 2 => select(Call::ALL.to_vec())]
    };
    let when = || select(vec![When::Before, When::After]);
    // A refused release is repeated by nobody, and a session would keep the lock: that is for the store.
    let refused =
        vec![Call::Attempt, Call::Keep, Call::Peek, Call::Watch, Call::Inspect, Call::List];
    prop_oneof![
        5 => (index(), call(), when()).prop_map(|(at, call, when)| Step::Fail(at, call, when)),
        1 => (index(), select(refused)).prop_map(|(at, call)| Step::Refuse(at, call)),
        1 => index().prop_map(Step::FailAll),
        4 => (index(), call(), when()).prop_map(|(at, call, when)| Step::Hang(at, call, when)),
        2 => (index(), call(), when(), select(vec![30, 400, 2_500]))
            .prop_map(|(at, call, when, time)| Step::Delay(at, call, when, time)),
        2 => index().prop_map(Step::Resume),
        4 => index().prop_map(Step::Heal),
    ]
}
