//! The job never runs on without the lock, whoever is killed or frozen.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::env;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::eventually;
use common::finish;
use common::guardian;
use common::id;
use common::is_alive;
use common::keeper;
use common::kill;
use common::state;
use rustix::process::Signal;

const TTL: Duration = Duration::from_secs(1);

/// How long the dying may take on a machine with too much to do: less than the TTL.
const AT_ONCE: Duration = Duration::from_millis(900);

/// A job with a child, a grandchild whose parent is dead, and one in a session of its own, none of
/// which ends by itself or on SIGTERM.
const FAMILY: &str = "trap '' TERM
    sleep 1000 & echo $! > child
    sh -c 'trap \"\" TERM; sleep 1000 & echo $! > orphan'
    setsid sh -c 'echo $$ > daemon; exec sleep 1000' &
    until [ -s daemon ]; do sleep 0.01; done
    > ready
    while :; do sleep 0.01; done";

fn start_family(place: &Place) -> (std::process::Child, [i32; 4]) {
    let lockctl = place.start_job(&["run", "k", "--ttl", "1s"], "job", FAMILY);
    eventually("the family lives", || place.path("ready").exists());
    (lockctl, ["job", "child", "orphan", "daemon"].map(|name| place.pid(name)))
}

fn next_holder(place: &Place) -> u64 {
    let next = place.run(&["run", "k", "--wait", "30s", "--", "sh", "-c", "echo $LOCK_FENCE"]);
    assert_eq!(next.code, 0, "{}", next.stderr);
    next.stdout.trim().parse().unwrap()
}

/// Waits until all are dead and returns how long it took.
fn death_of(family: [i32; 4]) -> Duration {
    let start = Instant::now();
    eventually("the family is dead", || !family.into_iter().any(is_alive));
    start.elapsed()
}

#[test]
fn when_lockctl_is_killed_the_job_dies_at_once_and_the_next_holder_comes_with_the_ttl() {
    let rounds = if env::var_os("LOCK_TEST_FULL").is_some() { 200 } else { 20 };
    let place = Place::new();
    let (mut slowest_death, mut slowest_next, mut last) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..rounds {
        let (mut lockctl, family) = start_family(&place);
        let killed = Instant::now();
        kill(id(&lockctl), Signal::KILL);
        let death = death_of(family);
        assert!(death < AT_ONCE, "{death:?}");
        let fence = next_holder(&place);
        let next = killed.elapsed();
        assert!(next < TTL + Duration::from_secs(1), "{next:?}");
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        lockctl.wait().unwrap();
        slowest_death = slowest_death.max(death);
        slowest_next = slowest_next.max(next);
        for name in ["job", "child", "orphan", "daemon", "ready"] {
            std::fs::remove_file(place.path(name)).unwrap();
        }
    }
    println!(
        "{rounds} rounds: job dead after {slowest_death:?}, next holder after {slowest_next:?}"
    );
}

/// Writes the time as long as it runs, whatever SIGTERM says.
const STUBBORN: &str = "trap '' TERM; while :; do date +%s%N >> beats; done";

/// A resource that refuses who comes with a lower fence than it has seen.
#[derive(Default)]
struct Fenced(u64);

impl Fenced {
    fn write(&mut self, fence: u64) -> bool {
        let accepted = fence >= self.0;
        self.0 = self.0.max(fence);
        accepted
    }
}

fn fence(place: &Place, name: &str) -> u64 {
    place.read(name).trim().parse().unwrap()
}

#[test]
fn when_lockctl_is_frozen_the_guardian_kills_the_job_before_the_next_holder_has_the_key() {
    let place = Place::new();
    let script = format!("echo $LOCK_FENCE > old; {STUBBORN}");
    let frozen = place.start_job(&["run", "k", "--ttl", "1s"], "job", &script);
    eventually("the fence is noted", || !place.read("old").is_empty());
    kill(keeper(&frozen), Signal::STOP);
    let start = Instant::now();
    let next = place.start_job(
        &["run", "k", "--wait", "30s", "--ttl", "30s"],
        "next",
        "echo $LOCK_FENCE > new; date +%s%N > got; until [ -e done ]; do sleep 0.02; done",
    );
    eventually("the next holder runs", || !place.read("got").is_empty());
    let taken_over = start.elapsed();
    assert!(!is_alive(place.pid("job")), "the job runs beside the next holder");
    assert_eq!(state(keeper(&frozen)), Some('T'), "lockctl is still frozen");
    let last_beat: u128 = place.read("beats").lines().last().unwrap().parse().unwrap();
    let got: u128 = place.read("got").trim().parse().unwrap();
    assert!(last_beat < got, "the job was at work {} ns into the next hold", last_beat - got);
    println!(
        "job silent {} us before the next holder, {taken_over:?} after the freeze",
        (got - last_beat) / 1000
    );

    kill(keeper(&frozen), Signal::CONT);
    let frozen = finish(frozen);
    assert_eq!(frozen.code, 76, "{}", frozen.stderr);
    assert!(frozen.stderr.starts_with("lockctl: lost \"k\": "), "{}", frozen.stderr);
    assert!(frozen.stderr.contains("the command was stopped"), "{}", frozen.stderr);
    assert!(place.is_locked("k"), "the next holder is untouched");
    let mut resource = Fenced::default();
    assert!(resource.write(fence(&place, "old")), "the first holder wrote while it held");
    assert!(resource.write(fence(&place, "new")));
    assert!(!resource.write(fence(&place, "old")), "a late write of the frozen holder");
    std::fs::write(place.path("done"), "").unwrap();
    assert_eq!(finish(next).code, 0);
}

#[test]
fn a_job_that_obeys_sigterm_can_end_by_itself_before_the_deadline() {
    let place = Place::new();
    let script = "trap 'echo asked > asked; exit 0' TERM; while :; do sleep 0.01; done";
    let frozen = place.start_job(&["run", "k", "--ttl", "2s", "--grace", "1500ms"], "job", script);
    kill(keeper(&frozen), Signal::STOP);
    let start = Instant::now();
    eventually("the job has ended", || !is_alive(place.pid("job")));
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    assert_eq!(place.read("asked"), "asked\n");
    kill(keeper(&frozen), Signal::CONT);
    assert_eq!(finish(frozen).code, 76, "it was stopped because of the lock");
}

#[test]
fn when_the_guardian_is_killed_lockctl_kills_the_job_releases_and_says_so() {
    let place = Place::new();
    let (lockctl, family) = start_family(&place);
    kill(guardian(&lockctl), Signal::KILL);
    death_of(family);
    let lockctl = finish(lockctl);
    assert_eq!(lockctl.code, 70);
    assert_eq!(
        lockctl.stderr,
        "lockctl: the guardian was killed; the command was killed, the lock released\n"
    );
    assert_eq!(place.run(&["run", "k", "--", "true"]).code, 0, "the lock is free at once");
}

#[test]
fn what_the_command_leaves_behind_is_dead_before_the_lock_is_free() {
    let place = Place::new();
    let script = "sleep 1000 & echo $! > child
        sh -c 'setsid sh -c \"echo \\$\\$ > daemon; exec sleep 1000\" &'
        until [ -s daemon ]; do sleep 0.01; done
        exit 4";
    let lockctl = place.start_job(&["run", "k"], "job", script);
    assert_eq!(finish(lockctl).code, 4);
    for name in ["child", "daemon"] {
        assert!(!is_alive(place.pid(name)), "{name}");
    }
}

#[test]
fn a_lock_that_is_taken_away_ends_the_job_and_is_76() {
    let place = Place::new();
    let lockctl = place.start_job(&["run", "k", "--ttl", "1s"], "job", "trap '' TERM; sleep 1000");
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    let lockctl = finish(lockctl);
    assert_eq!(lockctl.code, 76, "{}", lockctl.stderr);
    assert!(!is_alive(place.pid("job")));
}

#[test]
fn a_lock_that_is_lost_without_notice_is_76_although_the_command_succeeded() {
    let place = Place::new();
    let lockctl = place.start_job(
        &["run", "k", "--ttl", "60s"],
        "job",
        "until [ -e go ]; do sleep 0.01; done",
    );
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    std::fs::write(place.path("go"), "").unwrap();
    let lockctl = finish(lockctl);
    assert_eq!(lockctl.code, 76, "{}", lockctl.stderr);
}

#[test]
fn when_the_guardian_is_frozen_lockctl_still_kills_a_job_without_a_lock() {
    let place = Place::new();
    let lockctl = place.start_job(&["run", "k", "--ttl", "1s"], "job", STUBBORN);
    let guardian = guardian(&lockctl);
    kill(guardian, Signal::STOP);
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    eventually("the job is dead", || !is_alive(place.pid("job")));
    assert_eq!(state(guardian), Some('T'));
    kill(guardian, Signal::CONT);
    assert_eq!(finish(lockctl).code, 76);
}

#[test]
fn a_guardian_that_was_frozen_goes_by_the_renewals_it_has_missed() {
    let place = Place::new();
    let script = "until [ -e done ]; do sleep 0.02; done; exit 5";
    let lockctl = place.start_job(&["run", "k", "--ttl", "1s"], "job", script);
    let guardian = guardian(&lockctl);
    kill(guardian, Signal::STOP);
    // What it knows of ends within the TTL.
    thread::sleep(TTL * 3 / 2);
    kill(guardian, Signal::CONT);
    std::fs::write(place.path("done"), "").unwrap();
    let lockctl = finish(lockctl);
    assert_eq!(lockctl.code, 5, "{}", lockctl.stderr);
}
