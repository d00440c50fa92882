//! The live view, on a terminal that is looked at through an emulator.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;
#[path = "../src/cmd/watch/screen.rs"]
#[allow(dead_code, reason = "only the panic is of interest here")]
mod screen;

use std::env;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::eventually;
use common::finish;
use common::id;
use common::kill;
use common::state;
use common::tty::Tty;
use lock::LockOptions;
use rustix::process::Signal;
use serde_json::Value;

fn hold(place: &Place, key: &str, owner: &str) -> String {
    let held = place.run(&["acquire", key, "--hold-for", "1h", "--owner", owner]);
    assert_eq!(held.code, 0, "{}", held.stderr);
    held.stdout.trim().to_owned()
}

fn watch(place: &Place) -> Tty {
    Tty::lockctl(place, &["watch"], &[])
}

/// Checks that the terminal is as the view found it.
#[track_caller]
fn assert_restored(tty: &Tty, before: &rustix::termios::Termios) {
    let after = tty.modes();
    assert_eq!(tty.state(), (false, true), "main screen, cursor in sight");
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
}

#[test]
fn shows_who_holds_what_as_it_changes() {
    let place = Place::new();
    let handle = hold(&place, "orders:1", "ann");
    hold(&place, "orders:2", "bob");
    let mut tty = watch(&place);
    tty.shows("orders:2");
    let screen = tty.screen();
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines[0].contains("sqlite  2 held  0 waiting"), "{screen}");
    for heading in ["KEY", "OWNER", "MODE", "FENCE", "AGE", "LEASE", "LEFT", "WAIT"] {
        assert!(lines[1].contains(heading), "{screen}");
    }
    assert!(lines[2].starts_with(" orders:1 ann") && lines[2].contains("exclusive"), "{screen}");
    assert!(lines[2].contains("59m"), "{screen}");
    assert!(screen.ends_with("2 rows  q quit  / filter  ↑↓ scroll"), "{screen}");
    assert_eq!(place.run(&["release", &handle]).code, 0);
    tty.shows("-orders:1 free");
    tty.shows("1 held");
    tty.shows_that("orders:1 gone", |screen| !screen.contains("orders:1"));
    hold(&place, "orders:3", "eve");
    tty.shows("+orders:3 eve");
    tty.shows(" orders:3 eve");
    tty.types("q");
    assert_eq!(tty.ends(), Some(0));
}

#[test]
fn bars_move_between_the_looks() {
    let place = Place::new();
    place.run(&["acquire", "k", "--hold-for", "8s", "--owner", "ann"]);
    let tty = watch(&place);
    tty.shows("ann");
    let mut seen = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let screen = tty.screen();
        seen.extend(screen.lines().find(|line| line.contains("ann")).map(str::to_owned));
        seen.dedup();
        thread::sleep(Duration::from_millis(20));
    }
    assert!(seen.len() > 6, "more pictures than looks: {seen:#?}");
}

#[test]
fn however_it_ends_the_terminal_is_restored() {
    let place = Place::new();
    for (keys, signal, code) in [
        ("q", None, 0),
        ("\x1b", None, 0),
        ("\x03", None, 0),
        ("", Some(Signal::TERM), 143),
        ("", Some(Signal::INT), 130),
        ("", Some(Signal::HUP), 129),
        ("", Some(Signal::QUIT), 131),
        ("", Some(Signal::USR1), 138),
    ] {
        let tty =
            Tty::start(&place, "sh -c 'read x; \"$L\" watch; echo code $?; read x'", &[], &[]);
        let before = tty.modes();
        tty.types("\n");
        tty.shows("0 rows");
        assert_eq!(tty.state(), (true, false), "alternate screen, no cursor");
        tty.types(keys);
        if let Some(signal) = signal {
            kill(common::children(id(&tty.process))[0], signal);
        }
        tty.shows(&format!("code {code}"));
        assert_restored(&tty, &before);
    }
}

#[test]
fn a_panic_restores_the_terminal_before_it_is_reported() {
    let place = Place::new();
    let test = env::current_exe().unwrap();
    let panics = "--exact panics_on_the_screen --ignored --nocapture";
    let command = format!("sh -c 'read x; {} {panics}; echo code $?; read x'", test.display());
    let tty = Tty::start(&place, &command, &[], &[("RUST_BACKTRACE", "0")]);
    let before = tty.modes();
    tty.types("\n");
    tty.shows("code 101");
    tty.shows("so be it");
    assert!(tty.bytes().windows(8).any(|part| part == b"\x1b[?1049h"), "it was on the screen");
    assert_restored(&tty, &before);
}

#[test]
#[ignore = "the other half of a_panic_restores_the_terminal_before_it_is_reported"]
fn panics_on_the_screen() {
    let mut screen = screen::Screen::open().unwrap();
    screen.draw(|_| {}).unwrap();
    panic!("so be it");
}

#[test]
fn control_z_gives_the_terminal_back_until_fg() {
    let place = Place::new();
    hold(&place, "orders:1", "ann");
    let tty = Tty::shell(&place);
    for stop in ["\x1a", "a signal"] {
        tty.types("$L watch\n");
        tty.shows("orders:1");
        let watch = common::children(id(&tty.process))[0];
        if stop == "\x1a" {
            tty.types(stop);
        } else {
            kill(watch, Signal::TSTP);
        }
        eventually("it stands still", || state(watch) == Some('T'));
        tty.types("echo pro''mpt\n");
        tty.shows("prompt");
        assert_eq!(tty.state(), (false, true));
        tty.types("fg\n");
        tty.shows("q quit");
        assert_eq!(tty.state(), (true, false));
        tty.types("q");
        tty.shows_that("the end", |_| tty_is_main(&tty));
        // The shell may drop what is typed before it has the terminal back.
        tty.shows_that("a prompt", |screen| screen.trim_end().ends_with("\n%"));
        tty.types("clear; echo co''de $?\n");
        tty.shows("code 0");
    }
}

fn tty_is_main(tty: &Tty) -> bool {
    tty.state() == (false, true)
}

#[test]
fn any_size_will_do() {
    let place = Place::new();
    for n in 0..40 {
        hold(
            &place,
            &format!("a-rather-long-name-of-a-key-number:{n:02}"),
            "somebody@somewhere:12345",
        );
    }
    let mut tty = watch(&place);
    tty.shows("a-rat");
    for (rows, columns) in
        [(10, 40), (3, 20), (1, 80), (2, 2), (4, 10), (1, 1), (24, 500), (50, 15), (0, 0), (24, 80)]
    {
        tty.resize(rows, columns);
        thread::sleep(Duration::from_millis(30));
    }
    tty.shows("40 rows");
    for n in 0..200_u16 {
        tty.resize(1 + n * 7 % 40, 1 + n * 13 % 150);
    }
    tty.resize(12, 60);
    tty.shows_that("the end of the storm", |screen| {
        let lines: Vec<_> = screen.lines().collect();
        lines.len() == 12 && lines[1].contains("KEY") && lines[11].starts_with("40 rows")
    });
    let screen = tty.screen();
    assert_eq!(screen.lines().filter(|line| line.starts_with(" a-ra")).count(), 9, "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 60), "{screen}");
    tty.types("q");
    assert_eq!(tty.ends(), Some(0));
}

#[test]
fn nobody_who_names_a_key_or_an_owner_controls_the_terminal() {
    let place = Place::new();
    let hostile = "evil\x1b[2J\x1b]0;title\x07\nline\u{202e}\u{9b}31m";
    hold(&place, hostile, "ann\u{2066}b");
    hold(
        &place,
        "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
        "👷👷👷👷👷👷👷👷👷👷\u{200d}",
    );
    let tty = watch(&place);
    tty.shows("evil");
    tty.shows("2 rows");
    let bytes = String::from_utf8_lossy(&tty.bytes()).into_owned();
    for part in ["\x1b[2J\x1b]", "title\x07", "\u{202e}", "\u{2066}", "\u{9b}"] {
        assert!(!bytes.contains(part), "{part:?}");
    }
    let screen = tty.screen();
    let lines: Vec<_> = screen.lines().collect();
    let mode =
        |line: &str| unicode_width::UnicodeWidthStr::width(line.split("exclusive").next().unwrap());
    assert_eq!(mode(lines[2]), mode(lines[3]), "columns align: {screen}");
    for arguments in [&["list"][..], &["status", hostile]] {
        let ended = place.run(arguments);
        assert!(ended.stdout.contains("evil\u{fffd}[2J"), "{}", ended.stdout);
        assert!(!ended.stdout.contains(['\x1b', '\x07', '\u{202e}', '\u{9b}']), "{}", ended.stdout);
    }
}

#[test]
fn without_colour_there_is_none() {
    let place = Place::new();
    hold(&place, "k", "ann");
    let colours = |environment: &[(&str, &str)]| {
        let tty = Tty::lockctl(&place, &["watch"], environment);
        tty.shows("ann");
        let cells = |screen: &vt100::Screen| {
            let all = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
            all.filter_map(|(row, column)| screen.cell(row, column)).any(|cell| {
                cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
            })
        };
        tty.look(cells)
    };
    assert!(!colours(&[("NO_COLOR", "1")]));
    assert!(colours(&[("NO_COLOR", "")]));
    assert!(colours(&[]));
}

#[test]
fn a_terminal_without_a_cursor_is_told_of_the_other_ways() {
    let place = Place::new();
    let mut tty = Tty::lockctl(&place, &["watch"], &[("TERM", "dumb")]);
    assert_eq!(tty.ends(), Some(2));
    tty.shows("try watch --json or list");
}

#[test]
fn a_filter_narrows_the_view() {
    let place = Place::new();
    for (key, owner) in [("orders:1", "ann"), ("orders:2", "bob"), ("queue", "Ann")] {
        hold(&place, key, owner);
    }
    let mut tty = watch(&place);
    tty.shows("3 rows");
    tty.types("/aN");
    tty.shows("/aN_");
    tty.shows_that("two rows", |screen| {
        screen.contains("orders:1") && screen.contains("queue") && !screen.contains("orders:2")
    });
    tty.types("\r");
    tty.shows("2 rows with \"aN\", Esc for all");
    tty.types("\x1b");
    tty.shows("3 rows");
    tty.types("q");
    assert_eq!(tty.ends(), Some(0));
}

#[test]
fn an_error_of_the_store_is_shown_and_passes() {
    let place = Place::new();
    hold(&place, "orders:1", "ann");
    let mut tty = watch(&place);
    tty.shows("orders:1");
    let database = rusqlite::Connection::open(place.path("locks.db")).unwrap();
    database.execute_batch("ALTER TABLE locks RENAME TO elsewhere").unwrap();
    tty.shows("without an answer: list on sqlite: ");
    assert!(tty.screen().contains("orders:1"), "what was known stays");
    database.execute_batch("ALTER TABLE elsewhere RENAME TO locks").unwrap();
    tty.shows("1 rows");
    tty.types("q");
    assert_eq!(tty.ends(), Some(0));
}

#[test]
fn when_the_terminal_is_gone_it_ends() {
    let place = Place::new();
    let nohup = ["sh", "-c", "trap '' HUP; exec \"$L\" watch"];
    for command in [&["sh", "-c", "exec \"$L\" watch"], &nohup] {
        let mut tty = Tty::start(&place, "\"$@\"", command, &[]);
        tty.shows("0 rows");
        tty.hang_up();
        tty.ends();
    }
}

#[test]
fn ten_thousand_keys_scroll_and_filter_at_once() {
    let place = Place::new();
    fill(&place, 10_000);
    let tty = watch(&place);
    tty.shows("10000 rows");
    assert!(tty.screen().contains("key:00000"), "{}", tty.screen());
    let asked = Instant::now();
    tty.types("G");
    tty.shows("key:09999");
    tty.types("/:0777");
    tty.shows_that("ten rows", |screen| {
        screen.contains("key:07770") && !screen.contains("key:09999")
    });
    tty.types("\r");
    tty.shows("10 rows with");
    println!("to the end and filtered within {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let list: common::Ended = place.lockctl(&["list"]).output().unwrap().into();
    assert_eq!(list.stdout.lines().count(), 10_001);
}

/// Holds many keys, by the library, because a process for each takes too long.
fn fill(place: &Place, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let locks = lock::connect(&place.url()).await.unwrap();
        let options =
            LockOptions::new().ttl(Duration::from_secs(3600)).owner("bulk").without_renewal();
        for n in 0..count {
            let guard = locks.lock(&format!("key:{n:05}"), &options).await.unwrap();
            guard.into_handle().unwrap();
        }
    });
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let place = Place::new();
    let ended = place.run(&["watch"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("watch --json") && ended.stderr.contains("list --json"),
        "{}",
        ended.stderr
    );
}

#[test]
fn json_is_a_line_per_change() {
    let place = Place::new();
    let handle = hold(&place, "orders:1", "ann");
    hold(&place, "queue", "bob");
    let mut lockctl = place.lockctl(&["watch", "orders:", "--json"]);
    let out = std::fs::File::create(place.path("out")).unwrap();
    let mut lockctl = lockctl.stdout(out).spawn().unwrap();
    let lines = |count: usize| {
        eventually("there are lines", || place.read("out").lines().count() >= count);
        let text = place.read("out");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count, "{text}");
        lines
    };
    assert_eq!(lines(1)[0]["key"], "orders:1");
    let listed: Value =
        serde_json::from_str(&place.run(&["list", "orders:", "--json"]).stdout).unwrap();
    let kinds = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(kinds(&lines(1)[0]), kinds(&listed), "the shape of list");
    assert_eq!(place.run(&["renew", &handle, "--hold-for", "2h"]).code, 0);
    thread::sleep(Duration::from_millis(1500));
    lines(1);
    assert_eq!(place.run(&["release", &handle]).code, 0);
    let freed = lines(2).pop().unwrap();
    assert_eq!((&freed["key"], &freed["locked"]), (&"orders:1".into(), &false.into()));
    hold(&place, "orders:1", "eve");
    assert_eq!(lines(3)[2]["holders"][0]["owner"], "eve");
    kill(id(&lockctl), Signal::TERM);
    lockctl.wait().unwrap();
}

#[test]
fn json_ends_when_nobody_reads_it_any_more() {
    let place = Place::new();
    hold(&place, "k", "ann");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = place.lockctl(&["watch", "--json"]);
    let lockctl = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line).unwrap();
    assert!(line.contains("\"key\":\"k\""), "{line}");
    // Nothing changes, so nothing is written that could fail.
    let ended = finish(lockctl);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}

/// Locks that come and go: `cargo test -p lockctl --test watch picture -- --nocapture` shows it.
#[test]
fn the_picture_under_load() {
    let place = Place::new();
    for (key, owner) in
        [("billing:close-of-month", "root@db1:71"), ("deploy:eu-west-1", "ann@ops:9")]
    {
        hold(&place, key, owner);
    }
    let profile = place.run(&["profile", "--json"]).stdout;
    let able = |what: &str, mode| {
        if profile.contains(&format!("\"{what}\":true")) { mode } else { "exclusive" }
    };
    let (shared, permits) = (able("shared", "shared"), able("permits", "permits:3"));
    let mut jobs = Vec::new();
    for (key, mode, seconds) in [
        ("encode", permits, "0.5"),
        ("encode", permits, "1"),
        ("orders:1001", "exclusive", "0.3"),
        ("orders:1002", "exclusive", "0.7"),
        ("orders:1002", "exclusive", "0.2"),
        ("report:nightly", shared, "2"),
        ("report:nightly", shared, "1"),
    ] {
        let script = format!(
            "while [ ! -e end ]; do \"$L\" run {key} --wait 20s --ttl 5s --mode {mode} -- sleep {seconds}; done"
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).env("L", env!("CARGO_BIN_EXE_lockctl"));
        command.env("LOCK_URL", place.url()).env("USER", "ci").current_dir(place.path(""));
        jobs.push(command.spawn().unwrap());
    }
    let mut tty = watch(&place);
    tty.resize(16, 100);
    tty.shows("~");
    thread::sleep(Duration::from_millis(4500));
    let screen = tty.screen();
    println!("{screen}\n");
    let list = Tty::lockctl(&place, &["list"], &[]);
    list.resize(16, 120);
    list.shows("report:nightly");
    println!("{}", place.run(&["list"]).stdout);
    std::fs::write(place.path("end"), "").unwrap();
    let lines: Vec<_> = screen.lines().collect();
    let mut keys: Vec<_> =
        lines[2..].iter().filter_map(|line| line.get(1..)?.split(' ').next()).collect();
    keys.retain(|key| key.contains(':') || *key == "encode");
    assert!(keys.is_sorted() && keys.len() >= 4, "{screen}");
    assert!(!lines[0].contains(" 0.0 changes/s"), "{screen}");
    tty.types("q");
    assert_eq!(tty.ends(), Some(0));
    for mut job in jobs {
        eventually("the jobs end", || job.try_wait().unwrap().is_some());
    }
}
