//! Ctrl-c and its like end what runs, but not before servers and folders are gone.

use std::process::ExitCode;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::story;
use crate::story::Result;

/// The signals by which people and systems end a program.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(crate) fn catch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and returns what a program ends with that it has ended.
    pub(crate) async fn next(&mut self) -> ExitCode {
        let (name, code) = tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", 130),
            _ = self.terminate.recv() => ("SIGTERM", 143),
            _ = self.hang_up.recv() => ("SIGHUP", 129),
        };
        story::fail(format_args!("stopped by {name}"));
        ExitCode::from(code)
    }
}
