//! The signals of a process that has changed its terminal's modes: none may end or stop it before they
//! are restored.

use std::io;
use std::thread;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal as Named;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;
use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;

use crate::exit::Code;
use crate::exit::Outcome;
use crate::mask::Mask;
use crate::signals::is_fatal;
use crate::signals::passed;

/// Blocks the signals in this thread and those that it starts.
pub(super) fn block() -> Result<SigSet, Outcome> {
    let passed = passed().filter_map(|signal| signal.as_raw().try_into().ok());
    let set: SigSet = passed.chain([Named::SIGCONT]).collect();
    Mask::block(&set).map_err(failed)?;
    Ok(set)
}

/// The blocked signals, one by one.
#[derive(Debug)]
pub(super) struct Signals(UnboundedReceiver<i32>);

impl Signals {
    pub(super) fn listen(blocked: SigSet) -> Result<Self, Outcome> {
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC);
        let fd = fd.map_err(|errno| failed(errno.into()))?;
        let (sender, receiver) = unbounded_channel();
        let read = move || {
            while let Ok(Some(info)) = fd.read_signal() {
                if sender.send(i32::try_from(info.ssi_signo).unwrap_or(0)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(read).map_err(failed)?;
        Ok(Self(receiver))
    }

    /// Waits for the next signal. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Result<i32, Outcome> {
        self.0.recv().await.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))
    }

    /// Waits for a signal that ends a process.
    pub(super) async fn end(&mut self) -> Outcome {
        loop {
            match self.next().await {
                Ok(signal) if is_fatal(signal) => return ended_by(signal),
                Ok(_) => {}
                Err(outcome) => return outcome,
            }
        }
    }
}

/// How a call ends that a signal has ended.
pub(super) fn ended_by(signal: i32) -> Outcome {
    let code = Code::of_signal(signal);
    Outcome { signal: Some(signal), ..Outcome::quiet("interrupted", code) }
}

/// What the end of the terminal amounts to.
pub(super) fn hung_up() -> Outcome {
    ended_by(Signal::HUP.as_raw())
}

fn failed(error: io::Error) -> Outcome {
    Outcome::bug(format!("cannot listen to signals: {error}"))
}
