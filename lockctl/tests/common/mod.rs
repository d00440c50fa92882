//! A place with locks of its own, and processes to look at from outside.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

pub mod any_store;
pub mod tty;

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;

/// Nothing here takes longer unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Place(TempDir, Option<String>);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), None)
    }

    /// A place whose locks are at `url`.
    pub fn over(url: &str) -> Self {
        Self(tempfile::tempdir().unwrap(), Some(url.to_owned()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn url(&self) -> String {
        let file = || format!("sqlite:{}", self.path("locks.db").display());
        self.1.clone().unwrap_or_else(file)
    }

    pub fn lockctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockctl"));
        command.args(arguments).env("LOCK_URL", self.url()).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        finish(self.start(arguments))
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.lockctl(arguments).spawn().unwrap()
    }

    /// Starts a job and waits until it runs; it writes the file `NAME` as its first act.
    pub fn start_job(&self, arguments: &[&str], name: &str, script: &str) -> Child {
        let path = self.path(name);
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}\n{script}", path.display());
        let mut child = self.start(&[arguments, &["--", "sh", "-c", &script]].concat());
        eventually("the job starts or lockctl ends", || {
            path.exists() || child.try_wait().unwrap().is_some()
        });
        assert!(path.exists(), "{:?}", finish(child));
        child
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn pid(&self, name: &str) -> i32 {
        self.read(name).trim().parse().unwrap()
    }

    pub fn is_locked(&self, key: &str) -> bool {
        let status = self.run(&["status", key, "--json"]);
        assert_eq!(status.code, 0, "{}", status.stderr);
        status.stdout.contains("\"locked\":true")
    }
}

#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("lockctl never dies of a signal by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Waits for a child, but not for ever.
pub fn finish(mut child: Child) -> Ended {
    eventually("lockctl ends", || child.try_wait().unwrap().is_some());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut stdout).unwrap();
    }
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Ended { code: child.wait().unwrap().code().unwrap_or(-1), stdout, stderr }
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "not after {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub fn id(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

/// The state in /proc (R, S, T, …), or `None` for what is dead, buried or not.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next().filter(|state| !"ZX".contains(*state))
}

pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

fn argument(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(line.split(|byte| *byte == 0).nth(1)?).into_owned())
}

pub fn children(of: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(*pid) == Some(of)).collect()
}

fn child_with(parent: i32, first_argument: &str) -> Option<i32> {
    let mut children = children(parent).into_iter();
    children.find(|pid| argument(*pid).as_deref() == Some(first_argument))
}

/// The process that renews: with a controlling terminal it is the child of the one in front.
pub fn keeper(lockctl: &Child) -> i32 {
    child_with(id(lockctl), "__keep").unwrap_or_else(|| id(lockctl))
}

pub fn guardian(lockctl: &Child) -> i32 {
    child_with(keeper(lockctl), "__guardian").expect("a running job has a guardian")
}
