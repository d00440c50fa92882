//! The keeper's end of the guardian.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;
use tokio::sync::mpsc::UnboundedReceiver;

use super::SUBCOMMAND;
use crate::channel::Channel;
use crate::descendants;
use crate::mask::Mask;
use crate::message::Deadline;
use crate::message::Message;
use crate::terminal::Terminal;

/// This program, even if its file has been replaced since.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// What to start.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    /// CMD and its arguments.
    pub(crate) command: &'a [OsString],
    /// What to set in CMD's environment, and what to remove from it.
    pub(crate) environment: Vec<(&'static str, Option<String>)>,
    /// CMD's standard input.
    pub(crate) stdin: BorrowedFd<'a>,
    /// What CMD must not find blocked.
    pub(crate) mask: Option<&'a Mask>,
    /// The process group that the terminal belongs to between jobs, if there is a terminal.
    pub(crate) home: Option<Pid>,
    /// Whether the job gets the terminal without asking.
    pub(crate) greedy: bool,
}

/// A guardian that has been started.
#[derive(Debug)]
pub(crate) struct Link {
    process: Child,
    channel: Channel,
    reports: UnboundedReceiver<Message>,
    group: Option<Pid>,
}

impl Link {
    /// Starts a guardian, which starts the job.
    pub(crate) fn start(spec: &Spec<'_>, deadline: Deadline) -> io::Result<Self> {
        // The orphans of a dead guardian come to us.
        descendants::adopt_orphans()?;
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(OURSELVES);
        for (name, value) in &spec.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let home = spec.home.map_or(0, |home| home.as_raw_nonzero().get());
        command.arg0("lockctl").arg(SUBCOMMAND).arg(home.to_string());
        command.arg(u8::from(spec.greedy).to_string()).args(spec.command);
        command.stdin(Stdio::from(theirs)).process_group(0);
        let process = match spec.mask {
            Some(mask) => mask.lifted(|| command.spawn())?,
            None => command.spawn()?,
        };
        channel.send_with(Message::Start(deadline), spec.stdin)?;
        let reports = channel.messages()?;
        Ok(Self { process, channel, reports, group: None })
    }

    /// Waits for the next report; `None` says that the guardian died before the job.
    pub(crate) async fn report(&mut self) -> Option<Message> {
        let report = self.reports.recv().await;
        if let Some(Message::Started(group)) = report {
            self.group = Pid::from_raw(group);
        }
        report
    }

    /// Gives an order. A guardian that is gone shows in [`report`](Self::report).
    pub(crate) fn order(&self, message: Message) {
        let _ = self.channel.send(message);
    }

    /// Ends the job now. The guardian does it, but it may be frozen, so the group is killed here too.
    pub(crate) fn kill_job(&self) {
        self.order(Message::Renewed(Deadline::PAST));
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Buries a guardian that has reported the end of the job, which is the last that it has to do.
    pub(crate) fn finish(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Does what the guardian can do no more: kills the job and waits until all of it is dead.
    pub(crate) async fn destroy(mut self, home: Option<Pid>) {
        let group = self.group;
        let job = tokio::task::spawn_blocking(move || {
            let _ = self.process.kill();
            let _ = self.process.wait();
            descendants::destroy(group);
        });
        // Only a panic could end it early, and that has been shown.
        let _ = job.await;
        if let (Some(terminal), Some(group)) = (home.and_then(Terminal::open), group) {
            terminal.take_back(group);
        }
    }
}
