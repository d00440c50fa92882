//! Another process with a part in a case: it can be killed or stopped, and never outlives the case.

use std::env;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::kill_process;
use rustix::process::waitid;
use tokio::sync::mpsc;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::child::ORDER;
use crate::child::Order;
use crate::child::Role;
use crate::cx::within;

/// A child and the lines that it prints. Dropping it kills and reaps it.
pub(crate) struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Process {
    /// Starts this test program once more, in `role`.
    pub(crate) fn start(cx: &Cx, role: Role) -> Outcome<Self> {
        Self::start_in(cx, role, cx.fixture().environment())
    }

    /// Starts it with what it reaches the store by.
    pub(crate) fn start_in(
        cx: &Cx,
        role: Role,
        environment: Option<Vec<(String, String)>>,
    ) -> Outcome<Self> {
        let Some(environment) = environment else {
            return Err(Failure::skipped("no other process can reach the store"));
        };
        let fixture = cx.fixture();
        let (name, namespace) = (fixture.name().to_owned(), cx.namespace().to_owned());
        let order = serde_json::to_string(&Order { fixture: name, namespace, role })?;
        let mut command = Command::new(env::current_exe()?);
        command.env(ORDER, order).envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = lines(&mut child)?;
        Ok(Self { child, lines })
    }

    /// Returns the next line; `None` when the child prints no more.
    pub(crate) async fn line(&mut self, patience: Duration) -> Outcome<Option<String>> {
        within(patience, self.lines.recv()).await
    }

    /// Returns the lines that are there already.
    pub(crate) fn lines_so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// Says a line to it.
    pub(crate) fn say(&mut self, line: &str) -> Outcome {
        match &mut self.child.stdin {
            Some(stdin) => Ok(writeln!(stdin, "{line}")?),
            None => Err(Failure::new("the child does not listen")),
        }
    }

    /// Checks that it has done its part, once it prints no more.
    pub(crate) fn has_done_well(&mut self) -> Outcome {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("a child: {status}"))) }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&self) -> Outcome {
        self.signal(Signal::KILL)
    }

    /// Freezes it.
    pub(crate) fn stop(&self) -> Outcome {
        Ok(freeze(&self.child)?)
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) -> Outcome {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed; it is reaped all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Freezes a child, and returns when it stands still: the signal alone leaves its threads a moment to go on.
///
/// # Errors
///
/// If it has been reaped.
pub fn freeze(child: &Child) -> io::Result<()> {
    let process = Pid::from_child(child);
    kill_process(process, Signal::STOP)?;
    // One that has ended stays to be reaped.
    let changes = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = waitid(WaitId::Pid(process), changes) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    Ok(())
}

fn lines(child: &mut Child) -> Outcome<mpsc::UnboundedReceiver<String>> {
    let (send, lines) = mpsc::unbounded_channel();
    let Some(out) = child.stdout.take() else { return Err(Failure::new("no pipe to the child")) };
    thread::spawn(move || {
        let said = BufReader::new(out).lines().map_while(Result::ok);
        // When the case is over nobody listens, and the child is killed.
        said.into_iter().try_for_each(|line| send.send(line))
    });
    Ok(lines)
}
