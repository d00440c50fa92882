//! What scripts read: JSON, the environment of the command, descriptors.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::process::Stdio;

use common::Ended;
use common::Place;
use common::finish;
use common::tty::Tty;
use serde_json::Value;
use serde_json::json;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Replaces what differs from run to run, after a look at its kind.
fn without_chance(mut state: Value) -> Value {
    for holder in state["holders"].as_array_mut().unwrap() {
        assert!(holder["fence"].is_u64(), "{holder}");
        holder["fence"] = json!(1);
        let at = holder["acquired_at"].as_str().unwrap();
        assert!(at.len() == 24 && at.starts_with("20") && at.ends_with('Z'), "{at}");
        holder["acquired_at"] = json!("then");
        assert!((1..=3_600_000).contains(&holder["expires_in_ms"].as_u64().unwrap()), "{holder}");
        holder["expires_in_ms"] = json!(1);
    }
    state
}

#[test]
fn status_and_list_have_one_shape() {
    let place = Place::new();
    let free = place.run(&["status", "a", "--json"]).stdout;
    assert_eq!(free, "{\"key\":\"a\",\"locked\":false,\"holders\":[],\"waiting\":0}\n");
    for key in ["a", "b", "c"] {
        place.run(&["acquire", key, "--owner", "ann", "--hold-for", "1h"]);
    }
    let held = |key: &str| {
        json!({"key": key, "locked": true, "holders": [{"owner": "ann", "mode": "exclusive",
            "fence": 1, "acquired_at": "then", "expires_in_ms": 1}], "waiting": 0})
    };
    let status = place.run(&["status", "a", "--json"]).stdout;
    assert_eq!(status.matches('\n').count(), 1);
    assert_eq!(without_chance(parse(&status)), held("a"));
    let list = place.run(&["--json", "list"]).stdout;
    let list: Vec<_> = list.lines().map(|line| without_chance(parse(line))).collect();
    assert_eq!(list, ["a", "b", "c"].map(held));
    let list = place.run(&["--json", "list", "b"]).stdout;
    assert_eq!(list.lines().count(), 1);
}

#[test]
fn acquire_and_renew_print_a_handle_alone_or_in_an_object() {
    let place = Place::new();
    let acquired = parse(&place.run(&["acquire", "a", "--hold-for", "1h", "--json"]).stdout);
    let object = acquired.as_object().unwrap();
    let mut fields: Vec<_> = object.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["fence", "handle", "key", "valid_for_ms"]);
    assert_eq!(object["key"], "a");
    assert!(object["fence"].is_u64());
    assert!((3_000_000..3_600_000).contains(&object["valid_for_ms"].as_u64().unwrap()));
    let handle = object["handle"].as_str().unwrap();
    let renewed = place.run(&["renew", handle, "--hold-for", "2h"]);
    assert_eq!(renewed.stdout, format!("{handle}\n"));
    let renewed = parse(&place.run(&["renew", handle, "--hold-for", "2h", "--json"]).stdout);
    assert!(renewed["valid_for_ms"].as_u64().unwrap() > 3_600_000);
    let released = place.run(&["release", handle, "--json"]).stdout;
    assert_eq!(released, "{\"key\":\"a\",\"released\":true}\n");
    assert_eq!(place.run(&["release", handle]).code, 1);
    assert_eq!(place.run(&["run", "a", "--", "true"]).code, 0);
}

#[test]
fn a_lock_whose_handle_nobody_gets_is_not_kept() {
    let place = Place::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let unread = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer.into()
    };
    for stdout in [full(), unread()] {
        let mut command = place.lockctl(&["acquire", "a", "--hold-for", "1h"]);
        command.stdout::<Stdio>(stdout);
        let ended = finish(command.spawn().unwrap());
        assert_eq!(ended.code, 70, "{}", ended.stderr);
        assert!(ended.stderr.contains("; the lock was released"), "{}", ended.stderr);
        assert!(!place.is_locked("a"));
    }
}

#[test]
fn a_handle_ends_by_itself() {
    let place = Place::new();
    let handle = place.run(&["acquire", "a", "--hold-for", "3s"]).stdout;
    assert!(place.is_locked("a"));
    assert_eq!(place.run(&["run", "a", "--wait", "10s", "--", "true"]).code, 0);
    assert_eq!(place.run(&["release", handle.trim()]).code, 1);
}

#[test]
fn unlock_and_cleanup_say_what_they_did() {
    let place = Place::new();
    place.run(&["acquire", "a", "--hold-for", "1h"]);
    let unlocked = place.run(&["unlock", "--force", "a", "--json"]);
    assert_eq!(unlocked.stdout, "{\"key\":\"a\",\"holders\":1,\"others\":0}\n");
    let removed = parse(&place.run(&["cleanup", "--json"]).stdout);
    assert!(removed["removed"].is_u64(), "{removed}");
    let profile = parse(&place.run(&["profile", "--json"]).stdout);
    assert_eq!(profile["backend"], "sqlite");
}

#[test]
fn people_get_aligned_columns_without_colour() {
    let place = Place::new();
    place.run(&["acquire", "a-long-key", "--owner", "an\u{e9}", "--hold-for", "1h"]);
    let list = place.run(&["list"]).stdout;
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("KEY         OWNER  MODE       FENCE"), "{list}");
    assert!(lines[1].starts_with("a-long-key  an\u{e9}    exclusive  "), "{list}");
    assert!(!list.contains('\x1b'));
}

/// A file may say more of where the locks are than a URL has.
#[test]
fn the_command_s_url_leads_to_its_lock() {
    let place = Place::new();
    let file = place.path("lock.yaml");
    let path = place.path("locks.db");
    let text = format!(
        "{{provider: sqlite, key_prefix: 'f:', sqlite: {{path: {}, table_name: t}}}}",
        path.display()
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let script = "\"$0\" status k --json; exec \"$0\" --config \"$1\" run k -- true";
    let ours = env!("CARGO_BIN_EXE_lockctl");
    let mut command = place.lockctl(&["--config", file, "run", "k", "--"]);
    command.env_remove("LOCK_URL").args(["sh", "-c", script, ours, file]);
    let ended = finish(command.spawn().unwrap());
    assert!(parse(&ended.stdout)["locked"].as_bool().unwrap(), "{}", ended.stdout);
    assert_eq!(ended.code, 75, "{}", ended.stderr);
}

#[test]
fn the_command_gets_its_streams_its_arguments_and_its_environment() {
    let place = Place::new();
    let url = format!("{}?ttl=5s", place.url());
    let script = "cat; echo \"$LOCK_KEY $LOCK_OWNER $LOCK_URL $# $1\"; echo problem >&2";
    let mut command = place.lockctl(&["--url", &url, "run", "a b", "--owner", "ann", "--"]);
    command.args(["sh", "-c", script, "sh"]).arg(OsStr::from_bytes(b"\xff\xfe"));
    fs::write(place.path("input"), "input\n").unwrap();
    command.stdin(fs::File::open(place.path("input")).unwrap()).env("LOCK_PROVIDER", "sqlite");
    let output = command.output().unwrap();
    let shown = lock_url(&url);
    let mut expected = format!("input\na b ann {shown} 1 ").into_bytes();
    expected.extend(b"\xff\xfe\n");
    assert_eq!(output.stdout, expected, "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.stderr, b"problem\n");
}

fn lock_url(url: &str) -> String {
    url.replace("sqlite:/", "sqlite:///")
}

#[test]
fn the_command_inherits_no_descriptor_of_ours() {
    let place = Place::new();
    let list = ["ls", "/proc/self/fd"];
    let mut bare = Command::new(list[0]);
    let bare = bare.arg(list[1]).stdin(Stdio::null()).output().unwrap().stdout;
    let under_lock = place.run(&["run", "k", "--", list[0], list[1]]).stdout;
    assert_eq!(under_lock, String::from_utf8(bare).unwrap());
}

#[test]
fn no_password_is_printed_or_passed_on() {
    let place = Place::new();
    let url = "redis://ann:hunter2@127.0.0.1:1/?password=hunter2";
    for arguments in [
        &["-v", "--url", url, "status", "k"][..],
        &["-v", "--url", url, "run", "k", "--", "env"],
        &["-v", "--url", url, "--help"],
        &["-v", "--url", "redis://ann:hunter2 @h", "list"],
        &["-v", "--url", url, "--nonsense"],
    ] {
        let ended: Ended = place.lockctl(arguments).env("LOCK_URL", url).output().unwrap().into();
        let shown = ended.stdout + &ended.stderr;
        assert!(!shown.contains("hunter2"), "{arguments:?}: {shown}");
    }
}

#[test]
fn a_nested_run_of_another_key_works_and_of_the_same_key_is_refused() {
    let place = Place::new();
    let lockctl = env!("CARGO_BIN_EXE_lockctl");
    let other = place.run(&["run", "a", "--", lockctl, "run", "b", "--", "sh", "-c", "exit 7"]);
    assert_eq!((other.code, other.stderr.as_str()), (7, ""));
    let nested = ["run", "a", "--owner", "ann", "--", lockctl, "run", "a", "--owner", "ann"];
    let same = place.run(&[&nested[..], &["--", "true"]].concat());
    assert_eq!(same.code, 75, "the same owner is no re-entry");
    assert!(same.stderr.contains("held by ann"), "{}", same.stderr);
}

/// Runs lockctl with descriptor 3 open on a file, and returns what was written there.
fn result_of(place: &Place, arguments: &str) -> (i32, Value) {
    let lockctl = env!("CARGO_BIN_EXE_lockctl");
    let script = format!("exec {lockctl} {arguments} 3> result");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("LOCK_URL", place.url()).current_dir(place.path(""));
    let ended = finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let line = place.read("result");
    assert!(line.ends_with('\n'), "{arguments}: {line:?} {}", ended.stderr);
    (ended.code, parse(&line))
}

#[test]
fn the_result_descriptor_tells_our_codes_from_the_commands() {
    let place = Place::new();
    let (code, result) = result_of(&place, "run k --result-fd 3 -- sh -c 'exit 75'");
    assert_eq!((code, &result["outcome"], &result["code"]), (75, &json!("completed"), &json!(75)));
    assert!(result["fence"].is_u64());
    assert_eq!(result["signal"], Value::Null);
    let (code, result) = result_of(&place, "run k --result-fd 3 -- sh -c 'kill -9 $$'");
    assert_eq!(
        (code, &result["outcome"], &result["signal"]),
        (137, &json!("completed"), &json!(9))
    );
    let (code, result) = result_of(&place, "run k --result-fd 3 -- no-such-command");
    assert_eq!((code, &result["outcome"]), (127, &json!("not_started")));
    let (code, result) = result_of(&place, "run k --result-fd 3 -- sh -c ': >&3'");
    assert_ne!(code, 0, "the command does not inherit it");
    assert_eq!(result["outcome"], "completed");
    let (code, result) = result_of(&place, "acquire k --hold-for 1h --result-fd 3");
    assert_eq!((code, &result["outcome"]), (0, &json!("acquired")));
    let (code, result) = result_of(&place, "run k --result-fd 3 -- true");
    assert_eq!((code, &result["outcome"], &result["fence"]), (75, &json!("held"), &Value::Null));
    let (code, result) = result_of(&place, "run k --wait 10ms --result-fd 3 -- true");
    assert_eq!((code, &result["outcome"]), (75, &json!("timeout")));
    let (code, result) = result_of(&place, "run k --skip-ok --result-fd 3 -- true");
    assert_eq!((code, &result["outcome"], &result["code"]), (0, &json!("skipped"), &json!(0)));
    let (code, result) = result_of(&place, "--url nonsense: run k --result-fd 3 -- true");
    assert_eq!((code, &result["outcome"]), (78, &json!("config")));
}

#[test]
fn without_any_url_the_locks_are_in_the_users_state_directory() {
    let place = Place::new();
    let state = place.path("state");
    let in_state = || {
        let mut command = place.lockctl(&["run", "k", "--", "sh", "-c", "echo $LOCK_URL"]);
        command.env_remove("LOCK_URL").env("XDG_STATE_HOME", &state).env("HOME", "/nowhere");
        Ended::from(command.output().unwrap())
    };
    let first = in_state();
    let folder = state.join("lockctl");
    assert_eq!(first.stdout, format!("sqlite://{}/locks.db\n", folder.display()));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let mut at_home = place.lockctl(&["run", "k", "--", "true"]);
    at_home
        .env_remove("LOCK_URL")
        .env("XDG_STATE_HOME", "relative")
        .env("HOME", place.path("home"));
    assert_eq!(at_home.output().unwrap().status.code(), Some(0));
    assert!(place.path("home/.local/state/lockctl/locks.db").exists());
}

#[test]
fn a_flag_is_over_the_environment_which_is_over_the_file() {
    let place = Place::new();
    fs::write(place.path("lock.yaml"), "url: sqlite:file.db\ndefault_ttl: 7s\n").unwrap();
    let url = |arguments: &[&str], variable: &str| {
        let command = ["--config", "lock.yaml", "run", "k", "--", "sh", "-c", "echo $LOCK_URL"];
        let mut command = place.lockctl(&[arguments, &command[..]].concat());
        command.env("LOCK_URL", variable);
        Ended::from(command.output().unwrap()).stdout
    };
    assert_eq!(url(&[], ""), "sqlite:file.db\n");
    assert_eq!(url(&[], "sqlite:env.db"), "sqlite:env.db\n");
    assert_eq!(url(&["--url", "sqlite:flag.db"], "sqlite:env.db"), "sqlite:flag.db\n");
}

#[test]
fn a_reader_that_goes_away_early_is_no_error() {
    let place = Place::new();
    place.run(&["acquire", "a", "--hold-for", "1h"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.lockctl(&["list"]);
    let ended: Ended = command.stdout(writer).output().unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}

#[test]
fn min_hold_keeps_the_lock_after_the_command() {
    let place = Place::new();
    let start = std::time::Instant::now();
    assert_eq!(place.run(&["run", "k", "--min-hold", "3s", "--", "true"]).code, 0);
    assert_eq!(place.run(&["run", "k", "--", "true"]).code, 75);
    assert_eq!(place.run(&["run", "k", "--wait", "20s", "--", "true"]).code, 0);
    assert!(start.elapsed().as_millis() >= 2990, "{:?}", start.elapsed());
}

#[test]
fn the_schema_is_what_the_store_accepts_as_its_own() {
    let place = Place::new();
    let schema = place.run(&["schema"]).stdout;
    assert!(schema.starts_with("CREATE TABLE") && schema.ends_with(";\n"), "{schema}");
    assert!(!place.path("locks.db").exists(), "nothing was opened");
    let json = parse(&place.run(&["schema", "--json"]).stdout);
    let bare = |text: &str| text.trim_end().trim_end_matches(';').to_owned();
    assert_eq!(bare(json["schema"].as_str().unwrap()), bare(&schema));
    let database = rusqlite::Connection::open(place.path("locks.db")).unwrap();
    database.execute_batch(&schema).unwrap();
    assert_eq!(place.run(&["run", "k", "--", "true"]).code, 0);
    let memory = place.run(&["--url", "memory:", "schema"]);
    assert_eq!((memory.code, memory.stdout.as_str()), (0, ""));
    assert_eq!(memory.stderr, "lockctl: the store needs nothing to be created\n");
    let json = parse(&place.run(&["--url", "memory:", "schema", "--json"]).stdout);
    assert_eq!(json, json!({"schema": null}));
}

#[test]
fn keys_and_owners_are_cut_on_a_terminal_only() {
    let place = Place::new();
    let (key, owner) = ("k".repeat(100), "o".repeat(100));
    for (key, owner) in [(key.as_str(), owner.as_str()), ("short", "ann")] {
        place.run(&["acquire", key, "--owner", owner, "--hold-for", "1h"]);
    }
    let piped = place.run(&["list"]).stdout;
    assert!(piped.contains(&key) && piped.contains(&owner), "{piped}");
    let tty = Tty::lockctl(&place, &["list"], &[]);
    tty.resize(24, 120);
    tty.shows("short");
    tty.shows("WAITING");
    let screen = tty.screen();
    assert!(screen.contains("kk…kk") && screen.contains("oo…oo"), "{screen}");
    assert!(String::from_utf8_lossy(&tty.bytes()).contains("\u{1b}[1m"), "the heading is bold");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = Tty::lockctl(&place, &["list"], &[variable]);
        plain.shows("short");
        let bytes = plain.bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains("\u{1b}["), "no colour at all");
    }
}

#[test]
fn a_narrow_terminal_goes_without_what_says_least() {
    let place = Place::new();
    let key = "orders:2026-11-21:eu-west-1:customer-42";
    place.run(&["acquire", key, "--owner", "ann@web-1:7301", "--hold-for", "1h"]);
    let tty = Tty::lockctl(&place, &["list"], &[]);
    tty.shows("WAITING");
    let screen = tty.screen();
    assert!(!screen.contains("FENCE") && !screen.contains("ACQUIRED"), "{screen}");
    assert!(screen.contains("ann@web-1:7301") && screen.contains("exclusive"), "{screen}");
    assert_eq!(screen.trim_end().lines().count(), 2, "nothing is wrapped: {screen}");
}
