//! One leads, whoever is killed, frozen or robbed; a command stopped for that is started anew.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs;
use std::process::Child;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::children;
use common::eventually;
use common::finish;
use common::guardian;
use common::id;
use common::is_alive;
use common::keeper;
use common::kill;
use common::state;
use rustix::process::Signal;

/// Notes its fence and process, and goes on until it is stopped.
const LEAD: &str = "echo $$ $LOCK_FENCE >> terms; exec sleep 1000";

fn start(place: &Place, arguments: &[&str], script: &str) -> Child {
    let call = [&["elect", "k"][..], arguments, &["--", "sh", "-c", script]].concat();
    let mut command = place.lockctl(&call);
    command.stderr(fs::File::create(place.path("said")).unwrap());
    command.spawn().unwrap()
}

/// The process and the fence of each term so far.
fn terms(place: &Place) -> Vec<(i32, u64)> {
    let text = place.read("terms");
    let term = |line: &str| {
        let (pid, fence) = line.split_once(' ')?;
        Some((pid.parse().ok()?, fence.parse().ok()?))
    };
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(str::trim_end)
        .filter_map(term)
        .collect()
}

fn until_term(place: &Place, number: usize) -> (i32, u64) {
    eventually("the term begins", || terms(place).len() >= number);
    terms(place)[number - 1]
}

fn ends(mut child: Child) -> i32 {
    eventually("lockctl ends", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code().unwrap()
}

fn rob(place: &Place) {
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
}

#[test]
fn the_command_leads_and_its_end_is_the_end() {
    let place = Place::new();
    let script = "echo \"$LOCK_KEY $LOCK_OWNER\"; cat; exit 7";
    let ended = place.run(&["elect", "k", "--ttl", "5s", "--", "sh", "-c", script]);
    assert_eq!((ended.code, ended.stderr.as_str()), (7, ""));
    assert!(ended.stdout.starts_with("k ") && ended.stdout.contains('@'), "{}", ended.stdout);
    assert!(!place.is_locked("k"));
}

#[test]
fn the_next_leads_at_once_after_a_clean_end() {
    let place = Place::new();
    let first = place.start_job(
        &["elect", "k", "--ttl", "1h"],
        "first",
        "until [ -e go ]; do sleep 0.01; done",
    );
    let second = start(&place, &[], "echo $$ $LOCK_FENCE >> terms; exit 3");
    thread::sleep(Duration::from_millis(300));
    assert!(terms(&place).is_empty(), "one leads already");
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(finish(first).code, 0);
    let start = Instant::now();
    assert_eq!(ends(second), 3);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn the_next_leads_within_the_ttl_after_the_leader_was_killed() {
    let place = Place::new();
    let mut crowd: Vec<_> = (0..4).map(|_| start(&place, &["--ttl", "1s"], LEAD)).collect();
    let mut slowest = Duration::ZERO;
    for term in 1..=4 {
        let (job, fence) = until_term(&place, term);
        assert!(terms(&place)[..term - 1].iter().all(|(_, earlier)| *earlier < fence));
        let leads =
            |child: &mut Child| children(id(child)).iter().any(|pid| children(*pid).contains(&job));
        let leader = crowd.iter_mut().position(leads).expect("the job has a keeper");
        let mut leader = crowd.swap_remove(leader);
        let killed = Instant::now();
        kill(id(&leader), Signal::KILL);
        leader.wait().unwrap();
        if term < 4 {
            until_term(&place, term + 1);
            slowest = slowest.max(killed.elapsed());
            assert!(!is_alive(job), "two lead");
        }
    }
    println!("the next leads after at most {slowest:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

#[test]
fn a_command_that_was_stopped_for_the_lock_is_started_anew() {
    let place = Place::new();
    let elected = start(&place, &["--ttl", "1s"], &format!("trap '' TERM; {LEAD}"));
    for term in 1..=3 {
        let (job, _) = until_term(&place, term);
        if term < 3 {
            rob(&place);
            let (_, fence) = until_term(&place, term + 1);
            assert!(!is_alive(job), "the old command runs beside the new one");
            assert!(fence > terms(&place)[term - 1].1);
        }
    }
    let line = "lockctl: lost \"k\": the store no longer had it; the command was stopped; contending again\n";
    assert_eq!(place.read("said"), line.repeat(2));
    assert_eq!(
        children(id(&elected)).len(),
        1,
        "no guardian of an earlier term is left, dead or alive"
    );
    kill(id(&elected), Signal::USR1);
    assert_eq!(ends(elected), 138);
    assert!(!place.is_locked("k"));
}

#[test]
fn a_frozen_leader_is_stopped_and_contends_again_when_it_thaws() {
    let place = Place::new();
    // It obeys SIGTERM and ends with 0, which is still no end of its own.
    let script = "echo $$ $LOCK_FENCE >> terms; trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let frozen = start(&place, &["--ttl", "1s"], script);
    let (job, _) = until_term(&place, 1);
    kill(id(&frozen), Signal::STOP);
    let other = place.start_job(&["elect", "k"], "other", "until [ -e go ]; do sleep 0.01; done");
    assert!(!is_alive(job), "two lead");
    assert_eq!(state(id(&frozen)), Some('T'));
    kill(id(&frozen), Signal::CONT);
    eventually("it notices", || place.read("said").contains("contending again"));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(terms(&place).len(), 1, "the other one leads");
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(finish(other).code, 0);
    until_term(&place, 2);
    kill(id(&frozen), Signal::TERM);
    assert_eq!(ends(frozen), 0, "now its end is its own");
    assert_eq!(terms(&place).len(), 2);
}

#[test]
fn a_command_that_ends_by_itself_after_an_unnoticed_loss_ends_it_with_76() {
    let place = Place::new();
    let script = "echo $$ $LOCK_FENCE >> terms; until [ -e go ]; do sleep 0.01; done";
    let elected = start(&place, &["--ttl", "60s"], script);
    until_term(&place, 1);
    rob(&place);
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(ends(elected), 76, "{}", place.read("said"));
    assert!(
        place.read("said").contains("the command had ended by itself"),
        "{}",
        place.read("said")
    );
    assert_eq!(terms(&place).len(), 1);
}

#[test]
fn a_signal_ends_the_wait_with_nothing_queued() {
    let place = Place::new();
    let holder = place.start_job(&["run", "k"], "holder", "until [ -e go ]; do sleep 0.01; done");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let waiter = start(&place, &[], LEAD);
        thread::sleep(Duration::from_millis(200));
        kill(id(&waiter), signal);
        assert_eq!(ends(waiter), code);
    }
    let status = place.run(&["status", "k", "--json"]).stdout;
    assert!(status.contains("\"waiting\":0"), "{status}");
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(finish(holder).code, 0);
    assert!(terms(&place).is_empty());
}

#[test]
fn signals_reach_the_command_that_leads_each_time() {
    let place = Place::new();
    let script = "trap 'echo TERM >> got' TERM; trap 'echo HUP >> got; exit 4' HUP
        echo $$ $LOCK_FENCE >> terms; while :; do sleep 0.01; done";
    let elected = start(&place, &[], script);
    until_term(&place, 1);
    for times in 1..=2 {
        kill(id(&elected), Signal::TERM);
        eventually("it arrives", || place.read("got") == "TERM\n".repeat(times));
    }
    kill(id(&elected), Signal::HUP);
    assert_eq!(ends(elected), 4);
}

#[test]
fn after_sigterm_no_new_term_begins() {
    let place = Place::new();
    let elected = start(&place, &["--ttl", "1s"], &format!("trap '' TERM; {LEAD}"));
    until_term(&place, 1);
    kill(id(&elected), Signal::TERM);
    thread::sleep(Duration::from_millis(100));
    rob(&place);
    assert_eq!(ends(elected), 76, "{}", place.read("said"));
    assert_eq!(terms(&place).len(), 1);
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    let place = Place::new();
    assert_eq!(place.run(&["list"]).code, 0);
    let hog = rusqlite::Connection::open(place.path("locks.db")).unwrap();
    hog.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let url = format!("{}?timeout=300ms", place.url());
    let elected = start(&place, &["--url", &url], "exit 9");
    let said = || place.read("said");
    eventually("it says so", || {
        said().contains("; still trying\n") || said().contains("; trying again in ")
    });
    hog.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ends(elected), 9);
    assert!(said().starts_with("lockctl: "), "{}", said());
    assert!(said().lines().count() <= 3, "it does not flood: {}", said());
}

#[test]
fn a_store_that_goes_away_while_it_waits_is_waited_for() {
    let place = Place::new();
    let held = place.run(&["acquire", "k", "--hold-for", "2s"]);
    assert_eq!(held.code, 0, "{}", held.stderr);
    let elected = start(&place, &["-v"], "exit 9");
    eventually("it waits", || place.read("said").contains("waiting for \"k\""));
    // Questions are still answered, but when the key is free it cannot be taken.
    let hog = rusqlite::Connection::open(place.path("locks.db")).unwrap();
    hog.execute_batch("BEGIN EXCLUSIVE").unwrap();
    eventually("it says so", || place.read("said").contains("; still trying\n"));
    hog.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ends(elected), 9);
    let said = place.read("said");
    assert_eq!(said.matches("still trying").count(), 1, "{said}");
    assert_eq!(said.matches("the store answers again").count(), 1, "{said}");
}

#[test]
fn a_signal_ends_the_wait_for_a_store() {
    let place = Place::new();
    assert_eq!(place.run(&["list"]).code, 0);
    let hog = rusqlite::Connection::open(place.path("locks.db")).unwrap();
    hog.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let url = format!("{}?timeout=300ms", place.url());
    let elected = start(&place, &["--url", &url], LEAD);
    eventually("it says so", || place.read("said").contains("trying"));
    kill(id(&elected), Signal::TERM);
    assert_eq!(ends(elected), 143);
}

#[test]
fn what_cannot_get_better_ends_it_at_once() {
    let place = Place::new();
    let long = "x".repeat(513);
    for (arguments, code) in [
        (&["elect", "k"][..], 2),
        (&["elect", "k", "--", "no-such-command"], 127),
        (&["elect", "k", "--ttl", "9000h", "--", "true"], 2),
        (&["elect", "k", "--wait", "1s", "--", "true"], 2),
        (&["elect", "", "--", "true"], 65),
        (&["elect", &long, "--", "true"], 65),
        (&["--url", "nonsense:", "elect", "k", "--", "true"], 78),
        (&["--url", "sqlite:no/such/folder.db", "elect", "k", "--", "true"], 78),
    ] {
        assert_eq!(place.run(arguments).code, code, "{arguments:?}");
    }
    assert!(!place.is_locked("k"));
}

#[test]
fn when_the_guardian_is_killed_the_election_ends() {
    let place = Place::new();
    let elected = start(&place, &[], LEAD);
    let (job, _) = until_term(&place, 1);
    kill(guardian(&elected), Signal::KILL);
    assert_eq!(ends(elected), 70, "{}", place.read("said"));
    assert!(!is_alive(job));
    assert!(!place.is_locked("k"));
}

#[test]
fn a_keeper_that_is_killed_takes_the_command_along() {
    let place = Place::new();
    let mut elected = start(&place, &[], LEAD);
    let (job, _) = until_term(&place, 1);
    kill(keeper(&elected), Signal::KILL);
    eventually("the command is dead", || !is_alive(job));
    elected.wait().unwrap();
}

#[test]
fn the_command_gets_the_input() {
    let place = Place::new();
    fs::write(place.path("input"), "input\n").unwrap();
    let mut command = place.lockctl(&["elect", "k", "--", "cat"]);
    let input = fs::File::open(place.path("input")).unwrap();
    let output = command.stdin(Stdio::from(input)).output().unwrap();
    assert_eq!(output.stdout, b"input\n");
}
