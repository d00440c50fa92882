//! The job: CMD and its process group.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::WaitIdStatus;
use rustix::process::kill_process_group;
use rustix::process::waitid;

use crate::mask::Mask;
use crate::message::Status;

/// A job that has been started.
#[derive(Debug)]
pub(super) struct Job {
    group: Pid,
}

/// News of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It was stopped by this signal.
    Stopped(i32),
    /// It is dead and not yet reaped, so that its group's number cannot be given to others.
    Ended(Status),
}

impl Job {
    /// Starts `command` in a process group of its own.
    pub(super) fn start(command: &[OsString], stdin: OwnedFd, mask: &Mask) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::from(stdin)).process_group(0);
        let child = mask.lifted(|| command.spawn())?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // The child is waited for by its number, together with all that the subreaper inherits.
        Ok(Self { group: group.ok_or(io::ErrorKind::InvalidData)? })
    }

    pub(super) fn group(&self) -> Pid {
        self.group
    }

    /// Sends a signal to the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        // It may be dead already: then there is nobody to tell.
        let _ = kill_process_group(self.group, signal);
    }

    /// Asks the group to end, which a stopped one can do only after it goes on.
    pub(super) fn ask(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Returns what happened to CMD since the last call.
    pub(super) fn news(&self) -> Option<News> {
        if let Some(status) = self.peek(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            return Some(News::Ended(status_of(&status)));
        }
        let status = self.peek(WaitIdOptions::STOPPED)?;
        Some(News::Stopped(status.stopping_signal()?))
    }

    fn peek(&self, options: WaitIdOptions) -> Option<WaitIdStatus> {
        loop {
            match waitid(WaitId::Pid(self.group), options | WaitIdOptions::NOHANG) {
                Err(Errno::INTR) => {}
                status => return status.ok().flatten(),
            }
        }
    }
}

fn status_of(status: &WaitIdStatus) -> Status {
    match status.terminating_signal() {
        Some(signal) => Status::Killed(signal),
        None => Status::Exited(u8::try_from(status.exit_status().unwrap_or(0) & 0xff).unwrap_or(0)),
    }
}
