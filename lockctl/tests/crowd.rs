//! Many processes want the same key.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;

use common::Place;
use common::eventually;
use common::finish;

const CROWD: usize = 50;
const TURNS: usize = 20;

#[test]
fn with_wait_a_thousand_runs_of_fifty_processes_lose_no_update() {
    let place = Place::new();
    fs::write(place.path("counter"), "0").unwrap();
    let script = "read n < counter; echo $((n + 1)) > counter";
    let turns = || {
        for _ in 0..TURNS {
            let command = ["run", "k", "--wait", "forever", "--", "sh", "-c", script];
            let ended = place.lockctl(&command).output().unwrap();
            let ended: common::Ended = ended.into();
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        }
    };
    thread::scope(|scope| {
        for _ in 0..CROWD {
            scope.spawn(turns);
        }
    });
    assert_eq!(place.read("counter").trim(), (CROWD * TURNS).to_string());
}

#[test]
fn without_wait_exactly_one_runs_and_the_others_name_it() {
    let place = Place::new();
    let mut crowd: Vec<_> = (0..CROWD)
        .map(|n| {
            let owner = format!("contender-{n}");
            let script = format!("echo {owner} >> ran; read line");
            let command = ["run", "k", "--owner", &owner, "--", "sh", "-c", &script];
            place.lockctl(&command).stdin(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut losers = Vec::new();
    eventually("all but one end", || {
        let ended = |child: &mut std::process::Child| child.try_wait().unwrap().is_some();
        losers.extend(crowd.extract_if(.., ended));
        losers.len() == CROWD - 1
    });
    let winner = place.read("ran").trim().to_owned();
    assert!(winner.starts_with("contender-") && !winner.contains('\n'), "{winner:?}");
    for loser in losers {
        let ended = finish(loser);
        assert_eq!(ended.code, 75, "{}", ended.stderr);
        let sentence = format!("lockctl: \"k\" is held by {winner}, fence ");
        assert!(ended.stderr.starts_with(&sentence), "{}", ended.stderr);
    }
    let mut last = crowd.pop().unwrap();
    last.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(finish(last).code, 0);
}
