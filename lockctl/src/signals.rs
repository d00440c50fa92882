//! The signals that lockctl passes on.

use std::fs;
use std::io;

use rustix::process::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;

/// What a job can be sent by way of lockctl.
const PASSED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::WINCH,
    Signal::TSTP,
];

/// Returns the signals to pass on: those that our caller does not have us ignore (`nohup`).
pub(crate) fn passed() -> impl Iterator<Item = Signal> {
    let ignored = ignored();
    PASSED.into_iter().filter(move |signal| ignored >> (signal.as_raw() - 1) & 1 == 0)
}

/// Tells whether the signal ends a process that has nothing to pass it on to.
pub(crate) fn is_fatal(signal: i32) -> bool {
    ![Signal::WINCH, Signal::TSTP, Signal::CONT].map(Signal::as_raw).contains(&signal)
}

/// Receives the signals to pass on, and SIGCONT.
pub(crate) fn listen() -> io::Result<UnboundedReceiver<i32>> {
    let (sender, receiver) = unbounded_channel();
    for number in passed().chain([Signal::CONT]).map(Signal::as_raw) {
        let mut stream = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(number).is_ok() {}
        });
    }
    Ok(receiver)
}

/// Reads the set of ignored signals, bit 0 for signal 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}
