//! Each demo as people start it: it ends well, and has shown what it is about.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

use std::process::Command;
use std::process::Output;

fn demos(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_demos"));
    // Each starts a Redis of its own: they run side by side, and their keys are the same.
    program.env_remove("LOCK_TEST_REDIS_URL").args(arguments).output().unwrap()
}

/// Runs it to its end and looks for what it has to show, in that order.
#[track_caller]
fn shows(arguments: &[&str], expected: &[&str]) {
    let output = demos(arguments);
    let (shown, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{shown}\n{said}", output.status);
    let mut rest = &*shown;
    for what in expected {
        let Some((_, later)) = rest.split_once(what) else { panic!("no {what:?} in\n{shown}") };
        rest = later;
    }
}

#[test]
fn demo_1_loses_payments_without_a_lock_and_none_with_one() {
    let lost = "ok  the balance is 900, not 800: one payment is lost";
    let kept = ["memory", "sqlite", "redis", "postgres"];
    shows(&["1"], &[&[lost], &kept[..], &["with a lock on any of 4 backends none is"]].concat());
}

#[test]
fn demo_2_excludes_who_is_not_ours() {
    shows(&["2"], &["instance-2 NX PX 5000: (nil)", "kept out until we unlock", "one at a time"]);
}

#[test]
fn demo_3_frees_what_a_crash_left() {
    shows(&["3"], &["TTL lock:report:123: 5", "123: 2", "freed 5.", "it is still ours"]);
}

#[test]
fn demo_4_refuses_a_late_write() {
    shows(&["4"], &["200 stored", "409 the write is refused", "A is refused: 409", "428"]);
}

#[test]
fn demo_5_meets_psql() {
    shows(&["5"], &["try_advisory_lock(123): false", "after the unlock", "each keeps the other"]);
}

#[test]
fn demo_6_locks_rows() {
    shows(&["6"], &["the order ends as completed", "NOWAIT", "no order is taken twice"]);
}

#[test]
fn demo_7_backs_off() {
    shows(&["7"], &["a later try finds it free", "gives up after the last try", "all ten"]);
}

#[test]
fn demo_8_needs_a_majority() {
    shows(&["8"], &["it still works", "two of five are none: it fails", "leaves nothing"]);
}

#[test]
fn demo_9_serves_in_order() {
    shows(&["9"], &["is refused: others wait", "served in order: [1, 2, 3, 4, 5]"]);
}

#[test]
fn demo_10_counts_every_update() {
    shows(&["10"], &["version conflict, retry 1", "the version is 6"]);
}

#[test]
fn monitoring_shows_the_truth() {
    shows(&["monitoring"], &["KEYS shows the two locks", "worker-1, fence", "is higher"]);
}

#[test]
fn load_loses_no_order() {
    shows(&["load", "--seconds", "2"], &["commands a second", "100 orders", "none failed"]);
}

#[test]
fn overhead_is_measured() {
    shows(&["overhead"], &["without a lock", "SET NX PX, DEL", "lock, unlock on Redis", "%"]);
}

#[test]
fn what_cannot_be_reached_is_said_and_fails() {
    let output = demos(&["2", "--redis", "redis://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("demos: "), "{said}");
    assert_eq!(demos(&["11"]).status.code(), Some(2));
}
