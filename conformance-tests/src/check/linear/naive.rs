//! The search without anything that makes it short, to compare with on small random histories: it
//! gives each call an instant, and lets each hold that may end do so at any time or never.

use lock_core::Mode;
use proptest::prelude::*;

use super::*;
use crate::cx::permits;
use crate::history::Done;
use crate::history::Op;

#[derive(Clone, Default)]
struct State {
    at: u64,
    held: Vec<(u64, Mode)>,
    highest: u64,
}

/// Tells whether the calls of `left` can be put in order from `state` on.
fn fits(history: &[Record], left: &[&Record], state: &State) -> bool {
    if left.is_empty() {
        return true;
    }
    let go = |(n, _): (usize, &(u64, Mode))| {
        let mut next = state.clone();
        let (fence, _) = next.held.remove(n);
        next.at = next.at.max(ends_from(history, fence));
        next.at < u64::MAX && fits(history, left, &next)
    };
    let come = |(n, call): (usize, &&Record)| {
        let mut next = state.clone();
        next.at = next.at.max(call.invoke_ns);
        let left = [&left[..n], &left[n + 1..]].concat();
        next.at <= call.return_ns && happens(call, &mut next) && fits(history, &left, &next)
    };
    left.iter().enumerate().any(come) || state.held.iter().enumerate().any(go)
}

/// Carries a call out, if one lock could.
fn happens(call: &Record, state: &mut State) -> bool {
    let fence = call.fence.unwrap_or(0);
    let at = state.held.iter().position(|(held, _)| *held == fence);
    let beside = state.held.iter().filter(|(_, mode)| *mode == call.mode).count();
    let admitted = match call.mode {
        Mode::Exclusive => state.held.is_empty(),
        Mode::Shared => beside == state.held.len(),
        Mode::Permits { of } => beside == state.held.len() && beside < of.get() as usize,
    };
    match (call.op, call.result) {
        (Op::Acquire, _) => {
            state.held.push((fence, call.mode));
            let rises = fence > state.highest;
            state.highest = fence;
            admitted && rises
        }
        (Op::Try, _) => !admitted,
        (Op::Evict, _) => {
            state.held.clear();
            true
        }
        (Op::Release, Done::Ok) => at.map(|at| state.held.remove(at)).is_some(),
        (Op::Renew, Done::Ok) => at.is_some(),
        _ => at.is_none() && fence <= state.highest,
    }
}

/// From when on a hold may end unseen.
fn ends_from(history: &[Record], fence: u64) -> u64 {
    let own = || history.iter().filter(|record| record.fence == Some(fence));
    if own().any(|record| record.op == Op::Release && record.result == Done::Ok) {
        return u64::MAX;
    }
    let last = own().filter(|it| it.deadline_ns.is_some()).max_by_key(|it| it.return_ns);
    let doubtful = own().filter(|record| record.result == Done::Info).map(|it| it.invoke_ns);
    doubtful.chain(last.and_then(|it| it.deadline_ns)).min().unwrap_or(u64::MAX)
}

fn call(op: Op, result: Done) -> impl Strategy<Value = Record> {
    (0..4_u64, 1..12_u64, prop_oneof![Just(0), 1..3_u64, 1..12_u64]).prop_map(
        move |(process, invoke_ns, long)| Record {
            process,
            key: "a".into(),
            op,
            mode: Mode::Exclusive,
            invoke_ns,
            return_ns: invoke_ns + long,
            result,
            fence: None,
            deadline_ns: None,
            lost_ns: None,
        },
    )
}

/// A grant, and what became of it.
fn hold(fence: u64) -> impl Strategy<Value = Vec<Record>> {
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared), Just(permits(2))];
    let end = prop_oneof![Just(Done::Ok), Just(Done::Fail), Just(Done::Info)];
    let end = end.prop_flat_map(|done| call(Op::Release, done));
    let renewed = prop_oneof![Just(Done::Ok), Just(Done::Fail)];
    let renewed = renewed.prop_flat_map(|done| call(Op::Renew, done));
    let (end, renewed) = (prop::option::weighted(0.7, end), prop::option::weighted(0.3, renewed));
    (call(Op::Acquire, Done::Ok), mode, 0..12_u64, end, renewed).prop_map(
        move |(mut grant, mode, ttl, end, renewed)| {
            (grant.mode, grant.deadline_ns) = (mode, Some(grant.return_ns + ttl));
            let after = grant.return_ns;
            let mut records = vec![grant];
            for mut later in renewed.into_iter().chain(end) {
                (later.invoke_ns, later.return_ns) =
                    (later.invoke_ns + after, later.return_ns + after);
                let renewed = later.op == Op::Renew && later.result == Done::Ok;
                later.deadline_ns = renewed.then_some(later.return_ns + ttl);
                records.push(later);
            }
            records.iter_mut().for_each(|record| record.fence = Some(fence));
            records
        },
    )
}

fn history() -> impl Strategy<Value = Vec<Record>> {
    let holds = (hold(1), hold(2), hold(3), 1..=3_usize);
    let others = prop_oneof![call(Op::Try, Done::Fail), call(Op::Evict, Done::Ok)];
    (holds, prop::collection::vec(others, 0..2)).prop_map(|((one, two, three, count), others)| {
        let mut records = [one, two, three][..count].concat();
        records.extend(others);
        records.sort_by_key(|record| (record.invoke_ns, record.return_ns));
        records
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(3000)))]
    #[test]
    fn both_say_the_same(history in history()) {
        let calls = history.iter().filter(|record| record.result != Done::Info);
        let expected = fits(&history, &calls.collect::<Vec<_>>(), &State::default());
        let found = is_linearizable(&history, Refusals::Exact);
        prop_assert_eq!(found.is_ok(), expected, "{:?}", found);
    }
}
