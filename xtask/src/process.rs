//! Other programs, run to their end.

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use test_servers::stop;

use crate::Failure;
use crate::Result;
use crate::signal;

/// How often a program that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The cargo that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Says what it runs and runs it; fails if it does.
pub(crate) fn run(command: &mut Command) -> Result {
    eprintln!("$ {}", shown(command));
    run_quietly(command)
}

/// Runs a program; fails if it does.
pub(crate) fn run_quietly(command: &mut Command) -> Result {
    run_within(Duration::MAX, command)
}

/// Runs a program; fails if it does, or if it has to be stopped because it takes longer than `limit`.
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Result {
    let shown = shown(command);
    let mut child =
        command.spawn().map_err(|error| Failure(format!("cannot start {shown}: {error}")))?;
    let status = wait(&mut child, limit)?;
    signal::check()?;
    let Some(status) = status else {
        return Err(Failure(format!("{shown} was stopped: it took more than {limit:?}")));
    };
    if status.success() { Ok(()) } else { Err(Failure(format!("{shown} failed: {status}"))) }
}

/// Waits for the end; a signal to us ends the child first, and so does `limit`: then there is no status.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if signal::has_come() || start.elapsed() > limit {
            stop(child, Signal::TERM)?;
            return Ok(None);
        }
        sleep(LOOK);
    }
}

/// Tells whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program's name and arguments, as a person would type them.
fn shown(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let limit = Duration::from_millis(100);
        let failure = run_within(limit, Command::new("sleep").arg("60")).unwrap_err();
        assert_eq!(failure.to_string(), "sleep 60 was stopped: it took more than 100ms");
    }

    #[test]
    fn a_failing_program_is_shown_as_typed() {
        let failure = run(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failure.to_string(), "sh -c exit 3 failed: exit status: 3");
    }
}
