//! Each demo as people start it: it ends well, has shown what it is about, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod common;

use std::io::BufRead as _;
use std::io::BufReader;
use std::process::ExitCode;
use std::process::Stdio;

use common::Demos;
use common::fails;
use common::is_excluded;
use common::shows;
use common::trial;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

fn main() -> ExitCode {
    common::run(vec![
        trial("demo_1_loses_payments_without_a_lock_and_none_with_one", &[], demo_1),
        trial("demo_2_excludes_who_is_not_ours", &["redis"], || {
            shows(&["2"], &["instance-2 NX PX 5000: (nil)", "until we unlock", "one at a time"]);
        }),
        trial("demo_3_frees_what_a_crash_left", &["redis"], || {
            shows(&["3"], &["TTL lock:report:123: 5", "123: 2", "freed 5.", "it is still ours"]);
        }),
        trial("demo_4_refuses_a_late_write", &["redis"], || {
            shows(&["4"], &["200 stored", "409 the write is refused", "A is refused: 409", "428"]);
        }),
        trial("demo_5_meets_psql", &["postgres"], || {
            shows(
                &["5"],
                &["try_advisory_lock(123): false", "after the unlock", "keeps the other"],
            );
        }),
        trial("demo_6_locks_rows", &["postgres"], || {
            shows(&["6"], &["the order ends as completed", "NOWAIT", "no order is taken twice"]);
        }),
        trial("demo_7_backs_off", &["redis"], || {
            shows(&["7"], &["a later try finds it free", "gives up after the last", "all ten"]);
        }),
        trial("demo_8_needs_a_majority", &["redlock"], || {
            shows(&["8"], &["it still works", "two of five are none: it fails", "leaves nothing"]);
        }),
        trial("demo_9_serves_in_order", &["redis"], || {
            shows(&["9"], &["is refused: others wait", "served in order: [1, 2, 3, 4, 5]"]);
        }),
        trial("demo_10_counts_every_update", &["postgres"], || {
            shows(&["10"], &["version conflict, retry 1", "the version is 6"]);
        }),
        trial("monitoring_shows_the_truth", &["redis"], || {
            shows(&["monitoring"], &["KEYS shows the two locks", "worker-1, fence", "is higher"]);
        }),
        trial("load_loses_no_order", &["redis"], || {
            shows(&["load", "--seconds", "2"], &["commands a second", "100 orders", "none failed"]);
        }),
        trial("overhead_is_measured", &["redis", "postgres"], || {
            shows(&["overhead"], &["without a lock", "SET NX PX, DEL", "on Redis", "%"]);
        }),
        trial("typed_commands_are_answered", &["redis", "postgres"], || {
            shows(&["typed"], &["instance-2", "keeps us out", "MONITOR", "order is completed"]);
        }),
        trial("the_table_is_read_and_cleaned_by_hand", &["mysql"], || {
            shows(&["table"], &["replica-1", "cleaned of the expired", "of the 4 connections"]);
        }),
        trial("metrics_are_counted", &[], || {
            shows(&["metrics"], &["lock_acquired_total", "3.000", "each is counted"]);
        }),
        trial("what_is_not_there_is_said_and_fails", &[], what_is_not_there),
        trial("a_signal_ends_servers_and_folders_as_well", &["redlock"], a_signal),
    ])
}

fn demo_1() {
    let lost = "ok  the balance is 900, not 800: one payment is lost";
    let etcd: &[&str] = if cfg!(feature = "etcd") { &["etcd"] } else { &[] };
    let kept = ["memory", "sqlite", "redis", "redlock", "mysql", "postgres"];
    let kept = kept.iter().chain(etcd).chain(&["zookeeper"]).copied();
    let kept: Vec<_> = kept.filter(|name| !is_excluded(name)).collect();
    let none = format!("with a lock on any of {} backends none is", kept.len());
    shows(&["1"], &[&[lost], &kept[..], &[&none]].concat());
}

fn what_is_not_there() {
    fails(&["2", "--redis", "redis://127.0.0.1:1", "--without", "none"], "demos: ");
    fails(&["2", "--without", "redis"], "demos: redis is excluded");
    let mut without = Demos::new(&["2"]);
    without.command.env("PATH", "/nowhere").env_remove("LOCK_TEST_EXCLUDE");
    let (code, said) = without.run();
    let advice = "redis-server is not installed: apt-get install redis-server, \
                  or name a server of yours by --redis URL";
    assert_eq!((code, said.contains(advice)), (Some(1), true), "{said}");
    assert_eq!(Demos::new(&["11"]).run().0, Some(2));
}

fn a_signal() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let stock = tempfile::tempdir().unwrap();
        let db = format!("sqlite:{}", stock.path().join("stock.db").display());
        let mut demos = Demos::new(&["orders", "storm", "--locks", "redlock", "--db", &db]);
        demos.command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = demos.command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Three servers and four instances run by then.
        lines.find(|line| line.as_ref().unwrap().contains("is killed")).unwrap().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        demos.check_clean();
    }
}
