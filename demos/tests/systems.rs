//! The three systems, each in a short run with its faults; the full runs are a command away (see the README).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

use std::process::Command;

/// Runs it to its end and looks for what it has to show, in that order.
#[track_caller]
fn shows(arguments: &[&str], expected: &[&str]) {
    let (code, shown) = run(arguments);
    assert_eq!(code, Some(0), "{shown}");
    let mut rest = &*shown;
    for what in expected {
        let Some((_, later)) = rest.split_once(what) else { panic!("no {what:?} in\n{shown}") };
        rest = later;
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_demos")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// A file for the stock, so that no server is needed for it.
fn stock() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("stock.db").display());
    (folder, url)
}

#[test]
fn orders_are_never_oversold_while_instances_and_nodes_fail() {
    let (_folder, db) = stock();
    let storm = ["orders", "storm", "--seconds", "8", "--db", &db, "--customers", "8"];
    let faults = ["is killed", "is frozen for two TTLs", "are killed", "is frozen for a second"];
    let sound = ["no article is sold that was not there", "every confirmed order is written"];
    shows(&storm, &[&faults[..], &sound].concat());
}

#[test]
fn without_locks_orders_are_oversold_and_that_is_noticed() {
    let (_folder, db) = stock();
    let storm = ["orders", "storm", "--seconds", "1", "--db", &db, "--locks", "memory:"];
    let (code, shown) = run(&[&storm[..], &["--without-locks", "--stock", "20"]].concat());
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("wrong, this should be so: no article is sold"), "{shown}");
}

#[test]
fn each_tick_runs_on_one_instance() {
    let folder = tempfile::tempdir().unwrap();
    let locks = format!("sqlite:{}", folder.path().join("locks.db").display());
    let storm = ["scheduler", "storm", "--ticks", "4", "--locks", &locks];
    shows(&storm, &["no tick ran twice", "no two runs of a job", "each of 4 ticks ran"]);
}

#[test]
fn without_locks_each_instance_runs_each_tick_and_that_is_noticed() {
    let storm = ["scheduler", "storm", "--ticks", "2", "--locks", "memory:", "--without-locks"];
    let (code, shown) = run(&storm);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("wrong, this should be so: no tick ran twice"), "{shown}");
}

#[test]
fn workflows_run_once_while_replicas_fail() {
    let storm = ["workflow", "storm", "--executions", "20"];
    let faults =
        ["is cut off: its connections hang", "is frozen", "connections break", "is killed"];
    shows(&storm, &[&faults[..], &["every execution finished", "none ran twice"]].concat());
}
