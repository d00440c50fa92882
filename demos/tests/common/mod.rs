//! Runs the program as people start it, unless a server that it needs is excluded, and sees that it leaves nothing behind.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Mutex;

use libtest_mimic::Arguments;
use libtest_mimic::Completion;
use libtest_mimic::Trial;
use tempfile::TempDir;

/// Names and reasons of what was not run.
static IGNORED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs all, and names at the end what was not run.
pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They sleep most of their time, whatever the machine.
    arguments.test_threads.get_or_insert(6);
    let conclusion = libtest_mimic::run(&arguments, trials);
    for line in IGNORED.lock().unwrap().iter() {
        println!("ignored {line}");
    }
    conclusion.exit_code()
}

/// A test that is run unless one of the servers that it needs is excluded.
pub(crate) fn trial(name: &'static str, needs: &'static [&'static str], body: fn()) -> Trial {
    let excluded = needs.iter().find(|need| is_excluded(need));
    let reason = excluded.map(|need| format!("it needs {need}, which is excluded"));
    ignorable(name, reason, body)
}

/// A test that is run only when there is time.
pub(crate) fn long(name: &'static str, body: fn()) -> Trial {
    let full = std::env::var_os("LOCK_TEST_FULL").is_some();
    ignorable(name, (!full).then(|| "a long test, which LOCK_TEST_FULL adds".to_owned()), body)
}

fn ignorable(name: &'static str, reason: Option<String>, body: fn()) -> Trial {
    Trial::ignorable_test(name, move || match reason {
        None => {
            body();
            Ok(Completion::Completed)
        }
        Some(reason) => {
            IGNORED.lock().unwrap().push(format!("{name}: {reason}"));
            Ok(Completion::ignored_with(reason))
        }
    })
}

pub(crate) fn is_excluded(server: &str) -> bool {
    let excluded = std::env::var("LOCK_TEST_EXCLUDE").unwrap_or_default();
    excluded.split(',').any(|excluded| excluded.trim() == server)
}

/// The program, with a folder of its own for what it writes.
pub(crate) struct Demos {
    folder: TempDir,
    pub(crate) command: Command,
}

impl Demos {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A server may run as another user, who has to get through.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_demos"));
        // Each starts a Redis of its own: they run side by side, and their keys are the same.
        command.env_remove("LOCK_TEST_REDIS_URL").env("TMPDIR", folder.path()).args(arguments);
        Self { folder, command }
    }

    /// Runs it to its end; returns its exit code, and all that it has printed.
    pub(crate) fn run(mut self) -> (Option<i32>, String) {
        let output = self.command.output().unwrap();
        self.check_clean();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// Neither a folder nor a process that knows it is left.
    #[track_caller]
    pub(crate) fn check_clean(&self) {
        let left = std::fs::read_dir(self.folder.path()).unwrap();
        let left: Vec<_> = left.flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let folder = self.folder.path().to_str().unwrap();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            assert!(!line.contains(folder), "still running: {line}");
        }
    }
}

/// Runs it to its end and looks for what it has to show, in that order.
#[track_caller]
pub(crate) fn shows(arguments: &[&str], expected: &[&str]) {
    let (code, shown) = Demos::new(arguments).run();
    assert_eq!(code, Some(0), "{shown}");
    let mut rest = &*shown;
    for what in expected {
        let Some((_, later)) = rest.split_once(what) else { panic!("no {what:?} in\n{shown}") };
        rest = later;
    }
}

/// Runs it to its end, which has to be bad.
#[track_caller]
pub(crate) fn fails(arguments: &[&str], expected: &str) {
    let (code, shown) = Demos::new(arguments).run();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
}
