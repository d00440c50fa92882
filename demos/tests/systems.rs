//! The three systems, each in a short run with its faults; the full runs are a command away (see the README).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod common;

use std::process::ExitCode;

use common::fails;
use common::long;
use common::shows;
use common::trial;

fn main() -> ExitCode {
    common::run(vec![
        trial("orders_are_never_oversold_while_instances_and_nodes_fail", &["redlock"], orders),
        trial("without_locks_orders_are_oversold_and_that_is_noticed", &[], oversold),
        trial("each_tick_runs_on_one_instance", &[], ticks),
        trial("without_locks_each_instance_runs_each_tick_and_that_is_noticed", &[], || {
            let storm = ["scheduler", "storm", "--ticks", "2", "--locks", "memory:"];
            fails(&[&storm[..], &["--without-locks"]].concat(), "should be so: no tick ran twice");
        }),
        trial("workflows_run_once_while_replicas_fail", &["mysql"], || workflows("mysql", "20")),
        long("orders_over_postgres_and_redlock_at_length", || {
            shows(&["orders", "storm"], &["oversold", "every confirmed order is written"]);
        }),
        long("each_tick_runs_on_one_instance_over_each_backend", || {
            shows(&["scheduler", "storm"], &["redlock", "mysql", "postgres", "zookeeper"]);
        }),
        long("no_tick_runs_twice_while_instances_fail_over_each_backend", || {
            shows(&["scheduler", "storm", "--faults"], &["redlock", "faults", "zookeeper"]);
        }),
        long("workflows_run_once_over_redis", || workflows("redis", "60")),
    ])
}

/// A file for the stock, so that no server is needed for it.
fn stock() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("stock.db").display());
    (folder, url)
}

fn orders() {
    let (_folder, db) = stock();
    let storm = ["orders", "storm", "--seconds", "8", "--db", &db, "--customers", "8"];
    let faults = ["is killed", "is frozen for two TTLs", "are killed", "is frozen for a second"];
    let sound = ["no article is sold that was not there", "every confirmed order is written"];
    shows(&storm, &[&faults[..], &sound].concat());
}

fn oversold() {
    let (_folder, db) = stock();
    let storm = ["orders", "storm", "--seconds", "1", "--db", &db, "--locks", "memory:"];
    let storm = [&storm[..], &["--without-locks", "--stock", "20"]].concat();
    fails(&storm, "wrong, this should be so: no article is sold");
}

fn ticks() {
    let storm = ["scheduler", "storm", "--ticks", "4", "--locks", "sqlite"];
    shows(&storm, &["no tick ran twice", "no two runs of a job", "each of 4 ticks ran"]);
}

fn workflows(store: &str, executions: &str) {
    let storm = ["workflow", "storm", "--executions", executions, "--locks", store];
    let faults = ["connections hang", "is frozen", "connections break", "is killed"];
    shows(&storm, &[&faults[..], &["every execution finished", "none ran twice"]].concat());
}
