//! Calls carried out on the connection, alone or many in one transaction.

use std::time::Duration;

use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Hint;

use crate::fs::Identity;
use crate::fs::Place;
use crate::store::Store;
use crate::turn::Turn;
use crate::wake::Wake;

/// The most claims in one look for those who wait.
const LOOK_CLAIMS: usize = 500;

/// How many writes there are between two looks at the size of the log.
const WRITES_PER_LOOK: u32 = 1_000;

/// The size from which the log is copied into the database: 1,000 pages, as SQLite itself does. A
/// longer log is slower: its index has one chain for all versions of a page.
const LOG_BYTES: u64 = 1_000 * 4_120;

/// What a call does to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It reads.
    Read,
    /// It writes with one statement or a few, and makes them a transaction of its own.
    Step,
    /// It writes with many statements, which need one transaction.
    Steps,
}

/// A call on its way: it keeps its outcome until it is answered, after the commit.
pub(crate) trait Call: Send {
    fn kind(&self) -> Kind;
    /// Does the work; once more if another process was in the way.
    fn run(&mut self, store: &Store);
    /// Replaces the outcome by a failure.
    fn fail(&mut self, error: Error);
    /// Tells whether the work did nothing and can be done again.
    fn can_repeat(&self) -> bool;
    /// Sends the outcome.
    fn answer(self: Box<Self>);
}

/// The connection with all that belongs to it.
pub(crate) struct Core {
    store: Store,
    place: Place,
    identity: Option<Identity>,
    turn: Turn,
    writes: u32,
    /// Whether the next write may sync the log's new header, which is not for a caller's thread.
    restarts: bool,
}

impl Core {
    pub(crate) fn new(store: Store, place: Place, turn: Turn) -> Self {
        let identity = place.identity();
        Self { store, place, identity, turn, writes: WRITES_PER_LOOK, restarts: true }
    }

    /// Carries `calls` out; they are to be answered when no mutex is held.
    pub(crate) fn carry_out(&mut self, calls: &mut [Box<dyn Call>]) {
        if calls.iter().all(|call| call.kind() == Kind::Read) {
            return self.run_alone(calls);
        }
        self.turn.pass();
        self.turn.take();
        if self.place.identity() != self.identity {
            return fail_all(calls, &replaced());
        }
        match calls {
            [step] if step.kind() == Kind::Step => step.run(&self.store),
            _ => {
                self.run_grouped(calls);
            }
        }
        self.restarts = false;
        self.after_write();
    }

    /// Carries single steps out if nothing is in their way, else returns `false` and has done
    /// nothing.
    pub(crate) fn try_steps(&mut self, steps: &mut [Box<dyn Call>]) -> bool {
        if self.restarts || !self.store.has_log() || self.log_is_due() || !self.turn.try_take() {
            return false;
        }
        if self.place.identity() != self.identity {
            fail_all(steps, &replaced());
            return true;
        }
        self.store.wait_for_others(false);
        let done = match steps {
            [step] => {
                step.run(&self.store);
                !step.can_repeat()
            }
            _ => self.run_grouped(steps),
        };
        self.store.wait_for_others(true);
        if done {
            self.after_write();
        }
        done
    }

    /// Gives the turn away unless others wait and the caller may come back in time; tells how long
    /// that is.
    pub(crate) fn rest(&mut self) -> Option<Duration> {
        self.turn.rest()
    }

    /// Tells whether the log is to be looked at, and perhaps copied, before the next write.
    pub(crate) fn log_is_due(&self) -> bool {
        self.writes >= WRITES_PER_LOOK
    }

    /// Copies the log into the database if it has grown. This syncs, so it is for the actor.
    pub(crate) fn tend_log(&mut self) {
        if !self.log_is_due() {
            return;
        }
        self.writes = 0;
        let log = rustix::fs::stat(self.place.beside("-wal"));
        let size = log.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        if size >= LOG_BYTES {
            self.store.checkpoint();
            self.restarts = true;
        }
    }

    /// Returns the hints of the waiters whose turn it is, or who should stand in line, to be given when
    /// no mutex is held. If that cannot be told it is all, so that their own attempts tell why.
    pub(crate) fn look(&self, wake: &Wake) -> Vec<Hint> {
        let mut due = Vec::new();
        for waiters in wake.drain().chunks(LOOK_CLAIMS) {
            let claims: Vec<Claim> = waiters.iter().map(|(claim, _)| claim.clone()).collect();
            let are_due = self.store.due(&claims).unwrap_or_else(|_| vec![true; claims.len()]);
            let hints = waiters.iter().zip(are_due).filter(|(_, is_due)| *is_due);
            due.extend(hints.map(|((_, hint), _)| hint.clone()));
        }
        due
    }

    fn after_write(&mut self) {
        self.writes += 1;
        // After the commit, so that whoever is woken finds the key free.
        if self.store.take_freed() {
            self.turn.announce();
        }
    }

    fn run_alone(&self, calls: &mut [Box<dyn Call>]) {
        calls.iter_mut().for_each(|call| call.run(&self.store));
    }

    /// Runs `calls` in one transaction, or returns `false` if it could not begin. A statement that
    /// fails is undone by itself; a failure that ends the transaction, or of the commit, undoes all.
    fn run_grouped(&self, calls: &mut [Box<dyn Call>]) -> bool {
        if let Err(error) = self.store.begin() {
            fail_all(calls, &error);
            return false;
        }
        for call in &mut *calls {
            call.run(&self.store);
            if !self.store.in_transaction() {
                fail_all(calls, &undone());
                return true;
            }
        }
        if let Err(error) = self.store.commit() {
            fail_all(calls, &error);
        }
        true
    }
}

fn fail_all(calls: &mut [Box<dyn Call>], error: &Error) {
    calls.iter_mut().for_each(|call| call.fail(error.clone()));
}

fn undone() -> Error {
    let why = "a grave failure of the database undid the transaction";
    Error::new(ErrorKind::Unavailable, why).ambiguous()
}

fn replaced() -> Error {
    let why = "the database file was removed or replaced while it was open: connect again";
    Error::new(ErrorKind::Unavailable, why).permanent()
}
