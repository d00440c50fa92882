//! A shell on a terminal: ^C, ^Z, fg and bg, with the lock kept all the while.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::eventually;
use common::id;
use common::is_alive;
use common::kill;
use common::state;
use common::tty::Tty;
use rustix::process::Signal;

#[test]
fn control_z_gives_the_prompt_back_and_the_lock_is_kept() {
    let place = Place::new();
    let shell = Tty::shell(&place);
    shell.types("$L run k --ttl 2s -- sh -c 'echo $$ > job; exec cat'\n");
    eventually("the job runs", || !place.read("job").is_empty());
    let job = place.pid("job");
    shell.types("ping\n");
    shell.sees("ping\r\nping");
    shell.types("\x1a");
    eventually("the job stands still", || state(job) == Some('T'));
    shell.types("echo pro''mpt\n");
    shell.sees("prompt");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert!(place.is_locked("k"));
        thread::sleep(Duration::from_millis(50));
    }
    shell.types("fg\n");
    eventually("the job goes on", || state(job) == Some('S'));
    shell.types("pong\n");
    shell.sees("pong\r\npong");
    shell.types("\x04");
    shell.types("echo co''de $?\n");
    shell.sees("code 0");
    assert!(!place.is_locked("k"));
}

#[test]
fn control_c_reaches_the_job_and_the_shell_has_its_terminal_back() {
    let place = Place::new();
    let shell = Tty::shell(&place);
    shell.types("$L run k -- sh -c 'echo $$ > job; exec sleep 1000'\n");
    eventually("the job runs", || !place.read("job").is_empty());
    shell.types("\x03");
    eventually("the job is dead", || !is_alive(place.pid("job")));
    shell.types("echo co''de $?\n");
    shell.sees("code 130");
    assert!(!place.is_locked("k"));
}

#[test]
fn a_job_in_the_background_waits_for_the_terminal_and_gets_it_with_fg() {
    let place = Place::new();
    let shell = Tty::shell(&place);
    shell.types("$L run k --ttl 1s -- sh -c 'echo $$ > job; read x; echo got $x' &\n");
    eventually("the job runs", || !place.read("job").is_empty());
    eventually("the job stands still", || state(place.pid("job")) == Some('T'));
    shell.types("echo pro''mpt\n");
    shell.sees("prompt");
    shell.types("fg\n");
    eventually("the job goes on", || state(place.pid("job")) != Some('T'));
    shell.types("text\n");
    shell.sees("got text");
}

/// The process group that the terminal of a process belongs to, from `/proc`.
fn foreground_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(5).unwrap().parse().unwrap()
}

#[test]
fn fg_that_comes_before_the_news_of_a_stopped_job_is_not_lost() {
    let place = Place::new();
    let shell = Tty::shell(&place);
    let script = "echo $$ > job; until [ -e go ]; do sleep 0.01; done; read x; echo got $x";
    shell.types(&format!("$L run k -- sh -c '{script}' &\n"));
    eventually("the job runs", || !place.read("job").is_empty());
    let front = common::children(id(&shell.process)).pop().unwrap();
    let keeper = common::children(front).pop().unwrap();
    kill(keeper, Signal::STOP);
    fs::write(place.path("go"), "").unwrap();
    eventually("the job stands still", || state(place.pid("job")) == Some('T'));
    // The front knows nothing of it yet.
    shell.types("fg\n");
    // Or the job has, if the guardian looks at it only now.
    let theirs = [front, place.pid("job")];
    eventually("they have the terminal", || theirs.contains(&foreground_of(front)));
    kill(keeper, Signal::CONT);
    eventually("the job goes on", || state(place.pid("job")) != Some('T'));
    shell.types("text\n");
    shell.sees("got text");
}

#[test]
fn a_pipeline_keeps_the_terminal() {
    let place = Place::new();
    let shell = Tty::shell(&place);
    shell.types("$L run k -- echo out | sh -c 'cat; read x < /dev/tty; echo got $x'\n");
    shell.sees("out");
    shell.types("text\n");
    shell.sees("got text");
}

#[test]
fn whichever_process_of_lockctl_is_killed_the_job_dies() {
    for name in ["__front", "__keep", "__guardian"] {
        let place = Place::new();
        let shell = Tty::shell(&place);
        shell.types("$L run k -- sh -c 'echo $$ > job; trap \"\" TERM HUP; sleep 1000 & wait' &\n");
        eventually("the job runs", || !place.read("job").is_empty());
        let front = common::children(id(&shell.process)).pop().unwrap();
        let keeper = common::children(front).pop().unwrap();
        let guardian = common::children(keeper).pop().unwrap();
        let victim = match name {
            "__front" => front,
            "__keep" => keeper,
            _ => guardian,
        };
        kill(victim, Signal::KILL);
        eventually("the job is dead", || !is_alive(place.pid("job")));
        eventually("the others end", || ![front, keeper, guardian].into_iter().any(is_alive));
        if name != "__keep" {
            assert!(!place.is_locked("k"), "the lock is released at once");
        }
        shell.types("wait; echo do''ne\n");
        shell.sees("done");
    }
}

#[test]
fn an_election_can_be_stopped_and_continued_while_it_waits_and_while_it_leads() {
    let place = Place::new();
    let holder = place.start_job(&["run", "k"], "holder", "until [ -e go ]; do sleep 0.01; done");
    let shell = Tty::shell(&place);
    shell.types("$L elect k --ttl 1s -- sh -c 'echo $$ > job; exec cat'\n");
    shell.sees(" waiting for \"k\"");
    let front = common::children(id(&shell.process)).pop().unwrap();
    for _ in 0..2 {
        shell.types("\x1a");
        eventually("it stands still", || state(front) == Some('T'));
        shell.types("echo pro''mpt\n");
        shell.sees("prompt");
        shell.types("fg\n");
        eventually("it goes on", || state(front) == Some('S'));
        if !place.path("go").exists() {
            fs::write(place.path("go"), "").unwrap();
            eventually("it leads", || !place.read("job").is_empty());
            let job = place.pid("job");
            // Robbed, it contends again, and a ^Z is for the front as before.
            assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
            eventually("it leads again", || {
                !["", &job.to_string()].contains(&place.read("job").trim())
            });
            shell.types("ping\n");
            shell.sees("ping\r\nping");
        }
    }
    shell.types("pong\n");
    shell.sees("pong\r\npong");
    shell.types("\x03");
    eventually("the job is dead", || !is_alive(place.pid("job")));
    shell.types("echo co''de $?\n");
    shell.sees("code 130");
    assert!(!place.is_locked("k"));
    assert_eq!(common::finish(holder).code, 0);
}
