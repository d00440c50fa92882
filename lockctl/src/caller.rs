//! The keeper's view of who called it: signals, and on a terminal the front.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal as Named;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::getpgid;
use rustix::process::getpid;
use rustix::process::getppid;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::channel::Channel;
use crate::exit::Outcome;
use crate::mask::Mask;
use crate::message::Message;
use crate::signals;

/// What a caller can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Pass this signal on to the job, or end if there is none and it is a fatal one.
    Signal(i32),
    /// The job may start.
    Go,
    /// The front is dead: the job must not outlive it.
    Gone,
}

/// Who called.
#[derive(Debug)]
pub(crate) struct Caller {
    signals: UnboundedReceiver<i32>,
    front: Option<Front>,
    asked_to_end: bool,
}

#[derive(Debug)]
struct Front {
    channel: Channel,
    messages: UnboundedReceiver<Message>,
    process: Pid,
    stdin: OwnedFd,
    mask: Mask,
}

impl Caller {
    /// Begins to listen; `fronted` tells whether a front started us.
    pub(crate) fn listen(fronted: bool) -> Result<Self, Outcome> {
        let caller = signals::listen().and_then(|signals| {
            let front = if fronted { Some(Front::meet()?) } else { None };
            Ok(Self { signals, front, asked_to_end: false })
        });
        caller.map_err(|error| Outcome::bug(format!("cannot listen to the caller: {error}")))
    }

    /// Waits for the next event. Dropping the future loses none.
    pub(crate) async fn event(&mut self) -> Event {
        let event = self.next().await;
        let asks = [Signal::TERM, Signal::INT].map(|signal| Event::Signal(signal.as_raw()));
        self.asked_to_end |= asks.contains(&event);
        event
    }

    async fn next(&mut self) -> Event {
        let Some(front) = &mut self.front else { return signal(self.signals.recv().await) };
        tokio::select! {
            number = self.signals.recv() => signal(number),
            message = front.messages.recv() => match message {
                Some(Message::Signal(number)) => Event::Signal(number),
                Some(_) => Event::Go,
                None => Event::Gone,
            },
        }
    }

    /// Asks whether the job may start. A front that the user has stopped does not answer.
    pub(crate) fn ready(&self) -> Option<Event> {
        self.tell(Message::Ready);
        self.front.is_none().then_some(Event::Go)
    }

    /// Says that the job was stopped, and which process group of it wants the terminal if that is why.
    pub(crate) fn job_stopped(&self, wants_terminal: Option<i32>) {
        self.tell(Message::Stopped(wants_terminal));
    }

    /// Says that there is no job for now: a ^Z is for the front itself.
    pub(crate) fn idle(&self) {
        self.tell(Message::Idle);
    }

    fn tell(&self, message: Message) {
        if let Some(front) = &self.front {
            // A front that is gone shows as an event.
            let _ = front.channel.send(message);
        }
    }

    /// Tells whether the user has asked for the end, by SIGTERM or SIGINT, which a job may take its
    /// time to obey. A SIGHUP makes many a daemon read its configuration.
    pub(crate) fn asked_to_end(&self) -> bool {
        self.asked_to_end
    }

    /// Returns the process that the user started.
    pub(crate) fn process(&self) -> Pid {
        self.front.as_ref().map_or_else(getpid, |front| front.process)
    }

    /// Returns the process group that the terminal belongs to, if there is a terminal.
    pub(crate) fn home(&self) -> Option<Pid> {
        self.front.as_ref().and_then(|front| getpgid(Some(front.process)).ok())
    }

    /// Returns what the job must not find blocked.
    pub(crate) fn mask(&self) -> Option<&Mask> {
        self.front.as_ref().map(|front| &front.mask)
    }

    /// Returns the real standard input.
    pub(crate) fn stdin<'a>(&'a self, own: &'a io::Stdin) -> BorrowedFd<'a> {
        self.front.as_ref().map_or_else(|| own.as_fd(), |front| front.stdin.as_fd())
    }
}

/// Waits for an event that ends a call which has no job: a fatal signal, or the end of the front.
pub(crate) async fn end_of_wait(caller: &mut Caller, key: &str) -> Outcome {
    loop {
        match caller.event().await {
            Event::Signal(signal) if signals::is_fatal(signal) => {
                return Outcome::interrupted(signal, key);
            }
            Event::Signal(_) | Event::Go => {}
            Event::Gone => return Outcome::bug("the process in front was killed"),
        }
    }
}

fn signal(number: Option<i32>) -> Event {
    // The tasks that receive signals live as long as the runtime.
    number.map_or(Event::Gone, Event::Signal)
}

impl Front {
    fn meet() -> io::Result<Self> {
        // We are in the background, where a terminal may stop those who write or hand it over.
        let mask = Mask::block(&[Named::SIGTTOU].into_iter().collect())?;
        let process = getppid().ok_or(io::ErrorKind::NotFound)?;
        let channel = Channel::from_stdin()?;
        let (_, stdin) = channel.receive_with()?;
        let messages = channel.messages()?;
        Ok(Self { channel, messages, process, stdin, mask })
    }
}
