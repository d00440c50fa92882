//! What the actors let the backend know.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use lock_core::BootInstant;

/// Facts about the server of the latest session.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    started: AtomicU64,
}

impl Shared {
    pub(crate) fn started(&self, at: BootInstant) {
        self.started.store(at.as_nanos(), Ordering::Release);
    }

    /// Since when the server remembers the locks that it granted.
    pub(crate) fn remembers_since(&self) -> BootInstant {
        BootInstant::from_nanos(self.started.load(Ordering::Acquire))
    }
}
