//! Ctrl-c and its like end what runs, but not before the servers are stopped.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;

use crate::Failure;
use crate::Result;

static ENDED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Catches the signals that end a program.
pub(crate) fn catch() -> Result {
    let ended = ENDED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(ended))?;
    }
    Ok(())
}

/// Tells whether one has come.
pub(crate) fn has_come() -> bool {
    ENDED.get().is_some_and(|ended| ended.load(Ordering::Relaxed))
}

/// Fails if one has come.
pub(crate) fn check() -> Result {
    if has_come() { Err(Failure("stopped by a signal".into())) } else { Ok(()) }
}
