//! The process that a shell waits for, when there is a terminal.
//!
//! A shell takes its terminal back when the process it started stops. That process must not be the
//! one that renews the lock, so on a terminal `lockctl run` or `elect` starts itself once more, as the keeper, and
//! stays in front: it passes signals on to the keeper, stops when the job was stopped, has it
//! continued when the shell continues us, and ends as the keeper ends.

use std::env;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal as Named;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::getpgrp;
use rustix::process::kill_current_process_group;
use rustix::process::kill_process;
use rustix::process::waitpid;

use crate::channel::Channel;
use crate::descendants;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::guardian::OURSELVES;
use crate::mask::Mask;
use crate::message::Message;
use crate::message::Status;
use crate::signals;
use crate::terminal::Terminal;

/// The hidden first argument of the keeper behind a front.
pub(crate) const SUBCOMMAND: &str = "__keep";

/// Runs the keeper to its end and returns its exit code.
pub(crate) fn run() -> Outcome {
    let outcome = Front::start().and_then(Front::watch);
    outcome.unwrap_or_else(|error| Outcome::bug(format!("cannot keep the keeper: {error}")))
}

struct Front {
    keeper: Pid,
    channel: Channel,
    channel_open: bool,
    signals: SignalFd,
    running: bool,
    passed: Option<i32>,
}

impl Front {
    fn start() -> io::Result<Self> {
        let passed = signals::passed().filter_map(|signal| signal.as_raw().try_into().ok());
        let set: SigSet = passed.chain([Named::SIGCHLD]).collect();
        let mask = Mask::block(&set)?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        descendants::adopt_orphans()?;
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(OURSELVES);
        command.arg0("lockctl").arg(SUBCOMMAND).args(env::args_os().skip(1));
        command.stdin(Stdio::from(theirs)).process_group(0);
        let keeper = mask.lifted(|| command.spawn())?;
        let keeper = i32::try_from(keeper.id()).ok().and_then(Pid::from_raw);
        let keeper = keeper.ok_or(io::ErrorKind::InvalidData)?;
        channel.send_with(Message::Hello, io::stdin().as_fd())?;
        Ok(Self { keeper, channel, channel_open: true, signals, running: false, passed: None })
    }

    fn watch(mut self) -> io::Result<Outcome> {
        loop {
            // First, because a keeper that ended while it was being started has given no sign.
            if let Some(status) = self.reap()? {
                return Ok(self.outcome(status));
            }
            self.wait()?;
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut fds =
            [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.channel, PollFlags::IN)];
        let count = if self.channel_open { 2 } else { 1 };
        match poll(&mut fds[..count], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let told = !fds[1].revents().is_empty();
        while let Some(info) = self.signals.read_signal()? {
            self.pass_on(i32::try_from(info.ssi_signo).unwrap_or(0));
        }
        if told { self.answer() } else { Ok(()) }
    }

    fn pass_on(&mut self, signal: i32) {
        match Signal::from_named_raw(signal) {
            None | Some(Signal::CHILD) => {}
            // There is no job yet that would be stopped and tell us.
            Some(Signal::TSTP) if !self.running => stop(),
            Some(signal) => {
                self.passed = Some(signal.as_raw());
                let _ = kill_process(self.keeper, signal);
            }
        }
    }

    fn answer(&mut self) -> io::Result<()> {
        match self.channel.receive()? {
            Some(Message::Ready) => {
                self.running = true;
                self.channel.send(Message::Go)?;
            }
            Some(Message::Stopped(wants_terminal)) => {
                stop_group(wants_terminal);
                self.channel.send(Message::Signal(Signal::CONT.as_raw()))?;
            }
            Some(Message::Idle) => self.running = false,
            Some(_) => {}
            None => self.channel_open = false,
        }
        Ok(())
    }

    fn reap(&self) -> io::Result<Option<Status>> {
        let Some((_, status)) = waitpid(Some(self.keeper), WaitOptions::NOHANG)? else {
            return Ok(None);
        };
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Status::Exited(u8::try_from(code).unwrap_or(u8::MAX))),
            (None, Some(signal)) => Some(Status::Killed(signal)),
            (None, None) => None,
        })
    }

    fn outcome(&self, status: Status) -> Outcome {
        match status {
            // The keeper has said what there is to say.
            Status::Exited(code) => Outcome::quiet("ended", Code::of_command(code)),
            // It came before the keeper could take it.
            Status::Killed(signal) if self.passed == Some(signal) => {
                Outcome::quiet("interrupted", Code::of_signal(signal))
            }
            Status::Killed(signal) => {
                descendants::destroy(None);
                Outcome::bug(format!(
                    "the process that kept the lock was killed by signal {signal}; the command is \
                     dead, the lock ends with its TTL"
                ))
            }
        }
    }
}

/// Stops this process and the others of a pipeline or script, as ^Z would have, and returns when it is
/// continued; at once if the job stopped for want of a terminal that is ours, or its own, by now.
fn stop_group(wants_terminal: Option<i32>) {
    let _ = kill_current_process_group(Signal::TSTP);
    // A shell's `fg` may have come before the news. It first makes us the foreground, which shows
    // here, and then sends SIGCONT, which discards the signal that is pending since the line above.
    let ours = |job: i32| {
        let terminal = Terminal::open(getpgrp())?;
        let job = Pid::from_raw(job)?;
        Some(terminal.is_home() || terminal.is_of(job))
    };
    if wants_terminal.and_then(ours) == Some(true) {
        let _ = kill_current_process_group(Signal::CONT);
    }
    stop_if_told();
}

/// Stops this process like ^Z and returns when it is continued; at once if nobody could continue it.
pub(crate) fn stop() {
    let _ = nix::sys::signal::raise(Named::SIGTSTP);
    stop_if_told();
}

/// Lets a pending SIGTSTP have its usual effect.
fn stop_if_told() {
    let stop: SigSet = [Named::SIGTSTP].into_iter().collect();
    let _ = stop.thread_unblock();
    let _ = stop.thread_block();
}
