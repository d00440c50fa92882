//! All that an engine holds or stands in line for, and when somebody has to look at it.
//!
//! Two look: the keeper's task at what is to be renewed, and the clock's thread at deadlines. For each
//! there is one alarm, set for the earliest of all. What comes later, or goes, does not touch it, so a
//! lock call costs one entry here and neither a timer nor a wake-up; an alarm that finds nothing to do
//! is set again for the next.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Wake;
use std::task::Waker;

use slab::Slab;

use super::Shared;
use super::held::Held;
use super::keeper;
use super::keeper::Kin;
use crate::BootInstant;
use crate::clock::TimerId;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering;

/// Where one hold or place is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(usize);

/// The register of all that is looked after.
pub(crate) struct Register {
    state: Mutex<State>,
    /// Rings for the keeper's task.
    alarm: Arc<Notify>,
    keeper_runs: AtomicBool,
}

struct State {
    entries: Slab<Entry>,
    /// When the keeper's task looks next.
    keeper_looks_at: BootInstant,
    /// When the clock's thread looks next, and its timer.
    clock_looks_at: BootInstant,
    timer: Option<TimerId>,
}

struct Entry {
    kin: Kin,
    /// When its phase changes; never for a place in line.
    changes_at: BootInstant,
}

impl Register {
    pub(crate) fn new() -> Self {
        let state = State {
            entries: Slab::new(),
            keeper_looks_at: BootInstant::FAR,
            clock_looks_at: BootInstant::FAR,
            timer: None,
        };
        Self {
            state: Mutex::new(state),
            alarm: Arc::default(),
            keeper_runs: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters what `make` makes for its seat; from then on it is kept from `keep_at` on, and a change of
    /// its phase at `changes_at` is told.
    pub(crate) fn enter<T>(
        &self,
        shared: &Arc<Shared>,
        keep_at: Option<BootInstant>,
        changes_at: BootInstant,
        make: impl FnOnce(Seat) -> Arc<T>,
    ) -> Arc<T>
    where
        Kin: From<Arc<T>>,
    {
        let mut state = self.state();
        let vacant = state.entries.vacant_entry();
        let made = make(Seat(vacant.key()));
        vacant.insert(Entry { kin: Kin::from(made.clone()), changes_at });
        state.expect_change(shared, changes_at);
        let wakes_keeper = keep_at.is_some_and(|at| at < state.keeper_looks_at);
        if let Some(at) = keep_at.filter(|_| wakes_keeper) {
            state.keeper_looks_at = at;
        }
        drop(state);
        if wakes_keeper {
            self.alarm.notify_one();
        }
        if keep_at.is_some() {
            self.start_keeper(shared);
        }
        made
    }

    /// Starts the keeper's task with the first that is to be renewed, whatever has rung before.
    fn start_keeper(&self, shared: &Arc<Shared>) {
        let runs = &self.keeper_runs;
        if !runs.load(Ordering::Acquire) && !runs.swap(true, Ordering::AcqRel) {
            shared.executor.spawn(keeper::run(Arc::downgrade(shared), self.alarm.clone()));
        }
    }

    /// Strikes out an entry. Once for each: a seat is given to others afterwards.
    pub(crate) fn leave(&self, seat: Seat) {
        let entry = self.state().entries.try_remove(seat.0);
        // Dropped outside the mutex: the last reference cleans up after itself.
        drop(entry);
    }

    /// Everything that is held now.
    pub(crate) fn holds(&self) -> Vec<Arc<Held>> {
        self.state().entries.iter().filter_map(|(_, entry)| entry.kin.hold()).cloned().collect()
    }

    /// Makes the keeper's task look at once; or end, when the engine is gone.
    pub(crate) fn look_again(&self) {
        self.state().keeper_looks_at = BootInstant::from_nanos(0);
        self.alarm.notify_one();
    }

    /// Takes what is due for the keeper with all that may ride along, the shortest and most urgent
    /// first, or tells when to look next.
    pub(super) fn take_due(&self, now: BootInstant) -> Result<Vec<Kin>, BootInstant> {
        let mut state = self.state();
        if now < state.keeper_looks_at {
            return Err(state.keeper_looks_at);
        }
        let mut next = BootInstant::FAR;
        let mut ready = Vec::new();
        for (_, Entry { kin, .. }) in &state.entries {
            let Some((at, early)) = kin.keep_due() else { continue };
            next = next.min(at);
            if early <= now {
                ready.push(kin.clone());
            }
        }
        if next > now {
            state.keeper_looks_at = next;
            return Err(next);
        }
        drop(state);
        ready.retain(Kin::begin);
        ready.sort_by_cached_key(|kin| (kin.pace(), kin.urgency()));
        Ok(ready)
    }

    /// Looks at the clock for all holds whose phase may have changed.
    fn look_at_the_clock(&self, shared: &Arc<Shared>) {
        let now = shared.now();
        let mut state = self.state();
        state.clock_looks_at = BootInstant::FAR;
        let due = state.entries.iter().filter(|(_, entry)| entry.changes_at <= now);
        let due: Vec<_> = due.filter_map(|(_, entry)| entry.kin.hold()).cloned().collect();
        drop(state);
        due.iter().for_each(|held| held.look_at_the_clock(now));
        self.expect_changes(shared, &due);
        let mut state = self.state();
        let next = state.entries.iter().map(|(_, entry)| entry.changes_at).min();
        state.expect_change(shared, next.unwrap_or(BootInstant::FAR));
    }

    /// Notes when the phases of `holds` change after something has moved that.
    pub(crate) fn expect_changes<'a>(
        &self,
        shared: &Arc<Shared>,
        holds: impl IntoIterator<Item = &'a Arc<Held>>,
    ) {
        let mut state = self.state();
        for held in holds {
            // The hold may have left, and its seat be another's.
            let entry = state.entries.get_mut(held.seat.0);
            let its = |entry: &&mut Entry| entry.kin.hold().is_some_and(|it| Arc::ptr_eq(it, held));
            let Some(entry) = entry.filter(its) else { continue };
            // Asked for under the mutex, so that the last to come notes the last that holds.
            let at = held.changes_at();
            entry.changes_at = at;
            state.expect_change(shared, at);
        }
    }

    /// Forgets the timer of an engine that is gone.
    pub(super) fn close(&self, clock: &crate::Clock) {
        let timer = self.state().timer.take();
        if let Some(timer) = timer {
            clock.cancel(timer);
        }
    }
}

impl State {
    /// Sets the clock's timer for `at`, unless it looks before.
    fn expect_change(&mut self, shared: &Arc<Shared>, at: BootInstant) {
        if at >= self.clock_looks_at {
            return;
        }
        self.clock_looks_at = at;
        let waker = Waker::from(Arc::new(LookAtTheClock(Arc::downgrade(shared))));
        if let Some(later) = self.timer.replace(shared.clock().wake_at(at, waker)) {
            shared.clock().cancel(later);
        }
    }
}

/// The clock's thread calls here when something is due.
struct LookAtTheClock(Weak<Shared>);

impl Wake for LookAtTheClock {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.register.look_at_the_clock(&shared);
        }
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Register({} kept)", self.state().entries.len())
    }
}
