//! Who gets a hint when a key changes: one per key that has become free, never a herd.
//!
//! A waiter that leaves without having used its hint passes it on. One that ignores it for
//! [`PATIENCE`] is not counted on any more, so a future that nobody polls stops nobody.

use std::sync::Arc;

use lock_core::BootInstant;
use lock_core::Crowd;
use lock_core::Hint;
use lock_core::Mode;
use lock_core::Token;

use super::PATIENCE;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering;

/// A hint and whether its client can be reached by hints at all.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    pub(crate) hint: Hint,
    pub(crate) muted: Arc<AtomicBool>,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.muted.load(Ordering::Relaxed) {
            self.hint.give();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Not refused yet: its attempt is to come.
    Armed,
    /// Refused at its last attempt.
    Waiting,
    /// Told to try again, and has not yet.
    Hinted { until: BootInstant },
    /// Holds the lock, or did.
    Holding,
}

/// One armed hint.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: u64,
    token: Token,
    mode: Mode,
    role: Role,
    bell: Bell,
}

/// The armed hints of one key, in the order in which they were armed.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn arm(&mut self, id: u64, token: Token, mode: Mode, holds: bool, bell: Bell) {
        let role = if holds { Role::Holding } else { Role::Armed };
        self.0.push(Watcher { id, token, mode, role, bell });
    }

    /// Takes a watcher out; it is to be dropped outside the store's mutex, for wakers run code.
    pub(super) fn disarm(&mut self, id: u64) -> Option<Watcher> {
        let at = self.0.iter().position(|watcher| watcher.id == id)?;
        Some(self.0.remove(at))
    }

    pub(super) fn granted(&mut self, token: Token) {
        self.set(token, Role::Holding);
    }

    pub(super) fn refused(&mut self, token: Token) {
        self.set(token, Role::Waiting);
    }

    fn set(&mut self, token: Token, role: Role) {
        for watcher in self.0.iter_mut().filter(|watcher| watcher.token == token) {
            watcher.role = role;
        }
    }

    /// Tells whether a waiter of another mode came before `token`, so that readers that keep coming
    /// do not starve a writer that only polls.
    pub(super) fn stop(&self, now: BootInstant, token: Token, mode: Mode) -> bool {
        let mut earlier = self.0.iter().take_while(|watcher| watcher.token != token);
        mode != Mode::Exclusive && earlier.any(|other| other.waits(now, mode))
    }

    /// Hints the watchers of `token`.
    pub(super) fn hint(&mut self, now: BootInstant, token: Token, bells: &mut Vec<Bell>) {
        for watcher in self.0.iter_mut().filter(|watcher| watcher.token == token) {
            watcher.hint(now, bells);
        }
    }

    /// Hints those who could all be served beside `crowd`, first come first.
    pub(super) fn hint_waiting(
        &mut self,
        now: BootInstant,
        mut crowd: Crowd,
        bells: &mut Vec<Bell>,
    ) {
        for watcher in self.0.iter_mut().filter(|watcher| watcher.was_waiting()) {
            if !crowd.admits(watcher.mode) {
                return;
            }
            if watcher.counts(now) {
                crowd.add(watcher.mode);
            }
            watcher.hint(now, bells);
        }
    }
}

impl Watcher {
    /// Tells whether its leaving can make room for others.
    pub(super) fn was_waiting(&self) -> bool {
        self.role != Role::Holding
    }

    fn counts(&self, now: BootInstant) -> bool {
        match self.role {
            Role::Armed | Role::Waiting => true,
            Role::Hinted { until } => now < until,
            Role::Holding => false,
        }
    }

    fn waits(&self, now: BootInstant, mode: Mode) -> bool {
        self.mode != mode && self.role != Role::Armed && self.counts(now)
    }

    fn hint(&mut self, now: BootInstant, bells: &mut Vec<Bell>) {
        if matches!(self.role, Role::Armed | Role::Waiting) {
            self.role = Role::Hinted { until: now + PATIENCE };
        }
        bells.push(self.bell.clone());
    }
}
