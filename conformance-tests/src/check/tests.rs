//! Each checker takes a good history and rejects a bad one.

use lock_core::Mode;

use super::*;
use crate::cx::permits;

const fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn record(process: u64, op: Op, at: (u64, u64), fence: u64) -> Record {
    let (invoke_ns, return_ns) = at;
    let (key, result, fence) = ("a".to_owned(), Done::Ok, Some(fence));
    let (mode, deadline_ns, lost_ns) = (Mode::Exclusive, None, None);
    Record { process, key, op, mode, invoke_ns, return_ns, result, fence, deadline_ns, lost_ns }
}

fn acquire(process: u64, at: (u64, u64), fence: u64, deadline: u64) -> Record {
    Record { deadline_ns: Some(deadline), ..record(process, Op::Acquire, at, fence) }
}

fn acquire_in(mode: Mode, process: u64, at: (u64, u64), fence: u64) -> Record {
    Record { mode, ..acquire(process, at, fence, 1000) }
}

fn release(process: u64, at: (u64, u64), fence: u64) -> Record {
    record(process, Op::Release, at, fence)
}

fn write(process: u64, at: (u64, u64), fence: u64) -> Record {
    record(process, Op::Write, at, fence)
}

/// Two processes take turns; the first is lost at its deadline in the end.
fn good() -> Vec<Record> {
    vec![
        acquire(1, (0, 10), 1, 100),
        write(1, (11, 12), 1),
        acquire(2, (5, 40), 2, 140),
        release(1, (30, 35), 1),
        write(2, (41, 42), 2),
        release(2, (50, 55), 2),
        acquire(1, (56, 60), 3, 160),
        Record { lost_ns: Some(161), ..record(1, Op::Look, (161, 161), 3) },
        acquire(2, (150, 165), 4, 270),
        release(2, (170, 175), 4),
    ]
}

fn violation(checked: Checked) -> &'static str {
    checked.expect_err("the history is bad").check
}

#[test]
fn a_good_history_passes_all() {
    let good = good();
    assert_eq!(fences_are_unique(&good), Ok(()));
    assert_eq!(fences_rise_in_real_time(&good), Ok(()));
    assert_eq!(fences_follow_holds(&good), Ok(()));
    assert_eq!(holds_do_not_overlap(&good), Ok(()));
    assert_eq!(writes_follow_fences(&good), Ok(()));
    assert_eq!(unknowns_are_released(&good), Ok(()));
    assert_eq!(free_keys_are_granted(&good, ns(10)), Ok(()));
    assert_eq!(nobody_starves(&good, 4), Ok(()));
    assert_eq!(grants_follow_arrival(&good, ns(20)), Ok(()));
    assert_eq!(nothing_is_left(&[]), Ok(()));
    assert_eq!(losses_are_told(&good, ns(5)), Ok(()));
}

#[test]
fn c1_rejects_a_fence_granted_twice() {
    let bad = [acquire(1, (0, 10), 7, 20), acquire(2, (30, 40), 7, 60)];
    assert_eq!(violation(fences_are_unique(&bad)), "C1");
}

#[test]
fn c1_takes_the_same_fence_of_another_key() {
    let other = Record { key: "b".into(), ..acquire(2, (30, 40), 7, 60) };
    assert_eq!(fences_are_unique(&[acquire(1, (0, 10), 7, 20), other]), Ok(()));
}

#[test]
fn c2_rejects_a_later_acquisition_with_a_lower_fence() {
    // The highest of those returned counts, not the last.
    let bad = [acquire(1, (0, 10), 9, 20), acquire(2, (5, 12), 4, 20), acquire(3, (30, 40), 5, 60)];
    assert_eq!(violation(fences_rise_in_real_time(&bad)), "C2");
}

#[test]
fn c2_takes_any_order_of_overlapping_calls() {
    let good = [acquire(1, (0, 50), 1, 90), acquire(2, (10, 20), 2, 90)];
    assert_eq!(fences_rise_in_real_time(&good), Ok(()));
}

#[test]
fn c2_rejects_a_fence_drawn_before_the_lock_was_won() {
    let bad = [
        acquire(1, (0, 60), 1, 100),
        acquire(2, (10, 20), 2, 100),
        release(2, (30, 40), 2),
        release(1, (70, 80), 1),
    ];
    assert_eq!(fences_rise_in_real_time(&bad), Ok(()), "the calls overlap");
    assert_eq!(violation(fences_follow_holds(&bad)), "C2");
}

#[test]
fn c3_rejects_two_valid_guards() {
    let bad = [acquire(1, (0, 10), 1, 100), acquire(2, (20, 50), 2, 150)];
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3");
}

#[test]
fn c3_sees_a_deadline_that_was_moved() {
    let renewed = Record { deadline_ns: Some(200), ..record(1, Op::Look, (90, 90), 1) };
    let bad = [acquire(1, (0, 10), 1, 100), renewed, acquire(2, (110, 120), 2, 220)];
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3");
}

#[test]
fn c3_takes_a_takeover_after_the_deadline_or_the_loss() {
    let lost = Record { lost_ns: Some(30), ..record(1, Op::Look, (30, 30), 1) };
    let good = [acquire(1, (0, 10), 1, 100), lost, acquire(2, (20, 50), 2, 90)];
    assert_eq!(holds_do_not_overlap(&good), Ok(()));
    let good = [acquire(1, (0, 10), 1, 100), acquire(2, (20, 101), 2, 190)];
    assert_eq!(holds_do_not_overlap(&good), Ok(()));
}

#[test]
fn c2_takes_readers_in_any_order_of_their_replies() {
    let read = |process, at, fence| acquire_in(Mode::Shared, process, at, fence);
    let good = [read(1, (0, 60), 1), read(2, (10, 20), 2)];
    assert_eq!(fences_follow_holds(&good), Ok(()));
    let writer = Record { lost_ns: Some(15), ..acquire(3, (0, 5), 3, 1000) };
    let bad = [&good[..], &[writer]].concat();
    assert_eq!(violation(fences_follow_holds(&bad)), "C2");
}

#[test]
fn c3_rejects_a_reader_beside_a_writer_and_takes_one_beside_readers() {
    let read = |process, at| acquire_in(Mode::Shared, process, at, process);
    let readers = [read(1, (0, 10)), read(2, (20, 30)), read(3, (40, 50))];
    assert_eq!(holds_do_not_overlap(&readers), Ok(()));
    let writer = |at| acquire_in(Mode::Exclusive, 4, at, 4);
    let bad = [&readers[..], &[writer((60, 70))]].concat();
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3");
    // Not the last one's hold is in the way, but an earlier one's.
    let gone = |process| release(process, (51, 52), process);
    let bad = [&bad[..], &[gone(2), gone(3)]].concat();
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3");
    assert_eq!(holds_do_not_overlap(&[&bad[..], &[gone(1)]].concat()), Ok(()));
}

#[test]
fn c3_rejects_one_permit_too_many() {
    let permit = |process, at| acquire_in(permits(2), process, at, process);
    let two = [permit(1, (0, 10)), permit(2, (20, 30))];
    assert_eq!(holds_do_not_overlap(&two), Ok(()));
    let bad = [&two[..], &[permit(3, (40, 50))]].concat();
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3");
    let good = [&bad[..], &[release(1, (35, 45), 1)]].concat();
    assert_eq!(holds_do_not_overlap(&good), Ok(()));
}

#[test]
fn c4_rejects_a_stale_write() {
    let bad = [write(1, (0, 10), 1), write(2, (20, 30), 2), write(1, (40, 50), 1)];
    assert_eq!(violation(writes_follow_fences(&bad)), "C4");
}

#[test]
fn c4_takes_a_stale_write_that_was_refused() {
    let refused = Record { result: Done::Fail, ..write(1, (40, 50), 1) };
    assert_eq!(writes_follow_fences(&[write(2, (20, 30), 2), refused]), Ok(()));
}

#[test]
fn c6_rejects_an_unknown_acquisition_without_release() {
    let unknown = Record { result: Done::Info, fence: None, ..acquire(1, (0, 10), 1, 0) };
    assert_eq!(violation(unknowns_are_released(std::slice::from_ref(&unknown))), "C6");
    assert_eq!(unknowns_are_released(&[unknown, release(1, (20, 30), 1)]), Ok(()));
}

#[test]
fn c7_rejects_a_wait_for_a_free_key() {
    let bad =
        [acquire(1, (0, 10), 1, 1000), release(1, (20, 25), 1), acquire(2, (15, 400), 2, 1000)];
    assert_eq!(violation(free_keys_are_granted(&bad, ns(100))), "C7");
    assert_eq!(free_keys_are_granted(&bad, ns(375)), Ok(()));
}

#[test]
fn c7_rejects_starvation() {
    let mut bad: Vec<_> =
        (0..20).map(|n| acquire(1, (n * 10, n * 10 + 5), n + 1, n * 10 + 9)).collect();
    bad.push(Record { result: Done::Fail, ..acquire(2, (0, 300), 99, 0) });
    assert_eq!(violation(nobody_starves(&bad, 10)), "C7");
}

#[test]
fn c7_rejects_a_mode_that_starves() {
    let reads = (0..20).map(|n| acquire_in(Mode::Shared, n % 4, (n, n + 1), n + 1));
    let writer = Record { result: Done::Fail, ..acquire_in(Mode::Exclusive, 9, (0, 300), 99) };
    let bad: Vec<_> = reads.chain([writer]).collect();
    assert_eq!(violation(no_mode_starves(&bad, 10)), "C7");
    assert_eq!(no_mode_starves(&bad[..20], 10), Ok(()));
}

#[test]
fn c8_takes_readers_in_any_order_and_no_writer_before_its_turn() {
    let read = |process, at| acquire_in(Mode::Shared, process, at, process);
    let readers = [read(1, (0, 500)), read(2, (200, 300))];
    assert_eq!(grants_follow_arrival(&readers, ns(100)), Ok(()));
    let bad = [&readers[..1], &[acquire_in(Mode::Exclusive, 2, (200, 300), 2)]].concat();
    assert_eq!(violation(grants_follow_arrival(&bad, ns(100))), "C8");
}

#[test]
fn c8_rejects_a_newcomer_served_first() {
    let bad = [acquire(1, (0, 500), 2, 900), acquire(2, (200, 300), 1, 400)];
    assert_eq!(violation(grants_follow_arrival(&bad, ns(100))), "C8");
    assert_eq!(grants_follow_arrival(&bad, ns(300)), Ok(()), "they came as good as together");
}

#[test]
fn c9_rejects_what_is_left() {
    let left = [KeyState::new("a", Vec::new(), 1)];
    assert_eq!(violation(nothing_is_left(&left)), "C9");
}

#[test]
fn c10_rejects_a_loss_told_late_or_never() {
    let never = [acquire(1, (0, 10), 1, 100)];
    assert_eq!(violation(losses_are_told(&never, ns(20))), "C10");
    let late = Record { lost_ns: Some(150), ..record(1, Op::Look, (150, 150), 1) };
    let told = [acquire(1, (0, 10), 1, 100), late];
    assert_eq!(violation(losses_are_told(&told, ns(20))), "C10");
    assert_eq!(losses_are_told(&told, ns(50)), Ok(()));
}

/// The store may have forgotten, and who was forgotten may believe in it until then.
fn forget(at: (u64, u64), deadline: u64) -> Record {
    Record { fence: None, deadline_ns: Some(deadline), ..record(0, Op::Forget, at, 0) }
}

#[test]
fn c3_excuses_exactly_what_was_forgotten() {
    let (before, after) = (acquire(1, (0, 10), 1, 100), acquire(2, (45, 50), 2, 150));
    let excused = [before.clone(), forget((30, 40), 140), after.clone()];
    assert_eq!(holds_do_not_overlap(&excused), Ok(()));
    assert_eq!(excused_overlaps(&excused), [[&excused[2], &excused[0], &excused[1]]]);
    let bad = [before.clone(), forget((60, 70), 170), after.clone()];
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3", "both came before");
    let bad = [acquire(1, (41, 42), 1, 100), forget((30, 40), 140), after.clone()];
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3", "both came after");
    let bad = [before.clone(), forget((30, 40), 90), after.clone()];
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3", "believed for too long");
    let other = Record { key: "b".into(), ..forget((30, 40), 140) };
    let bad = [before, other, after];
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3", "another key was forgotten");
}

#[test]
fn c3_counts_permits_that_were_not_forgotten() {
    let permit = |process, at| acquire_in(permits(1), process, at, process);
    let bad = [permit(1, (0, 10)), forget((20, 30), 2000), permit(2, (40, 50))];
    assert_eq!(holds_do_not_overlap(&bad), Ok(()));
    let bad = [&bad[..], &[permit(3, (60, 70))]].concat();
    assert_eq!(violation(holds_do_not_overlap(&bad)), "C3");
}

#[test]
fn c2_excuses_a_predecessor_that_was_forgotten_but_no_order_in_real_time() {
    let late = [acquire(1, (0, 60), 1, 100), forget((30, 40), 140), acquire(2, (45, 50), 2, 150)];
    assert_eq!(fences_follow_holds(&late), Ok(()));
    let lower = [acquire(1, (0, 10), 2, 100), forget((30, 40), 140), acquire(2, (45, 50), 1, 150)];
    assert_eq!(violation(fences_rise_in_real_time(&lower)), "C2");
}

#[test]
fn c1_excuses_two_stores_that_granted_apart_from_each_other() {
    let twice = [acquire(1, (0, 30), 7, 100), acquire(2, (20, 40), 7, 100)];
    let split = [&twice[..], &[forget((25, 50), 150)]].concat();
    assert_eq!(fences_are_unique(&split), Ok(()));
    let before = [&twice[..], &[forget((35, 50), 150)]].concat();
    assert_eq!(violation(fences_are_unique(&before)), "C1", "one came before");
}
