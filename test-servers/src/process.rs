//! Programs: run to their end, or stopped.

use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use crate::Error;
use crate::Result;

/// How often a program that is waited for is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Asks a program to end and, if it has not within ten seconds, ends it.
///
/// # Errors
///
/// If it is not ours to end.
pub fn stop(child: &mut Child, signal: Signal) -> std::io::Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    kill_process(Pid::from_child(child), signal)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(LOOK);
    }
    child.kill()?;
    child.wait()
}

/// A command that gets `signal` when the thread ends that started it, and runs as `user` if we are root.
pub(crate) fn tethered(program: &Path, signal: Signal, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", name(signal)]);
    if let Some(user) = user.filter(|_| is_root()) {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--").arg(program).stdin(Stdio::null());
    command
}

/// As setpriv wants it.
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "INT",
        Signal::KILL => "KILL",
        _ => "TERM",
    }
}

/// Gives a folder to the user as whom a server runs.
pub(crate) fn give(folder: &Path, user: &str) -> Result {
    if is_root() { checked(Command::new("chown").arg(user).arg(folder)) } else { Ok(()) }
}

/// Runs a program that says nothing unless it fails.
pub(crate) fn checked(command: &mut Command) -> Result {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error(format!("{:?} failed: {}", command.get_program(), said.trim())))
}

/// Has a program write into a file of `folder`, after what is there.
pub(crate) fn logged(command: &mut Command, folder: &Path) -> Result {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_stopped_by_the_signal_it_is_given() {
        use std::os::unix::process::ExitStatusExt as _;
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let status = stop(&mut child, Signal::INT).unwrap();
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
    }
}
