//! Calls carried out on the connection, alone or many in one transaction.

use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Peek;
use lock_core::Result;

use crate::fs::Identity;
use crate::fs::Place;
use crate::store::Store;
use crate::turn::Turn;
use crate::wake::Wake;

/// The most keys in one look for those who wait.
const LOOK_KEYS: usize = 500;

/// How many writes there are between two looks at the size of the log.
const WRITES_PER_LOOK: u32 = 1_000;

/// The size from which the log is copied into the database: 1,000 pages, as SQLite itself does.
const LOG_BYTES: u64 = 1_000 * 4_120;

/// What a call does to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It reads.
    Read,
    /// It writes with one statement, which is a transaction of its own.
    Step,
    /// It writes with several statements, which need one transaction.
    Steps,
}

/// A call on its way: run on the connection, it leaves an answer, which is sent after the commit.
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) run: Run,
}

/// Does the work, or takes note that there is no store to do it on.
pub(crate) type Run = Box<dyn FnOnce(Result<&Store>) -> Answer + Send>;

/// Sends a call's answer, or the failure that undid it.
pub(crate) type Answer = Box<dyn FnOnce(Option<Error>)>;

/// An [`Answer`] that knows what came of the commit.
pub(crate) type Reply = Box<dyn FnOnce()>;

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

    /// Carries `calls` out; they are to be answered when no lock is held.
    pub(crate) fn carry_out(&mut self, calls: Vec<Call>) -> Vec<Reply> {
        if calls.iter().all(|call| call.kind == Kind::Read) {
            return self.run_alone(calls);
        }
        self.turn.pass();
        self.turn.take();
        let replies = if self.place.identity() != self.identity {
            refuse(calls, &replaced())
        } else if calls.len() == 1 && calls.iter().all(|call| call.kind == Kind::Step) {
            self.run_alone(calls)
        } else {
            self.run_grouped(calls)
        };
        self.restarts = false;
        self.after_write();
        replies
    }

    /// Runs one step at once if nothing is in its way, else returns `None` and has done nothing.
    pub(crate) fn try_step<T>(&mut self, work: &impl Fn(&Store) -> Result<T>) -> Option<Result<T>> {
        if self.restarts || !self.store.has_log() || self.log_is_due() || !self.turn.try_take() {
            return None;
        }
        if self.place.identity() != self.identity {
            return Some(Err(replaced()));
        }
        let outcome = self.store.without_waiting(work);
        if outcome.as_ref().is_err_and(|error| error.is_retryable() && !error.is_ambiguous()) {
            return None;
        }
        self.after_write();
        Some(outcome)
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

    /// Hints the waiters whose keys are free. A key that cannot be judged is hinted too, so that
    /// the waiter's own attempt tells why.
    pub(crate) fn look(&self, wake: &Wake) {
        for keys in wake.drain().chunks(LOOK_KEYS) {
            let Ok(peeks) = self.store.peek(keys) else {
                wake.hint(keys);
                continue;
            };
            let free = |(key, peek)| (peek == Peek::Free).then_some(key);
            let free: Vec<&LockKey> = keys.iter().zip(peeks).filter_map(free).collect();
            wake.hint(free);
        }
    }

    fn after_write(&mut self) {
        self.writes += 1;
        // After the commit, so that whoever is woken finds the key free.
        if self.store.take_freed() {
            self.turn.announce();
        }
    }

    fn run_alone(&self, calls: Vec<Call>) -> Vec<Reply> {
        let run = |call: Call| -> Reply {
            let answer = (call.run)(Ok(&self.store));
            Box::new(move || answer(None))
        };
        calls.into_iter().map(run).collect()
    }

    /// Runs `calls` in one transaction. A statement that fails is undone by itself; a failure that
    /// ends the transaction, or of the commit, undoes all.
    fn run_grouped(&self, calls: Vec<Call>) -> Vec<Reply> {
        if let Err(error) = self.store.begin() {
            return refuse(calls, &error);
        }
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let store = if self.store.in_transaction() { Ok(&self.store) } else { Err(undone()) };
            answers.push((call.run)(store));
        }
        let failure =
            if self.store.in_transaction() { self.store.commit().err() } else { Some(undone()) };
        let reply = |answer: Answer| -> Reply {
            let failure = failure.clone();
            Box::new(move || answer(failure))
        };
        answers.into_iter().map(reply).collect()
    }
}

fn refuse(calls: Vec<Call>, error: &Error) -> Vec<Reply> {
    let refuse = |call: Call| -> Reply {
        let answer = (call.run)(Err(error.clone()));
        Box::new(move || answer(None))
    };
    calls.into_iter().map(refuse).collect()
}

fn undone() -> Error {
    let why = "a grave failure of the database undid the transaction";
    Error::new(ErrorKind::Unavailable, why).ambiguous()
}

fn replaced() -> Error {
    let why = "the database file was removed or replaced while it was open: connect again";
    Error::new(ErrorKind::Unavailable, why).permanent()
}
