//! It takes what one lock could have done, and rejects what it could not.

use lock_core::Mode;

use super::*;
use crate::cx::permits;
use crate::history::Done;
use crate::history::Op;

const R: Mode = Mode::Shared;
const W: Mode = Mode::Exclusive;

fn record(process: u64, op: Op, mode: Mode, at: (u64, u64), fence: u64) -> Record {
    let (invoke_ns, return_ns) = at;
    let (key, result, fence) = ("a".to_owned(), Done::Ok, Some(fence));
    let (deadline_ns, lost_ns) = (None, None);
    Record { process, key, op, mode, invoke_ns, return_ns, result, fence, deadline_ns, lost_ns }
}

fn take(process: u64, mode: Mode, at: (u64, u64), fence: u64, deadline: u64) -> Record {
    Record { deadline_ns: Some(deadline), ..record(process, Op::Acquire, mode, at, fence) }
}

fn leave(process: u64, at: (u64, u64), fence: u64) -> Record {
    record(process, Op::Release, W, at, fence)
}

fn miss(process: u64, at: (u64, u64), fence: u64) -> Record {
    Record { result: Done::Fail, ..leave(process, at, fence) }
}

fn renew(process: u64, at: (u64, u64), fence: u64, deadline: u64) -> Record {
    Record { deadline_ns: Some(deadline), ..record(process, Op::Renew, W, at, fence) }
}

fn refused(process: u64, mode: Mode, at: (u64, u64)) -> Record {
    let (fence, result) = (None, Done::Fail);
    Record { fence, result, ..record(process, Op::Try, mode, at, 0) }
}

fn doubtful(record: Record) -> Record {
    Record {
        result: Done::Info,
        fence: record.fence.filter(|_| record.op != Op::Acquire),
        ..record
    }
}

#[track_caller]
fn good(history: &[Record]) {
    assert_eq!(is_linearizable(history, Refusals::Exact), Ok(()));
}

#[track_caller]
fn bad(history: &[Record]) {
    let violation = is_linearizable(history, Refusals::Exact).expect_err("the history is bad");
    assert_eq!(violation.check, "C5");
    assert!(!violation.message.contains("undecided"), "{violation}");
}

#[test]
fn takes_turns() {
    good(&[
        take(1, W, (0, 10), 1, 1000),
        take(2, W, (5, 40), 2, 1000),
        leave(1, (30, 35), 1),
        leave(2, (50, 55), 2),
    ]);
}

#[test]
fn rejects_a_double_grant() {
    let mut history = vec![take(1, W, (0, 10), 1, 1000), take(2, W, (20, 30), 2, 1000)];
    bad(&history);
    history.push(leave(1, (40, 50), 1));
    bad(&history);
}

#[test]
fn rejects_a_grant_before_a_release_was_even_called() {
    bad(&[
        take(1, W, (0, 10), 1, 1000),
        take(2, W, (5, 20), 2, 1000),
        leave(1, (21, 35), 1),
        leave(2, (50, 55), 2),
    ]);
}

#[test]
fn takes_an_end_from_the_deadline_on_and_rejects_one_before() {
    let after = |at| [take(1, W, (0, 10), 1, 100), take(2, W, at, 2, 300)];
    good(&after((50, 101)));
    good(&after((500, 501)));
    bad(&after((50, 99)));
}

#[test]
fn takes_an_end_only_as_late_as_others_saw_it() {
    // It was missed before it can have gone.
    bad(&[take(1, W, (0, 10), 1, 100), miss(1, (50, 99), 1)]);
    good(&[take(1, W, (0, 10), 1, 100), miss(1, (50, 101), 1)]);
}

#[test]
fn rejects_a_fence_inversion() {
    bad(&[
        take(1, W, (0, 10), 2, 1000),
        leave(1, (20, 30), 2),
        take(2, W, (40, 50), 1, 1000),
        leave(2, (60, 70), 1),
    ]);
    // Readers too, unless their calls overlap.
    bad(&[take(1, R, (0, 10), 2, 1000), take(2, R, (20, 30), 1, 1000)]);
    good(&[take(1, R, (0, 25), 2, 1000), take(2, R, (20, 30), 1, 1000)]);
}

#[test]
fn rejects_one_fence_for_two() {
    bad(&[take(1, R, (0, 10), 1, 1000), take(2, R, (20, 30), 1, 1000)]);
}

#[test]
fn lets_readers_in_together_and_keeps_writers_apart() {
    good(&[
        take(1, R, (0, 10), 1, 1000),
        take(2, R, (20, 30), 2, 1000),
        leave(1, (40, 50), 1),
        leave(2, (60, 70), 2),
        take(3, W, (45, 80), 3, 1000),
    ]);
    bad(&[
        take(1, R, (0, 10), 1, 1000),
        take(2, R, (20, 30), 2, 1000),
        leave(1, (40, 50), 1),
        take(3, W, (45, 55), 3, 1000),
        leave(2, (60, 70), 2),
    ]);
}

#[test]
fn counts_permits() {
    let three = [1, 2, 3].map(|n| take(n, permits(2), (n * 10, n * 10 + 5), n, 1000));
    bad(&three);
    let mut gone = three.to_vec();
    gone[1].deadline_ns = Some(12);
    good(&gone);
    good(&three[..2]);
    bad(&[take(1, permits(2), (0, 5), 1, 100), take(2, permits(3), (10, 15), 2, 100)]);
}

#[test]
fn lets_go_the_permit_that_may_have_gone_and_no_other() {
    good(&[
        take(1, permits(2), (0, 5), 1, 1000),
        take(2, permits(2), (10, 15), 2, 40),
        take(3, permits(2), (20, 50), 3, 1000),
        leave(1, (60, 70), 1),
    ]);
    bad(&[
        take(1, permits(2), (0, 5), 1, 40),
        take(2, permits(2), (10, 15), 2, 1000),
        take(3, permits(2), (20, 50), 3, 1000),
        leave(1, (60, 70), 1),
    ]);
}

#[test]
fn rejects_a_renewal_that_revives() {
    bad(&[
        take(1, W, (0, 10), 1, 100),
        take(2, W, (110, 120), 2, 130),
        renew(1, (140, 150), 1, 300),
    ]);
    good(&[
        take(1, W, (0, 10), 1, 100),
        renew(1, (80, 90), 1, 200),
        take(2, W, (110, 220), 2, 300),
        Record { result: Done::Fail, deadline_ns: None, ..renew(1, (230, 240), 1, 0) },
    ]);
}

#[test]
fn believes_the_last_deadline_also_a_nearer_one() {
    let shorter = [take(1, W, (0, 10), 1, 1000), renew(1, (20, 30), 1, 100)];
    let next = |at| [&shorter[..], &[take(2, W, at, 2, 300)]].concat();
    good(&next((50, 110)));
    bad(&next((50, 90)));
}

#[test]
fn rejects_a_refusal_only_where_nobody_was_in_the_way() {
    let free = [take(1, W, (0, 10), 1, 1000), leave(1, (20, 30), 1), refused(2, W, (40, 50))];
    bad(&free);
    assert_eq!(is_linearizable(&free, Refusals::Free), Ok(()));
    good(&[take(1, W, (0, 10), 1, 1000), refused(2, W, (25, 50)), leave(1, (20, 30), 1)]);
    bad(&[take(1, R, (0, 10), 1, 1000), refused(2, R, (20, 50))]);
    good(&[take(1, R, (0, 10), 1, 1000), refused(2, W, (20, 50))]);
    bad(&[take(1, permits(2), (0, 10), 1, 1000), refused(2, permits(2), (20, 50))]);
}

#[test]
fn an_unlock_of_which_nobody_knows_happens_at_any_time_or_never() {
    let unknown = || doubtful(leave(1, (20, 30), 1));
    good(&[take(1, W, (0, 10), 1, 1000), unknown(), take(2, W, (25, 26), 2, 1000)]);
    good(&[take(1, W, (0, 10), 1, 1000), unknown(), refused(2, W, (500, 501))]);
    bad(&[take(1, W, (0, 10), 1, 1000), unknown(), take(2, W, (11, 19), 2, 1000)]);
}

#[test]
fn an_acquisition_of_which_nobody_knows_can_be_owed_a_refusal_and_nothing_else() {
    let unknown = || doubtful(take(1, W, (0, 10), 1, 1000));
    good(&[unknown(), refused(2, W, (20, 30))]);
    good(&[unknown(), take(2, W, (20, 30), 2, 1000)]);
    bad(&[take(3, W, (0, 5), 1, 9000), unknown(), take(2, W, (20, 30), 2, 1000)]);
}

#[test]
fn a_force_unlock_takes_all_and_no_release_finds_anything() {
    let forced = |at| Record { fence: None, ..record(9, Op::Evict, W, at, 0) };
    let readers = [take(1, R, (0, 10), 1, 1000), take(2, R, (0, 11), 2, 1000)];
    let then = |more: &[Record]| [&readers[..], &[forced((20, 30))], more].concat();
    good(&then(&[take(3, W, (25, 40), 3, 1000), miss(1, (50, 60), 1), miss(2, (50, 60), 2)]));
    bad(&then(&[take(3, W, (15, 18), 3, 1000)]));
    bad(&then(&[take(3, W, (25, 40), 3, 1000), leave(1, (50, 60), 1)]));
}

#[test]
fn a_release_of_what_was_never_granted_is_named() {
    bad(&[leave(1, (0, 10), 7)]);
}

#[test]
fn keys_are_searched_alone() {
    let other = Record { key: "b".into(), ..take(2, W, (20, 30), 2, 1000) };
    good(&[take(1, W, (0, 10), 1, 1000), other]);
}

/// Eight clients whose calls all overlap with those of the others, `rounds` times.
fn busy(rounds: u64) -> Vec<Record> {
    let mut history = Vec::new();
    for n in 0..rounds * 8 {
        let at = n * 100;
        let mode = if n % 5 == 0 { W } else { R };
        history.push(take(n % 8, mode, (at.saturating_sub(790), at + 10), n + 1, at + 5000));
        let late = if mode == R && (n + 1) % 5 != 0 { 80 } else { 20 };
        history.push(leave(n % 8, (at + 11, at + late), n + 1));
        history.push(refused(n % 8 + 10, W, (at + 11, at + 19)));
    }
    history
}

#[test]
fn thousands_of_calls_of_many_clients_are_decided_in_time() {
    let start = std::time::Instant::now();
    let mut history = busy(250);
    assert!(history.len() >= 6000);
    good(&history);
    // Near the end, one that comes too early.
    let last = history.len() - 8;
    history.push(take(99, W, (history[last].return_ns, history[last].return_ns + 1), 9999, 0));
    bad(&history);
    let took = start.elapsed();
    assert!(took.as_secs() < 10, "took {took:?}");
}

#[test]
fn what_cannot_be_decided_is_no_success() {
    let history = busy(3);
    let violation = decide(&history, Refusals::Exact, 10).expect_err("ten points are too few");
    assert!(violation.message.contains("undecided after 10 points: 72 calls"), "{violation}");
    assert_eq!(decide(&history, Refusals::Exact, 10_000), Ok(()));
}

#[test]
fn lets_go_what_was_lost_before_its_deadline_once_the_holder_has_said_so() {
    let (held, next) = (take(1, W, (0, 10), 1, 1000), take(2, W, (35, 50), 2, 1000));
    let lost = |at| Record { lost_ns: Some(at), ..miss(1, (at, at + 5), 1) };
    good(&[held.clone(), lost(40)]);
    good(&[held.clone(), lost(40), next.clone()]);
    bad(&[held.clone(), next.clone(), lost(51)]);
    bad(&[held, next]);
}

fn forget(at: (u64, u64)) -> Record {
    Record { fence: None, ..record(0, Op::Forget, W, at, 0) }
}

#[test]
fn lets_go_what_was_forgotten_and_nothing_else() {
    let (before, after) = (take(1, W, (0, 10), 1, 1000), take(2, W, (45, 50), 2, 1000));
    good(&[before.clone(), forget((30, 40)), after.clone()]);
    // The holder hears of it, or its unlock is repeated until nobody knows what it did.
    good(&[before.clone(), forget((30, 40)), miss(1, (60, 70), 1)]);
    good(&[before.clone(), forget((30, 40)), after.clone(), leave(1, (60, 70), 1)]);
    // It may have been unlocked before, though the answer came after.
    good(&[before.clone(), leave(1, (30, 90), 1), after.clone(), forget((60, 70))]);
    bad(&[before.clone(), forget((60, 70)), after.clone()]);
    bad(&[take(1, W, (41, 42), 1, 1000), forget((30, 40)), after.clone()]);
    // Who is confirmed after it was not forgotten; nor was who had released before.
    bad(&[before.clone(), forget((30, 40)), after, renew(1, (60, 70), 1, 1000)]);
    bad(&[before, leave(1, (20, 25), 1), forget((30, 40)), take(3, W, (12, 15), 3, 1000)]);
}
