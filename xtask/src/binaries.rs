//! Test programs, one lane of them: on two cores a second lane upsets the cases that keep time.

use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::Result;
use crate::all;
use crate::process::run;
use crate::process::run_within;

/// How many run at a time. More would disturb the cases that measure time.
const LANES: usize = 1;

/// A test program as cargo builds it.
pub(crate) struct Binary {
    /// Its package and source, such as `lock-core/tests/meetings.rs`.
    name: String,
    program: PathBuf,
    /// The folder of its package, where cargo would run it.
    folder: PathBuf,
}

/// Builds what `cargo test` would run.
pub(crate) fn build(cargo_test: &mut Command) -> Result<Vec<Binary>> {
    let mut messages = tempfile::tempfile()?;
    cargo_test.args(["--no-run", "--message-format=json-render-diagnostics"]);
    run(cargo_test.stdout(messages.try_clone()?))?;
    messages.rewind()?;
    let messages = std::io::read_to_string(messages)?;
    Ok(messages.lines().filter_map(binary).collect())
}

/// Reads one message of cargo.
fn binary(message: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(message).ok()?;
    // Programs that tests only call are built too; they are no tests.
    message["profile"]["test"].as_bool().filter(|test| *test)?;
    let program = message["executable"].as_str()?.into();
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let source = Path::new(message["target"]["src_path"].as_str()?);
    let source = source.strip_prefix(folder.parent()?).unwrap_or(source);
    Some(Binary { name: source.display().to_string(), program, folder })
}

/// Runs all to their end, also after one has failed; the output of each is shown whole. One that takes longer than
/// `limit` is stopped and has failed.
pub(crate) fn run_all(
    binaries: &[Binary],
    limit: Duration,
    adjust: impl Fn(&mut Command) + Sync,
) -> Result {
    let (queue, outcomes) = (Mutex::new(binaries.iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || {
        while let Some(binary) = next() {
            let outcome = binary.run(limit, &adjust);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    thread::scope(|scope| (0..LANES).for_each(|_| drop(scope.spawn(lane))));
    all(outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs a program of tests, shows its output once it has ended, and fails with the tests that failed.
pub(crate) fn run_shown(name: &str, limit: Duration, command: &mut Command) -> Result {
    let mut file = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file.try_clone()?);
    let outcome = run_within(limit, command);
    file.rewind()?;
    let mut output = Vec::new();
    file.read_to_end(&mut output)?;
    let mut shown = std::io::stdout().lock();
    writeln!(shown, "\n     Ran {name}")?;
    shown.write_all(&output)?;
    outcome.map_err(|failure| named(name, &String::from_utf8_lossy(&output), failure))
}

/// Puts the names of the failed tests in the place of how their program ended, if it has told them.
fn named(name: &str, output: &str, failure: Failure) -> Failure {
    let lists = output.split("\nfailures:\n").skip(1);
    let tests = lists.flat_map(|list| list.lines().map_while(|line| line.strip_prefix("    ")));
    let tests: Vec<String> = tests.map(|test| format!("test failed: {name}: {test}")).collect();
    if tests.is_empty() {
        let hung: String = hanging(output).map(|test| format!("; {test} has not ended")).collect();
        Failure(format!("{name}: {failure}{hung}"))
    } else {
        Failure(tests.join("\n  "))
    }
}

/// The tests that were told to be slow and did not end.
fn hanging(output: &str) -> impl Iterator<Item = &str> {
    let slow = output.lines().filter_map(|line| {
        line.strip_prefix("test ")?.strip_suffix(" has been running for over 60 seconds")
    });
    slow.filter(|test| !output.contains(&format!("test {test} ... ")))
}

impl Binary {
    /// Tells whether its tests are there for the sake of one server, which its path then names.
    pub(crate) fn is_about(&self, server: &str) -> bool {
        self.name.contains("/tests/") && self.name.contains(server)
    }

    fn run(&self, limit: Duration, adjust: impl Fn(&mut Command)) -> Result {
        let mut command = Command::new(&self.program);
        adjust(&mut command);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        run_shown(&self.name, limit, &mut command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(test: bool, executable: &str) -> String {
        let message = serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": "/tmp/Cargo.toml",
            "target": { "src_path": "/tmp/tests/some.rs" },
            "profile": { "test": test },
            "executable": executable,
        });
        message.to_string()
    }

    #[test]
    fn only_tests_are_run() {
        assert!(binary(&message(true, "/bin/true")).is_some());
        assert!(binary(&message(false, "/bin/true")).is_none());
        assert!(binary("{\"reason\":\"build-finished\"}").is_none());
    }

    #[test]
    fn a_failed_program_is_named_and_does_not_keep_the_others_from_running() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let programs = ["/bin/false", "/bin/false", "/usr/bin/touch"];
        let binaries = programs.map(|program| binary(&message(true, program)).unwrap());
        let adjust = |command: &mut Command| _ = command.arg(&mark);
        let failure = run_all(&binaries, Duration::MAX, adjust).unwrap_err();
        assert_eq!(failure.to_string().matches("failed: exit status: 1").count(), 2, "{failure}");
        assert!(mark.exists());
    }

    #[test]
    fn tests_of_one_server_are_known_by_their_path() {
        let about = |name: &str| {
            let binary =
                Binary { name: name.into(), program: PathBuf::new(), folder: PathBuf::new() };
            binary.is_about("redis")
        };
        assert!(about("lock-redis/tests/wire.rs") && about("lockctl/tests/redis.rs"));
        assert!(!about("lock-redis/src/lib.rs") && !about("lockctl/tests/kill.rs"));
    }

    #[test]
    fn each_failed_test_is_named_with_its_program() {
        // As both harnesses tell it: what failed and why, then the names.
        let output = "test a ... FAILED\n\nfailures:\n\n---- a ----\n    indented\n\nfailures:\n    \
                      a::b\n    c - d (line 3)\n\ntest result: FAILED. 1 passed; 2 failed\n";
        let failure = named("lock/src/lib.rs", output, Failure("it failed".into()));
        assert_eq!(
            failure.to_string(),
            "test failed: lock/src/lib.rs: a::b\n  test failed: lock/src/lib.rs: c - d (line 3)"
        );
        let aborted = named("lock/src/lib.rs", "running 2 tests\n", Failure("it failed".into()));
        assert_eq!(aborted.to_string(), "lock/src/lib.rs: it failed");
    }

    #[test]
    fn a_test_that_hangs_is_named_with_its_program() {
        let output = "test a has been running for over 60 seconds\n\
                      test b has been running for over 60 seconds\ntest a ... ok\n";
        let failure = named("lock/src/lib.rs", output, Failure("it was stopped".into()));
        assert_eq!(failure.to_string(), "lock/src/lib.rs: it was stopped; b has not ended");
    }
}
