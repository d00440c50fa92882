//! Signals reach the job, once, and end a wait with nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::eventually;
use common::finish;
use common::id;
use common::is_alive;
use common::kill;
use common::state;
use rustix::process::Signal;

fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn signals_are_passed_on_once() {
    let place = Place::new();
    let script = "for s in HUP INT QUIT USR1 USR2; do trap \"echo $s >> got\" $s; done
        trap 'exit 5' TERM; > ready; while :; do sleep 0.01; done";
    let lockctl = place.start_job(&["run", "k"], "job", script);
    eventually("the traps are set", || place.path("ready").exists());
    let mut expected = String::new();
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        if is_ignored(signal) {
            // As under nohup: then nobody below can trap it, nor is it passed on.
            continue;
        }
        expected += &format!("{name}\n");
        kill(id(&lockctl), signal);
        eventually(name, || place.read("got").len() >= expected.len());
        assert_eq!(place.read("got"), expected);
    }
    kill(id(&lockctl), Signal::TERM);
    assert_eq!(finish(lockctl).code, 5);
    assert_eq!(place.read("got"), expected, "none came twice");
}

#[test]
fn a_job_that_dies_of_a_signal_is_128_and_its_number() {
    let place = Place::new();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let name = format!("job{code}");
        let lockctl = place.start_job(&["run", "k"], &name, "exec sleep 1000");
        kill(id(&lockctl), signal);
        assert_eq!(finish(lockctl).code, code);
        assert!(!is_alive(place.pid(&name)));
    }
}

#[test]
fn a_signal_ends_a_wait_with_128_and_its_number_and_nothing_queued() {
    let place = Place::new();
    let holder = place.start_job(&["run", "k"], "holder", "until [ -e go ]; do sleep 0.01; done");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::USR1, 138)] {
        let mut waiter =
            place.lockctl(&["-v", "run", "k", "--wait", "forever", "--", "touch", "ran"]);
        let mut waiter =
            waiter.stderr(fs::File::create(place.path("said")).unwrap()).spawn().unwrap();
        eventually("it waits", || place.read("said").contains("waiting for \"k\""));
        let start = Instant::now();
        kill(id(&waiter), signal);
        eventually("the waiter ends", || waiter.try_wait().unwrap().is_some());
        let said = place.read("said");
        assert_eq!(waiter.wait().unwrap().code(), Some(code), "{said}");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(said.contains("gave up waiting for \"k\""), "{said}");
    }
    let status = place.run(&["status", "k", "--json"]).stdout;
    assert!(status.contains("\"waiting\":0"), "{status}");
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(finish(holder).code, 0);
    assert_eq!(place.run(&["run", "k", "--", "true"]).code, 0);
    assert!(!place.path("ran").exists());
}

#[test]
fn what_the_caller_ignores_the_job_ignores() {
    let place = Place::new();
    let lockctl = env!("CARGO_BIN_EXE_lockctl");
    let script = format!("trap '' HUP; exec {lockctl} run k -- sh -c 'echo $$ > job; sleep 1000'");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).env("LOCK_URL", place.url()).current_dir(place.path(""));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let lockctl = command.spawn().unwrap();
    eventually("the job runs", || !place.read("job").is_empty());
    let field = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", place.pid("job"))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(field("SigIgn:") & 1, 1, "SIGHUP is ignored");
    // A shell blocks all for the moment of a fork.
    eventually("nothing is blocked", || field("SigBlk:") == 0);
    kill(id(&lockctl), Signal::HUP);
    kill(id(&lockctl), Signal::TERM);
    assert_eq!(finish(lockctl).code, 143);
}

#[test]
fn a_stopped_job_keeps_its_lock_and_goes_on() {
    let place = Place::new();
    let lockctl = place.start_job(&["run", "k", "--ttl", "1s"], "job", "exec sleep 1");
    let job = place.pid("job");
    kill(id(&lockctl), Signal::TSTP);
    eventually("the job stands still", || state(job) == Some('T'));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert!(place.is_locked("k"));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(state(job), Some('T'));
    // With a terminal the process in front has stopped too, and passes on that it goes on.
    kill(id(&lockctl), Signal::CONT);
    assert_eq!(finish(lockctl).code, 0);
}

#[test]
fn a_signal_ends_the_wait_for_a_store_that_does_not_answer() {
    // It takes connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}?connect_timeout=1h&timeout=1h", mute.local_addr().unwrap());
    let place = Place::over(&url);
    for arguments in [&["run", "k", "--", "true"][..], &["acquire", "k", "--hold-for", "1s"]] {
        let lockctl = place.start(arguments);
        let connection = mute.accept().unwrap();
        kill(id(&lockctl), Signal::TERM);
        let ended = finish(lockctl);
        assert_eq!(ended.code, 143, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("gave up waiting for \"k\""), "{}", ended.stderr);
        drop(connection);
    }
}
