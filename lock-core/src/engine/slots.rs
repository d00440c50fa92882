//! The local line: one contender per key and process, the rest first come, first served.
//!
//! Only those who *wait* stand here. A holder does not, so a lock that is lost or expired never
//! blocks the others of its own process.

use std::sync::Arc;
use std::sync::PoisonError;

use tokio::sync::Semaphore;

use crate::Holder;
use crate::LockKey;
use crate::key::KeyMap;
use crate::sync::Mutex;
use crate::sync::MutexGuard;

/// The local lines of all keys that somebody contends for.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<KeyMap<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    users: usize,
    /// Where the second and all after it wait: mostly there is none.
    turn: Option<Arc<Semaphore>>,
    /// Who held the key when its contender last looked, for those behind it.
    holders: Vec<Holder>,
}

impl Slots {
    /// Takes a place in the line of `key`; the place is left when the seat is dropped.
    pub(crate) fn join(&self, key: &LockKey) -> Seat<'_> {
        let mut slots = self.lock();
        let slot = slots.entry(key.clone()).or_default();
        slot.users += 1;
        let is_first = slot.users == 1;
        let turn = (!is_first).then(|| slot.turn.get_or_insert_with(no_turn).clone());
        Seat { slots: self, key: key.clone(), turn, is_at_turn: is_first }
    }

    /// Notes who holds `key`, if anybody stands in line for it.
    pub(crate) fn note(&self, key: &LockKey, holders: &[Holder]) {
        if let Some(slot) = self.lock().get_mut(key) {
            slot.holders = holders.to_vec();
        }
    }

    /// Returns who held `key` when its contender last looked.
    pub(crate) fn noted(&self, key: &LockKey) -> Vec<Holder> {
        self.lock().get(key).map(|slot| slot.holders.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, KeyMap<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, key: &LockKey, was_at_turn: bool) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key) else { return };
        slot.users -= 1;
        if slot.users == 0 {
            slots.remove(key);
        } else if let Some(turn) = slot.turn.clone().filter(|_| was_at_turn) {
            drop(slots);
            // Outside the mutex: a waker may run its task at once.
            turn.add_permits(1);
        }
    }
}

/// A semaphore whose one permit is with somebody already.
fn no_turn() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// A place in a local line.
pub(crate) struct Seat<'a> {
    slots: &'a Slots,
    key: LockKey,
    turn: Option<Arc<Semaphore>>,
    is_at_turn: bool,
}

impl Seat<'_> {
    /// Whether it is this seat's turn: from the start on, if nobody was there before.
    pub(crate) fn is_at_turn(&self) -> bool {
        self.is_at_turn
    }

    /// Completes when it is this seat's turn, in the order in which seats first asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place; asking again goes to the end.
    pub(crate) async fn turn(&mut self) {
        if let Some(turn) = self.turn.as_ref().filter(|_| !self.is_at_turn) {
            let permit = turn.acquire().await;
            permit.expect("the semaphore of a slot is never closed").forget();
            self.is_at_turn = true;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.slots.leave(&self.key, self.is_at_turn);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_dropped_seat_passes_its_turn_on_and_leaves_nothing() {
        let slots = Slots::default();
        let key = LockKey::new("k").unwrap();
        let mut first = slots.join(&key);
        first.turn().await;
        let mut second = slots.join(&key);
        let mut third = slots.join(&key);
        {
            let mut waiting = Box::pin(second.turn());
            assert!((&mut waiting).now_or_never().is_none());
            let mut behind = Box::pin(third.turn());
            assert!((&mut behind).now_or_never().is_none());
            drop(first);
            drop(waiting);
            behind.await;
        }
        drop(second);
        drop(third);
        assert!(slots.0.lock().unwrap().is_empty());
    }
}
