//! A shell on a terminal: ^C, ^Z, fg and bg, with the lock kept all the while.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::Child;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::eventually;
use common::id;
use common::is_alive;
use common::kill;
use common::state;
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::pty::grantpt;
use rustix::pty::openpt;
use rustix::pty::ptsname;
use rustix::pty::unlockpt;

/// An interactive shell that leads a session on a terminal of its own.
struct Shell {
    process: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Shell {
    fn start(place: &Place) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // A session without a terminal gets the first one that it opens.
        let script = format!("exec sh -i < {name} > {name} 2>&1");
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", &script]).env("LOCK_URL", place.url());
        command.env("L", env!("CARGO_BIN_EXE_lockctl")).env("PS1", "% ").env_remove("ENV");
        let process = command.current_dir(place.path("")).spawn().unwrap();
        let keyboard = File::from(master.as_fd().try_clone_to_owned().unwrap());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, seen) = (File::from(master), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                seen.lock().unwrap().extend(&bytes[..count]);
            }
        });
        let mut shell = Self { process, keyboard, screen };
        shell.types("set -m; echo be''gin\n");
        shell.sees("begin");
        shell
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits for new text, and forgets all up to it.
    fn sees(&self, text: &str) {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if let Some(at) = screen.find(text) {
                let mut seen = self.screen.lock().unwrap();
                let end = (at + text.len()).min(seen.len());
                seen.drain(..end);
                return;
            }
            assert!(start.elapsed() < common::LIMIT, "no {text:?} in {screen:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn control_z_gives_the_prompt_back_and_the_lock_is_kept() {
    let place = Place::new();
    let mut shell = Shell::start(&place);
    shell.types("$L run k --ttl 1s -- sh -c 'echo $$ > job; exec cat'\n");
    eventually("the job runs", || !place.read("job").is_empty());
    let job = place.pid("job");
    shell.types("ping\n");
    shell.sees("ping\r\nping");
    shell.types("\x1a");
    eventually("the job stands still", || state(job) == Some('T'));
    shell.types("echo pro''mpt\n");
    shell.sees("prompt");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
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
    let mut shell = Shell::start(&place);
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
    let mut shell = Shell::start(&place);
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

#[test]
fn a_pipeline_keeps_the_terminal() {
    let place = Place::new();
    let mut shell = Shell::start(&place);
    shell.types("$L run k -- echo out | sh -c 'cat; read x < /dev/tty; echo got $x'\n");
    shell.sees("out");
    shell.types("text\n");
    shell.sees("got text");
}

#[test]
fn whichever_process_of_lockctl_is_killed_the_job_dies() {
    for name in ["__front", "__keep", "__guardian"] {
        let place = Place::new();
        let mut shell = Shell::start(&place);
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
