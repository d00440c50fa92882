//! Signals that must not interrupt this process, and that its children must not find blocked.

use std::io;

use nix::sys::signal::SigSet;

/// A set of blocked signals, in this thread and those it starts.
#[derive(Debug)]
pub(crate) struct Mask {
    before: SigSet,
    ours: SigSet,
}

impl Mask {
    /// Blocks `signals` besides those that are blocked already.
    pub(crate) fn block(signals: &SigSet) -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        signals.thread_block()?;
        Ok(Self { before, ours: SigSet::thread_get_mask()? })
    }

    /// Starts a child, which inherits the mask that we found. A signal that comes in this moment has
    /// its usual effect on us.
    pub(crate) fn lifted<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.before.thread_set_mask()?;
        let started = start();
        self.ours.thread_set_mask()?;
        started
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn a_child_finds_the_mask_that_was_there_before() {
        let set = [Signal::SIGUSR2].into_iter().collect();
        let mask = Mask::block(&set).unwrap();
        let blocked = || Ok(SigSet::thread_get_mask()?.contains(Signal::SIGUSR2));
        assert!(!mask.lifted(blocked).unwrap());
        assert!(blocked().unwrap());
        set.thread_unblock().unwrap();
    }
}
