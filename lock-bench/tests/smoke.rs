//! Each scenario runs over each backend, and what it writes is whole. No figure is judged.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

const BENCH: &str = env!("CARGO_BIN_EXE_lock-bench");

/// What each scenario has a row for, and the columns of ours; those of a server are not to be had without one.
const SCENARIOS: [Expected; 5] = [
    ("uncontended", &[1, 16, 64], &["pairs/s", "p50 µs", "p99 µs", "CPU µs/pair"]),
    ("handover", &[1], &["p50 µs", "p99 µs", "ping p50 µs", "p50 ÷ ping"]),
    ("idle", &[50], &["CPU %", "requests/s", "commands/s"]),
    (
        "contention",
        &[10, 50],
        &[
            "grants/s",
            "requests/grant",
            "scripts/grant",
            "commands/grant",
            "least/fair share",
            "overtaken ms",
            "p50 wait ms",
            "longest ms",
        ],
    ),
    (
        "held",
        &[500],
        &[
            "bytes each",
            "RSS each",
            "CPU %",
            "renewals/lock",
            "batches/cycle",
            "commands/cycle",
            "tasks",
            "threads",
            "connections",
        ],
    ),
];

/// The columns that only a server can fill.
const OF_SERVERS: [&str; 6] = [
    "ping p50 µs",
    "p50 ÷ ping",
    "commands/s",
    "scripts/grant",
    "commands/grant",
    "commands/cycle",
];

/// The lanes that count what they ask for.
const COUNTING: [&str; 6] =
    ["ours", "ours, fair", "bare statements", "bare scripts", "bare transactions", "bare calls"];

/// Lanes that a scenario goes without.
const LEFT_OUT: [(&str, &str); 5] = [
    ("held", "PgAdvisoryLock"),
    ("held", "fixed polling"),
    ("held", "GET_LOCK"),
    ("idle", "Lock RPC"),
    ("contention", "Lock RPC"),
];

#[test]
fn memory_is_measured_beside_its_peers() {
    measure("memory", &["lockable", "map of tokio mutexes"], &SCENARIOS);
}

#[test]
fn sqlite_is_measured_beside_its_bare_statements() {
    measure("sqlite", &["bare statements"], &SCENARIOS);
}

#[test]
fn redis_is_measured_beside_its_bare_scripts_and_peers() {
    measure_server("redis", &["bare scripts", "SET NX PX", "rslock", "distkit"]);
}

#[test]
fn mysql_is_measured_beside_its_bare_statements_and_its_own_lock() {
    measure_slow_server("mysql", &["bare statements", "GET_LOCK"]);
}

#[test]
fn postgres_is_measured_beside_its_bare_statements_and_peers() {
    let rivals = ["bare statements", "the same, bare", "PgAdvisoryLock", "fixed polling"];
    measure_slow_server("postgres", &rivals);
}

#[test]
#[cfg(feature = "etcd")]
fn etcd_is_measured_beside_its_bare_transactions_and_its_own_lock() {
    measure_slow_server("etcd", &["bare transactions", "Lock RPC"]);
}

#[test]
fn zookeeper_is_measured_beside_its_bare_calls_and_the_lock_of_its_client() {
    measure_slow_server("zookeeper", &["bare calls", "zookeeper-client"]);
}

/// Runs all scenarios, unless the server is excluded.
fn measure_server(backend: &str, rivals: &[&str]) {
    if !is_excluded(backend) {
        measure(backend, rivals, &SCENARIOS);
    }
}

/// Runs one scenario, and all of them in a long run: each lane of each has a server of its own, which takes its
/// time to start.
fn measure_slow_server(backend: &str, rivals: &[&str]) {
    let few = if std::env::var_os("LOCK_TEST_FULL").is_some() { 5 } else { 1 };
    if few == 1 {
        eprintln!(
            "did not run: all scenarios over {backend} but the first; LOCK_TEST_FULL adds them"
        );
    }
    if !is_excluded(backend) {
        measure(backend, rivals, &SCENARIOS[..few]);
    }
}

fn is_excluded(backend: &str) -> bool {
    let excluded = std::env::var("LOCK_TEST_EXCLUDE").unwrap_or_default();
    let is_excluded = excluded.split(',').any(|name| name == backend);
    if is_excluded {
        eprintln!("did not run: {backend}, excluded by LOCK_TEST_EXCLUDE");
    }
    is_excluded
}

#[test]
fn an_unknown_name_is_refused_with_the_list() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, known) in
        [("--backend", "memory, sqlite, redis"), ("--scenario", "uncontended, handover, idle")]
    {
        let output = bench(Path::new(BENCH), &folder, &[flag, "nonsense"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(known), "{said}");
    }
}

#[test]
fn a_scenario_that_fails_fails_the_run_and_not_the_others() {
    let folder = tempfile::tempdir().unwrap();
    // Without the second program beside it, the scenario that needs it cannot run.
    let alone = folder.path().join("alone");
    std::fs::copy(BENCH, &alone).unwrap();
    let few = ["--backend", "memory", "--scenario", "uncontended", "--scenario", "held"];
    let output = bench(&alone, &folder, &few);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("held over memory: "), "{said}");
    let report = report(&folder);
    assert_eq!(rows(section(&report, "uncontended")).len(), 9);
    assert!(section(&report, "held")["failure"].is_string());
    picture(&folder);
}

/// A scenario, what it has a row for, and its columns.
type Expected = (&'static str, &'static [u64], &'static [&'static str]);

/// Runs scenarios over one backend and checks what they wrote.
fn measure(backend: &str, rivals: &[&str], scenarios: &[Expected]) {
    let has_server = !["memory", "sqlite"].contains(&backend);
    let folder = tempfile::tempdir().unwrap();
    // Servers run as other users, who have to get through.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    let names = scenarios.iter().flat_map(|(name, ..)| ["--scenario", *name]);
    let arguments: Vec<_> = ["--backend", backend].into_iter().chain(names).collect();
    let output = bench(Path::new(BENCH), &folder, &arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{complaints}");
    let report = report(&folder);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    for &(scenario, sizes, columns) in scenarios {
        let section = section(&report, scenario);
        assert!(said.contains(section["title"].as_str().unwrap()), "{said}");
        let fair = ["handover", "idle", "contention"].contains(&scenario).then_some("ours, fair");
        let rivals_here =
            rivals.iter().copied().filter(|lane| !LEFT_OUT.contains(&(scenario, *lane)));
        let lanes: Vec<_> = ["ours"].into_iter().chain(fair).chain(rivals_here).collect();
        let place = |row: &Value| json!([row["size"], row["lane"]]);
        let found: Vec<_> = rows(section).iter().map(place).collect();
        let all = sizes.iter().flat_map(|size| lanes.iter().map(move |lane| json!([size, lane])));
        let expected: Vec<_> = all.collect();
        assert_eq!(found, expected, "{scenario}");
        rows(section).iter().for_each(|row| check(row, rivals[0], columns, has_server));
    }
    assert_eq!(picture(&folder).matches("<rect class=").count(), measured(&report));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "stores stayed behind: {left:?}");
}

/// A row has all figures, or it says that the backend lacks something; ratios are against the first rival.
fn check(row: &Value, reference: &str, columns: &[&str], has_server: bool) {
    assert_eq!((&row["errors"], &row["error"]), (&Value::from(0), &Value::Null), "{row}");
    let figures = row["figures"].as_array().unwrap();
    if row["supported"] == false {
        assert!(row["lane"] == "ours, fair" && figures.is_empty(), "{row}");
        return;
    }
    let names: Vec<_> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    assert_eq!(names, columns);
    assert_eq!(figures[0]["ratio"].is_null(), row["lane"] == reference, "{row}");
    for figure in figures {
        let name = figure["name"].as_str().unwrap();
        assert!([1, 2].contains(&figure["rounds"].as_array().unwrap().len()), "{figure}");
        // Peers do not tell what they ask for, and in memory there is nobody to ask.
        let counts = COUNTING.iter().any(|lane| row["lane"] == *lane);
        let may_lack = if OF_SERVERS.contains(&name) { !has_server } else { !counts };
        assert!(figure["value"]["median"].is_number() || may_lack, "{row}");
    }
}

/// How many rows have a bar.
fn measured(report: &Value) -> usize {
    let sections = report["sections"].as_array().unwrap();
    sections.iter().flat_map(rows).filter(|row| row["supported"] == true).count()
}

fn bench(program: &Path, folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(["--quick", "--seconds", "0.1", "--out"]).arg(folder.path());
    command.args(arguments).output().unwrap()
}

fn report(folder: &TempDir) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file(folder, "json")).unwrap()).unwrap()
}

/// The picture, which is an XML document.
fn picture(folder: &TempDir) -> String {
    let text = std::fs::read_to_string(file(folder, "svg")).unwrap();
    assert_eq!(roxmltree::Document::parse(&text).unwrap().root_element().tag_name().name(), "svg");
    text
}

fn file(folder: &TempDir, kind: &str) -> PathBuf {
    let mut files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    files.find(|file| file.extension().is_some_and(|it| it == kind)).expect("it was written")
}

fn section<'a>(report: &'a Value, scenario: &str) -> &'a Value {
    let mut sections = report["sections"].as_array().unwrap().iter();
    sections.find(|section| section["scenario"] == scenario).expect("it was run")
}

fn rows(section: &Value) -> &Vec<Value> {
    section["rows"].as_array().unwrap()
}
