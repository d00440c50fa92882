//! Every exit code, and the sentence that comes with it.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use common::Place;
use common::finish;

/// Runs a call that fails and returns what it says.
#[track_caller]
fn refused(place: &Place, arguments: &[&str], code: i32) -> String {
    let ended = place.run(arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{arguments:?}");
    ended.stderr
}

#[track_caller]
fn says(place: &Place, arguments: &[&str], code: i32, sentence: &str) {
    let stderr = refused(place, arguments, code);
    assert!(stderr.contains(sentence), "{arguments:?}: {stderr}");
    if code != 2 {
        assert!(stderr.starts_with("lockctl: "), "{stderr}");
    }
}

#[test]
fn the_code_of_the_command_is_passed_on() {
    let place = Place::new();
    for code in [0, 1, 3, 75, 126, 255] {
        let ended = place.run(&["run", "k", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""));
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("USR1", 138)] {
        let script = format!("kill -{signal} $$");
        assert_eq!(place.run(&["run", "k", "--", "sh", "-c", &script]).code, code);
    }
    assert!(!place.is_locked("k"));
}

#[test]
fn what_cannot_be_started_is_126_or_127_and_leaves_nothing_held() {
    let place = Place::new();
    let plain = place.path("plain");
    fs::write(&plain, "x").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    says(&place, &["run", "k", "--", plain.to_str().unwrap()], 126, "cannot run");
    says(&place, &["run", "k", "--", "/"], 126, "cannot run");
    says(&place, &["run", "k", "--", "no-such-command"], 127, "cannot run \"no-such-command\"");
    assert!(!place.is_locked("k"));
}

#[test]
fn held_is_75_and_names_the_holder() {
    let place = Place::new();
    let gate = place.path("open");
    let script = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    let holder = place.start_job(&["run", "k", "--owner", "ann"], "up", &script);
    says(&place, &["run", "k", "--", "true"], 75, "lockctl: \"k\" is held by ann, fence ");
    says(
        &place,
        &["run", "k", "--wait", "50ms", "--", "true"],
        75,
        "the wait is over, \"k\" is held",
    );
    says(&place, &["run", "k", "--skip-ok", "--", "true"], 0, "is held by ann, fence ");
    says(&place, &["acquire", "k", "--hold-for", "1s"], 75, "held by ann");
    fs::write(gate, "").unwrap();
    assert_eq!(finish(holder).code, 0);
}

#[test]
fn usage_is_2() {
    let place = Place::new();
    for arguments in [
        &["run", "k"][..],
        &["run", "k", "--ttl", "0", "--", "true"],
        &["run", "k", "--ttl", "5", "--", "true"],
        &["run", "k", "--wait", "never", "--", "true"],
        &["run", "k", "--owner", "", "--", "true"],
        &["run", "k", "--result-fd", "1", "--", "true"],
        &["acquire", "k"],
        &["release", "rubbish"],
        &["nonsense"],
        &[],
    ] {
        refused(&place, arguments, 2);
    }
    says(&place, &["unlock", "k"], 2, "add --force");
    says(&place, &["run", "k", "--result-fd", "77", "--", "true"], 2, "--result-fd 77: ");
    says(&place, &["run", "k", "--ttl", "99999h", "--", "true"], 2, "--ttl may be at most");
    let held_long = ["run", "k", "--min-hold", "99999h", "--", "true"];
    says(&place, &held_long, 2, "--min-hold may be at most 31536000 s on sqlite");
    says(
        &place,
        &["run", "k", "--ttl", "1s", "--grace", "1s", "--", "true"],
        2,
        "--grace must be shorter than --ttl, which is 1.0 s",
    );
    says(
        &place,
        &["--url", "memory:", "acquire", "k", "--hold-for", "1s"],
        2,
        "cannot work with memory",
    );
}

#[test]
fn a_key_that_cannot_be_is_65() {
    let place = Place::new();
    let long = "x".repeat(513);
    for key in ["", long.as_str()] {
        says(&place, &["run", key, "--", "true"], 65, "a key m");
        says(&place, &["status", key], 65, "a key m");
    }
    let mut command = place.lockctl(&["run"]);
    command.arg(OsStr::from_bytes(b"\xff")).args(["--", "true"]);
    let ended: common::Ended = command.output().unwrap().into();
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("must be UTF-8"), "{}", ended.stderr);
}

#[test]
fn a_bad_url_or_config_is_78() {
    let place = Place::new();
    let file = place.path("lock.yaml");
    fs::write(&file, "provder: sqlite").unwrap();
    let file = file.to_str().unwrap();
    for arguments in [
        &["--url", "nonsense", "list"][..],
        &["--url", "nonsense:x", "list"],
        &["--url", "sqlite:x.db?tabel=t", "list"],
        &["--config", "/nowhere.yaml", "list"],
        &["--config", file, "list"],
    ] {
        assert!(refused(&place, arguments, 78).starts_with("lockctl: "));
    }
    let mut homeless = place.lockctl(&["list"]);
    let homeless = homeless.env_remove("LOCK_URL").env_remove("HOME").env_remove("XDG_STATE_HOME");
    let ended: common::Ended = homeless.output().unwrap().into();
    assert_eq!(ended.code, 78);
    assert!(ended.stderr.contains("give --url or set LOCK_URL"), "{}", ended.stderr);
}

#[test]
fn a_store_that_is_not_there_is_69() {
    let place = Place::new();
    assert_eq!(place.run(&["list"]).code, 0);
    let hog = rusqlite::Connection::open(place.path("locks.db")).unwrap();
    hog.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let url = format!("{}?timeout=200ms", place.url());
    says(&place, &["--url", &url, "run", "k", "--", "true"], 69, "lockctl: ");
}

#[test]
fn what_is_not_held_is_1() {
    let place = Place::new();
    let handle = place.run(&["acquire", "k", "--hold-for", "1h"]).stdout;
    let handle = handle.trim();
    assert_eq!(place.run(&["renew", handle, "--hold-for", "2h"]).code, 0);
    assert_eq!(place.run(&["release", handle]).code, 0);
    says(&place, &["release", handle], 1, "does not hold the lock any more");
    says(&place, &["renew", handle, "--hold-for", "1h"], 1, "does not hold the lock any more");
    says(&place, &["unlock", "--force", "k"], 1, "nobody holds \"k\"");
}

#[test]
fn looking_is_0_whatever_it_finds() {
    let place = Place::new();
    for arguments in
        [&["status", "k"][..], &["list"], &["list", "none"], &["cleanup"], &["profile"]]
    {
        assert_eq!(place.run(arguments).code, 0, "{arguments:?}");
    }
}
