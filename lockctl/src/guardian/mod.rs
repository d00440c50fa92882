//! The guardian: it stops the job when the lock's time is over, whatever became of lockctl.
//!
//! `lockctl run` or `elect` is two processes besides the job, or three on a terminal:
//!
//! ```text
//! front ── keeper ── guardian ── CMD …
//! ```
//!
//! - The **keeper** holds the lock and renews it. Without a terminal it is the process that the
//!   caller started.
//! - The **guardian** (this module) is a subreaper with CMD in a process group of its own. It gets
//!   each new deadline from the keeper and by itself asks the group to end (SIGTERM) when the lock is
//!   at risk and kills it (SIGKILL) at the deadline, or at once when the keeper is gone. It is one
//!   thread that waits in `poll`, needs nothing of the keeper, and lets no signal but SIGKILL and
//!   SIGSTOP touch it. After CMD it kills what CMD left behind.
//! - The **[front](crate::front)** is what the shell started and waits for. On ^Z it is what stops,
//!   so that the shell gets its terminal back while the keeper goes on renewing.
//!
//! When the guardian dies, the keeper kills the job; when the keeper dies, the guardian does; when the
//! front dies, the keeper has it done. Keeper and guardian killed at the same time leave the job running
//! (but the front, where there is one, then kills it). Processes that left the group get no signals
//! and are killed only as orphans of the guardian.

mod job;
mod link;
mod plan;
mod timer;

use std::env::ArgsOs;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

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

use self::job::Job;
use self::job::News;
pub(crate) use self::link::Link;
pub(crate) use self::link::OURSELVES;
pub(crate) use self::link::Spec;
use self::plan::Plan;
use self::plan::Step;
use self::timer::Timer;
use crate::channel::Channel;
use crate::descendants;
use crate::mask::Mask;
use crate::message::Deadline;
use crate::message::Ending;
use crate::message::Message;
use crate::message::Status;
use crate::terminal::Terminal;

/// The hidden subcommand: `lockctl __guardian HOME GREEDY CMD ARGS…`.
pub(crate) const SUBCOMMAND: &str = "__guardian";

/// Runs the guardian to its end.
pub(crate) fn main(arguments: ArgsOs) -> ExitCode {
    match Guardian::start(arguments).and_then(|guardian| guardian.map_or(Ok(()), Guardian::watch)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its death is the keeper's sign to kill the job.
            eprintln!("lockctl: the guardian failed: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Guardian {
    keeper: Channel,
    keeper_gone: bool,
    children: SignalFd,
    timer: Timer,
    plan: Plan,
    job: Job,
    terminal: Option<Terminal>,
    /// Whether the job gets the terminal whenever it goes on; else only once it asks for it.
    greedy: bool,
}

impl Guardian {
    /// Starts the job; `None` if it could not be started, which the keeper has been told.
    fn start(arguments: ArgsOs) -> io::Result<Option<Self>> {
        // Before anything can be started: no signal may end the guardian before the job.
        let mask = Mask::block(&SigSet::all())?;
        descendants::adopt_orphans()?;
        let _ = rustix::thread::set_name(c"lockctl-guard");
        let keeper = Channel::from_stdin()?;
        let (home, greedy, command) = parse(arguments)?;
        let terminal = home.and_then(Terminal::open);
        let deaths = [Named::SIGCHLD].into_iter().collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&deaths, flags)?;
        let (Message::Start(deadline), stdin) = keeper.receive_with()? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let timer = Timer::new()?;
        if timer::now() >= deadline.end {
            // It was frozen on the way here: nothing may start.
            let status = Status::Killed(Signal::KILL.as_raw());
            keeper.send(Message::Ended(Ending { status, told: true }))?;
            return Ok(None);
        }
        let job = match Job::start(&command, stdin, &mask) {
            Ok(job) => job,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
                keeper.send(Message::Refused(errno))?;
                return Ok(None);
            }
        };
        if let Some(terminal) = terminal.as_ref().filter(|_| greedy) {
            terminal.give(job.group());
        }
        let plan = Plan::new(deadline);
        let keeper_gone = false;
        Ok(Some(Self { keeper, keeper_gone, children, timer, plan, job, terminal, greedy }))
    }

    /// Watches over the job until it is dead.
    fn watch(mut self) -> io::Result<()> {
        self.report(Message::Started(self.job.group().as_raw_nonzero().get()));
        // A job that ended while it was being started has given no sign.
        let mut news = true;
        let status = loop {
            // Taken before the orders are read: whenever it was frozen, no renewal of that time is missed.
            let now = timer::now();
            self.obey();
            match self.plan.due(now) {
                Some(Step::Ask) => self.job.ask(),
                Some(Step::Kill) => self.job.signal(Signal::KILL),
                None => {}
            }
            if news && let Some(status) = self.look_after_children() {
                break status;
            }
            self.timer.set(self.plan.next())?;
            news = self.wait()?;
        };
        descendants::destroy(Some(self.job.group()));
        self.leave_terminal(status);
        self.report(Message::Ended(Ending { status, told: self.plan.told() }));
        Ok(())
    }

    /// Waits for the keeper, a child or the time, and tells whether it was a child.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&self.children, PollFlags::IN),
            PollFd::new(&self.timer, PollFlags::IN),
            PollFd::new(&self.keeper, PollFlags::IN),
        ];
        let count = if self.keeper_gone { 2 } else { 3 };
        match poll(&mut fds[..count], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!fds[0].revents().is_empty())
    }

    /// Does all that the keeper has asked for until now.
    fn obey(&mut self) {
        while !self.keeper_gone && self.keeper.has_news() {
            match self.keeper.receive() {
                Ok(Some(Message::Renewed(deadline))) => self.plan.renew(deadline),
                Ok(Some(Message::Signal(signal))) => self.pass_on(signal),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    self.keeper_gone = true;
                    self.plan.renew(Deadline::PAST);
                }
            }
        }
    }

    fn pass_on(&self, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        if signal == Signal::CONT {
            // After the shell's `fg` our home is in the foreground, after `bg` it is not.
            let _ = self.greedy && self.lend_terminal();
        }
        self.job.signal(signal);
    }

    fn look_after_children(&mut self) -> Option<Status> {
        while let Ok(Some(_)) = self.children.read_signal() {}
        match self.job.news() {
            Some(News::Ended(status)) => return Some(status),
            Some(News::Stopped(signal)) => self.stopped(signal),
            None => {}
        }
        descendants::reap_others(self.job.group());
        None
    }

    /// A job that was stopped for using the terminal from the background may have it, if it is
    /// ours; any other stop is for the shell to know.
    fn stopped(&mut self, signal: i32) {
        let wants = [Signal::TTIN, Signal::TTOU].map(Signal::as_raw).contains(&signal);
        if wants && self.lend_terminal() {
            self.greedy = true;
            self.job.signal(Signal::CONT);
            return;
        }
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.job.group());
        }
        let group = self.job.group().as_raw_nonzero().get();
        self.report(Message::Stopped(wants.then_some(group)));
    }

    fn lend_terminal(&self) -> bool {
        self.terminal.as_ref().is_some_and(|terminal| terminal.give(self.job.group()))
    }

    fn leave_terminal(&self, status: Status) {
        let Some(terminal) = &self.terminal else { return };
        terminal.take_back(self.job.group());
        if matches!(status, Status::Killed(_)) {
            terminal.restore_modes();
        }
    }

    fn report(&self, message: Message) {
        // A keeper that is gone shows in `obey`; one that does not read loses nothing but news.
        let _ = self.keeper.send(message);
    }
}

fn parse(mut arguments: ArgsOs) -> io::Result<(Option<Pid>, bool, Vec<OsString>)> {
    let mut number =
        || arguments.next()?.to_str()?.parse::<i32>().ok().filter(|number| *number >= 0);
    match (number(), number()) {
        (Some(home), Some(greedy)) => Ok((Pid::from_raw(home), greedy != 0, arguments.collect())),
        _ => Err(io::Error::other("only lockctl itself starts it")),
    }
}
