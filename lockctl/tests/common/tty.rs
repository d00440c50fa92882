//! A terminal of one's own: what runs on it, what it is sent, and what it shows.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::process::Child;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::pty::OpenptFlags;
use rustix::pty::grantpt;
use rustix::pty::openpt;
use rustix::pty::ptsname;
use rustix::pty::unlockpt;
use rustix::termios::Termios;
use rustix::termios::Winsize;
use rustix::termios::tcgetattr;
use rustix::termios::tcsetwinsize;

use super::LIMIT;
use super::Place;

/// A process that leads a session on a terminal of its own.
pub struct Tty {
    pub process: Child,
    /// Our end of the terminal; `None` once it was closed.
    master: Option<File>,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    /// What came since the last `sees`.
    fresh: Vec<u8>,
    /// All that ever came.
    all: Vec<u8>,
    screen: vt100::Parser,
}

impl Seen {
    fn new() -> Self {
        let screen = vt100::Parser::new(one(24), one(80), 0);
        Self { fresh: Vec::new(), all: Vec::new(), screen }
    }
}

impl Tty {
    /// Starts an interactive shell, to which lockctl is `$L`.
    pub fn shell(place: &Place) -> Self {
        let tty = Self::start(place, "sh -i", &[], &[]);
        tty.types("set -m; echo be''gin\n");
        tty.sees("begin");
        tty
    }

    /// Starts lockctl itself.
    pub fn lockctl(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start(place, "\"$L\" \"$@\"", arguments, environment)
    }

    /// Starts a command of the shell language, with arguments, on a terminal of 24 lines and 80 columns.
    pub fn start(
        place: &Place,
        command: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(24, 80)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // A session without a terminal gets the first one that it opens.
        let script = format!("exec {command} < {name} > {name} 2>&1");
        let mut process = Command::new("setsid");
        process.args(["sh", "-c", &script, "sh"]).args(arguments).env("LOCK_URL", place.url());
        process.env("L", env!("CARGO_BIN_EXE_lockctl")).env("PS1", "% ").env_remove("ENV");
        process.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        process.envs(environment.iter().copied());
        let process = process.current_dir(place.path("")).spawn().unwrap();
        let seen = Arc::new(Mutex::new(Seen::new()));
        let mut reader = File::from(master.as_fd().try_clone_to_owned().unwrap());
        let ours = Arc::downgrade(&seen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let Some(seen) = ours.upgrade() else { return };
                let mut seen = seen.lock().unwrap();
                seen.fresh.extend(&bytes[..count]);
                seen.all.extend(&bytes[..count]);
                seen.screen.process(&bytes[..count]);
            }
        });
        Self { process, master: Some(File::from(master)), seen }
    }

    fn master(&self) -> &File {
        self.master.as_ref().unwrap()
    }

    pub fn types(&self, keys: &str) {
        self.master().write_all(keys.as_bytes()).unwrap();
    }

    /// Changes the size, of which the terminal tells its foreground.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.seen.lock().unwrap().screen.screen_mut().set_size(one(rows), one(columns));
        tcsetwinsize(self.master(), size(rows, columns)).unwrap();
    }

    /// Takes the terminal away.
    pub fn hang_up(&mut self) {
        self.master = None;
        // Its reader keeps it open until then.
        self.seen = Arc::new(Mutex::new(Seen::new()));
    }

    pub fn modes(&self) -> Termios {
        tcgetattr(self.master()).unwrap()
    }

    /// The lines in sight.
    pub fn screen(&self) -> String {
        self.seen.lock().unwrap().screen.screen().contents()
    }

    /// Whether the alternate screen is in sight, and whether the cursor is.
    pub fn state(&self) -> (bool, bool) {
        let seen = self.seen.lock().unwrap();
        let screen = seen.screen.screen();
        (screen.alternate_screen(), !screen.hide_cursor())
    }

    /// All bytes that the terminal was ever sent.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().all.clone()
    }

    /// Looks at the emulator's cells.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.seen.lock().unwrap().screen.screen())
    }

    /// Waits until the lines in sight contain a text.
    pub fn shows(&self, text: &str) {
        self.shows_that(text, |screen| screen.contains(text));
    }

    /// Waits until the lines in sight are as wanted.
    pub fn shows_that(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !is_so(&self.screen()) {
            assert!(start.elapsed() < LIMIT, "no {what:?} in\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for new text, and forgets all up to it.
    pub fn sees(&self, text: &str) {
        let start = Instant::now();
        loop {
            let fresh = self.seen.lock().unwrap().fresh.clone();
            let found = fresh.windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(at) = found {
                self.seen.lock().unwrap().fresh.drain(..at + text.len());
                return;
            }
            let fresh = String::from_utf8_lossy(&fresh);
            assert!(start.elapsed() < LIMIT, "no {text:?} in {fresh:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of the process, but not for ever.
    pub fn ends(&mut self) -> Option<i32> {
        super::eventually("it ends", || self.process.try_wait().unwrap().is_some());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The emulator knows no size of zero.
fn one(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).unwrap_or(NonZero::<u16>::MIN)
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
