//! The simulated server's sessions, and what a hold hangs on.

use std::collections::HashMap;
use std::time::Duration;

use lock_core::BootInstant;

/// A session of the simulated server. Numbers are never used again, so nothing of a dead session can
/// be adopted by a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(u64);

/// The session is unknown or has timed out, and all it held with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionGone;

/// When each session ends unless it is kept alive.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    ends: HashMap<SessionId, BootInstant>,
    last: u64,
}

impl Sessions {
    pub(super) fn open(&mut self, now: BootInstant, timeout: Duration) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        self.ends.insert(id, now + timeout);
        id
    }

    /// Lets a live session run until `now + timeout`; a dead one never revives (S11).
    pub(super) fn touch(
        &mut self,
        now: BootInstant,
        id: SessionId,
        timeout: Duration,
    ) -> Result<(), SessionGone> {
        self.check(now, id)?;
        self.ends.insert(id, now + timeout);
        Ok(())
    }

    pub(super) fn check(&self, now: BootInstant, id: SessionId) -> Result<(), SessionGone> {
        if now < self.ends_at(id) { Ok(()) } else { Err(SessionGone) }
    }

    pub(super) fn end(&mut self, id: SessionId) {
        self.ends.remove(&id);
    }

    pub(super) fn purge(&mut self, now: BootInstant) {
        self.ends.retain(|_, ends| now < *ends);
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }

    fn ends_at(&self, id: SessionId) -> BootInstant {
        self.ends.get(&id).copied().unwrap_or(BootInstant::from_nanos(0))
    }
}

/// What a hold, or a place in line, lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// A lease of its own, until then.
    Until(BootInstant),
    /// Its client's session.
    Session(SessionId),
}

impl Anchor {
    pub(super) fn ends_at(self, sessions: &Sessions) -> BootInstant {
        match self {
            Self::Until(at) => at,
            Self::Session(id) => sessions.ends_at(id),
        }
    }

    pub(super) fn session(self) -> Option<SessionId> {
        match self {
            Self::Until(_) => None,
            Self::Session(id) => Some(id),
        }
    }
}
