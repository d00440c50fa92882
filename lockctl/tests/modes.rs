//! Several holders at once, and waiters in order, where the store can do that.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs;

use common::Place;
use common::eventually;
use common::finish;
use common::tty::Tty;
use serde_json::Value;
use serde_json::json;

/// Tells whether the store of a place has a mode or order, by its own word.
fn has(place: &Place, what: &str) -> bool {
    let profile = place.run(&["profile", "--json"]).stdout;
    let profile: Value = serde_json::from_str(&profile).unwrap();
    profile[what].as_bool().unwrap()
}

/// Checks that a call the store cannot do is refused by name, and returns whether it can.
fn can(place: &Place, what: &str, arguments: &[&str], named: &str) -> bool {
    if has(place, what) {
        return true;
    }
    let refused = place.run(arguments);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let sentence =
        format!("lockctl: lock \"k\" on sqlite: {named} is not supported by backend sqlite\n");
    assert_eq!(refused.stderr, sentence);
    assert!(!place.is_locked("k"));
    false
}

#[test]
fn memory_has_every_mode_and_says_which_was_taken() {
    let place = Place::new();
    for mode in ["exclusive", "shared", "permits:3"] {
        let arguments =
            ["--url", "memory:", "-v", "run", "k", "--fair", "--mode", mode, "--", "true"];
        let ended = place.run(&arguments);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("acquired \"k\" {mode} as ")), "{}", ended.stderr);
    }
}

#[test]
fn readers_share_and_writers_wait() {
    let place = Place::new();
    let shared = ["acquire", "k", "--hold-for", "1h", "--mode", "shared", "--owner"];
    if !can(&place, "shared", &[&shared[..], &["ann"]].concat(), "mode shared") {
        return;
    }
    for owner in ["ann", "bob"] {
        assert_eq!(place.run(&[&shared[..], &[owner]].concat()).code, 0);
    }
    let status: Value =
        serde_json::from_str(&place.run(&["status", "k", "--json"]).stdout).unwrap();
    let modes: Vec<_> =
        status["holders"].as_array().unwrap().iter().map(|holder| &holder["mode"]).collect();
    assert_eq!(modes, [&json!("shared"), &json!("shared")]);
    let listed = place.run(&["list"]).stdout;
    assert_eq!(
        listed
            .lines()
            .filter(|line| line.starts_with("k  ") && line.contains("  shared  "))
            .count(),
        2,
        "{listed}"
    );
    let tty = Tty::lockctl(&place, &["watch"], &[]);
    tty.shows("2 rows");
    tty.shows_that("both", |screen| {
        screen.contains("ann") && screen.contains("bob") && screen.contains("1 held")
    });
    let writer = place.run(&["run", "k", "--", "true"]);
    assert_eq!(writer.code, 75);
    assert!(
        writer.stderr.contains(", shared, fence ") && writer.stderr.contains(" and 1 more"),
        "{}",
        writer.stderr
    );
}

#[test]
fn permits_are_counted_and_their_number_is_agreed_on() {
    let place = Place::new();
    let acquire = |mode: &str| place.run(&["acquire", "k", "--hold-for", "1h", "--mode", mode]);
    let call = ["acquire", "k", "--hold-for", "1h", "--mode", "permits:2"];
    if !can(&place, "permits", &call, "mode permits:2") {
        return;
    }
    let handle = acquire("permits:2").stdout;
    assert_eq!(acquire("permits:2").code, 0);
    assert_eq!(acquire("permits:2").code, 75);
    let other = acquire("permits:3");
    assert_eq!(other.code, 65, "{}", other.stderr);
    assert!(other.stderr.contains("permits:2"), "it names the number in use: {}", other.stderr);
    assert_eq!(place.run(&["release", handle.trim()]).code, 0);
    assert_eq!(acquire("permits:2").code, 0);
}

#[test]
fn fair_waiters_are_served_as_they_came() {
    let place = Place::new();
    if !can(&place, "fair", &["run", "k", "--fair", "--wait", "1s", "--", "true"], "fair order") {
        return;
    }
    let holder = place.start_job(&["run", "k"], "holder", "until [ -e go ]; do sleep 0.01; done");
    let waiting = |count: usize| {
        place.run(&["status", "k", "--json"]).stdout.contains(&format!("\"waiting\":{count}"))
    };
    let waiters: Vec<_> = (1..=4)
        .map(|n| {
            let script = format!("echo {n} >> order");
            let waiter =
                place.start(&["run", "k", "--fair", "--wait", "30s", "--", "sh", "-c", &script]);
            eventually("it is in line", || waiting(n));
            waiter
        })
        .collect();
    let tty = Tty::lockctl(&place, &["run", "k", "--fair", "--wait", "30s", "--", "true"], &[]);
    // Whether the holder counts too is the store's to say.
    tty.shows_that("its place", |screen| {
        screen.contains(", 4 ahead") || screen.contains(", 5 ahead")
    });
    fs::write(place.path("go"), "").unwrap();
    for waiter in waiters {
        assert_eq!(finish(waiter).code, 0);
    }
    assert_eq!(place.read("order"), "1\n2\n3\n4\n");
    assert_eq!(finish(holder).code, 0);
}

#[test]
fn the_line_on_a_terminal_tells_what_is_waited_for() {
    let place = Place::new();
    let holder = place.start_job(
        &["run", "k", "--owner", "ann"],
        "up",
        "until [ -e go ]; do sleep 0.01; done",
    );
    let tty = Tty::start(
        &place,
        "sh -c '\"$L\" run k --wait 1m -- true; echo code $?; read x'",
        &[],
        &[],
    );
    tty.shows(" s waiting for \"k\", held by ann, fence ");
    fs::write(place.path("go"), "").unwrap();
    tty.shows("code 0");
    assert!(!tty.screen().contains("waiting"), "{}", tty.screen());
    tty.types("\n");
    assert_eq!(finish(holder).code, 0);
}
