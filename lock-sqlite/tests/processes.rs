//! Several real processes on one file: this program starts itself again as [`child`].
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests do what the backend must not")]

mod common;

use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;
use std::time::Instant;

use common::Directory;
use common::acquire;
use common::acquire_soon;
use common::claim;
use common::claim_in;
use common::in_line;
use common::open;
use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::Hint;
use lock_core::Release;
use lock_core::WatchFor;
use rusqlite::Connection;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tokio::sync::Notify;

const ROLE: &str = "LOCK_SQLITE_TEST_ROLE";
const FILE: &str = "LOCK_SQLITE_TEST_FILE";
const KEY: &str = "LOCK_SQLITE_TEST_KEY";

/// A process that plays a role and says a line when it is ready.
struct Player {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Player {
    fn start(role: &str, file: &Path, key: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture", "--quiet"]).stdout(Stdio::piped());
        let mut child = command.env(ROLE, role).env(FILE, file).env(KEY, key).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the next line that the role itself wrote.
    fn hears(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the player is alive").unwrap();
            if let Some((_, said)) = line.split_once("> ") {
                return said.to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(text: impl std::fmt::Display) {
    println!("> {text}");
}

/// Plays a role if one is set; as a test of its own it does nothing.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let file = std::env::var(FILE).unwrap();
    let key = std::env::var(KEY).unwrap();
    match role.as_str() {
        "write-and-stay" => write_and_stay(&file),
        "loop" => hot_loop(&file, &key).await,
        "exclude" => exclude(&file).await,
        "try-write" => say(can_write(&file)),
        "wait" => wait_for(&file, claim(&key)).await,
        "line" => wait_for(&file, in_line(&key)).await,
        "share" => share(&file, &key).await,
        "open" => drop(acquire(&open(Path::new(&file)).await, &claim(&key)).await),
        _ => panic!("unknown role {role}"),
    }
}

fn write_and_stay(file: &str) {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE locks SET owner = 'torn'").unwrap();
    say("inside");
    loop {
        std::thread::park();
    }
}

async fn hot_loop(file: &str, key: &str) {
    let backend = open(Path::new(file)).await;
    say("ready");
    let (start, mut pairs) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(3) {
        let mine = claim(key);
        if let Attempt::Acquired { .. } = backend.attempt(&mine).await.unwrap() {
            assert_eq!(backend.release(&mine).await.unwrap(), Release::Released);
            pairs += 1;
        }
    }
    say(pairs);
}

/// Makes and removes a directory inside the lock; a second one inside would find it there.
async fn exclude(file: &str) {
    let backend = open(Path::new(file)).await;
    let inside = Path::new(file).with_extension("inside");
    let (start, mut grants) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        let mine = claim("k");
        acquire_soon(&backend, &mine).await;
        std::fs::create_dir(&inside).expect("nobody else is inside");
        std::fs::remove_dir(&inside).unwrap();
        assert_eq!(backend.release(&mine).await.unwrap(), Release::Released);
        grants += 1;
    }
    say(grants);
}

fn can_write(file: &str) -> bool {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").is_ok()
}

/// Waits by hints alone: no poll would hide a missing one.
async fn wait_for(file: &str, mine: Claim) {
    struct Wakes(Notify);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    let backend = open(Path::new(file)).await;
    let wakes = Arc::new(Wakes(Notify::new()));
    let _watch =
        backend.watch(&mine, WatchFor::Release, Hint::new(wakes.clone().into())).await.unwrap();
    let mut hints = 0;
    while let Attempt::Held { .. } = backend.attempt(&mine).await.unwrap() {
        if hints == 0 {
            say("waiting");
        }
        wakes.0.notified().await;
        hints += 1;
    }
    backend.release(&mine).await.unwrap();
    say(format!("acquired after {hints} hints"));
}

/// Takes the key in `mode` again and again, every other time by a place in line, and counts how often.
/// While it holds there is a file that says so, and none of whom it excludes.
async fn share(file: &str, mode: &str) {
    let backend = open(Path::new(file)).await;
    let inside = Path::new(file).with_extension("inside");
    let own = inside.join(format!("{mode}-{}", std::process::id()));
    let (start, mut grants) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        let mine = if grants % 2 == 0 { in_line(mode) } else { claim_in(mode) };
        acquire_soon(&backend, &mine).await;
        std::fs::write(&own, "").unwrap();
        // So few names are read in one go.
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let names: Vec<_> = std::fs::read_dir(&inside).unwrap().map(name).collect();
        let like = names.iter().all(|name| name.to_str().unwrap().starts_with(mode));
        let most = if mode == "exclusive" {
            1
        } else if mode == "shared" {
            8
        } else {
            2
        };
        assert!(like && names.len() <= most, "{names:?}");
        std::fs::remove_file(&own).unwrap();
        assert_eq!(backend.release(&mine).await.unwrap(), Release::Released);
        grants += 1;
    }
    say(grants);
}

/// E24
#[tokio::test]
async fn a_process_killed_in_its_transaction_leaves_nothing_behind() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mine = claim("k");
    acquire(&backend, &mine).await;
    let mut writer = Player::start("write-and-stay", &directory.file(), "");
    assert_eq!(writer.hears(), "inside");
    let error = tokio::time::timeout(Duration::from_secs(20), backend.release(&mine)).await;
    let error = error.expect("a bounded wait").unwrap_err();
    assert!(error.is_retryable(), "{error}");
    writer.signal(Signal::KILL);
    writer.child.wait().unwrap();
    let holders = backend.inspect(&mine.key).await.unwrap().holders;
    assert_eq!(holders[0].owner.as_deref(), Some("ann@test:1"), "the torn write is undone");
    assert_eq!(backend.release(&mine).await.unwrap(), Release::Released);
    backend.close().await.unwrap();
    let check = Connection::open(directory.file()).unwrap();
    let verdict: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// E25: were the backend to open and close one of SQLite's files, this process would lose the lock
/// that its other connection holds, and a second process could write.
#[tokio::test]
async fn no_call_drops_the_locks_of_another_connection_in_this_process() {
    let directory = Directory::new();
    let first = open(&directory.file()).await;
    acquire(&first, &claim("k")).await;
    let writer = Connection::open(directory.file()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut config = lock_sqlite::SqliteConfig::new(directory.file());
    config.busy_timeout = Duration::from_millis(50);
    let second = lock_sqlite::connect(config).await.unwrap();
    assert!(second.attempt(&claim("other")).await.is_err());
    second.list("", None, 10).await.unwrap();
    second.close().await.unwrap();
    first.inspect(&claim("k").key).await.unwrap();
    assert_eq!(Player::start("try-write", &directory.file(), "").hears(), "false");
    // The detector detects: this is what must never be done.
    drop(std::fs::File::open(directory.path().join("locks.db-shm")).unwrap());
    assert_eq!(Player::start("try-write", &directory.file(), "").hears(), "true");
}

#[tokio::test]
async fn hot_loops_in_four_processes_all_get_their_turns() {
    let directory = Directory::new();
    let start = |i: usize| Player::start("loop", &directory.file(), &format!("k{i}"));
    let mut players: Vec<Player> = (0..4).map(start).collect();
    assert!(players.iter_mut().all(|player| player.hears() == "ready"));
    let counts: Vec<u64> =
        players.iter_mut().map(|player| player.hears().parse().unwrap()).collect();
    let fair = counts.iter().sum::<u64>() / 4;
    assert!(counts.iter().all(|count| *count * 10 >= fair), "{counts:?}");
}

#[tokio::test]
async fn four_processes_are_never_inside_together() {
    let directory = Directory::new();
    let start = |_| Player::start("exclude", &directory.file(), "");
    let players: Vec<Player> = (0..4).map(start).collect();
    for mut player in players {
        assert!(player.hears().parse::<u64>().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_release_wakes_a_waiter_in_another_process() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let (mine, other) = (claim("k"), claim("other"));
    acquire(&backend, &mine).await;
    acquire(&backend, &other).await;
    let mut waiter = Player::start("wait", &directory.file(), "k");
    assert_eq!(waiter.hears(), "waiting");
    backend.release(&other).await.unwrap();
    backend.release(&mine).await.unwrap();
    assert_eq!(waiter.hears(), "acquired after 1 hints", "a release of another key is no hint");
}

#[tokio::test]
async fn eight_processes_in_three_modes_are_inside_only_as_the_modes_allow() {
    let directory = Directory::new();
    std::fs::create_dir(directory.path().join("locks.inside")).unwrap();
    let modes = ["exclusive", "shared", "permits:2", "shared"];
    let start = |i: usize| Player::start("share", &directory.file(), modes[i % 4]);
    let players: Vec<Player> = (0..8).map(start).collect();
    for mut player in players {
        assert!(player.hears().parse::<u64>().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_release_wakes_all_readers_in_front_and_the_writer_behind_them_later() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    let mine = claim("k");
    acquire(&backend, &mine).await;
    let mut players = Vec::new();
    for mode in ["shared", "shared", "exclusive"] {
        let mut player = Player::start("line", &directory.file(), mode);
        assert_eq!(player.hears(), "waiting");
        players.push(player);
    }
    backend.release(&mine).await.unwrap();
    for mut player in players {
        assert_eq!(player.hears(), "acquired after 1 hints", "whose turn it is not gets no hint");
    }
}

#[tokio::test]
async fn a_stopped_process_does_not_keep_the_others_from_writing() {
    let directory = Directory::new();
    let backend = open(&directory.file()).await;
    // Stopped at any moment of its loop: between transactions mostly, in its turn very often.
    for _ in 0..5 {
        let mut player = Player::start("loop", &directory.file(), "theirs");
        assert_eq!(player.hears(), "ready");
        acquire(&backend, &claim(&format!("before-{}", player.child.id()))).await;
        player.signal(Signal::STOP);
        let start = Instant::now();
        let mine = claim("mine");
        let outcome = backend.attempt(&mine).await;
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        match outcome {
            Ok(_) => drop(backend.release(&mine).await),
            // It was stopped inside SQLite's own lock: only the bound can be asked for.
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        player.signal(Signal::KILL);
    }
}

#[tokio::test]
async fn processes_that_open_a_new_file_together_all_succeed() {
    let directory = Directory::new();
    let start = |i: usize| Player::start("open", &directory.file(), &format!("k{i}"));
    let players: Vec<Player> = (0..8).map(start).collect();
    for mut player in players {
        assert!(player.child.wait().unwrap().success());
    }
    assert_eq!(open(&directory.file()).await.list("", None, 100).await.unwrap().items.len(), 8);
}
