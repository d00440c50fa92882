//! The local line: one contender per key and process, the rest first come, first served.
//!
//! Only those who *wait* stand here. A holder does not, so a lock that is lost or expired never
//! blocks the others of its own process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::Holder;
use crate::LockKey;
use crate::sync::Mutex;
use crate::sync::MutexGuard;

/// The local lines of all keys that somebody contends for.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<HashMap<LockKey, Slot>>);

#[derive(Debug)]
struct Slot {
    turn: Arc<Semaphore>,
    users: usize,
    /// Who held the key when its contender last looked, for those behind it.
    holders: Vec<Holder>,
}

impl Slots {
    /// Takes a place in the line of `key`; the place is left when the seat is dropped.
    pub(crate) fn join<'a>(&'a self, key: &'a LockKey) -> Seat<'a> {
        let mut slots = self.lock();
        let slot = slots.entry(key.clone()).or_insert_with(Slot::new);
        slot.users += 1;
        Seat { slots: self, key, turn: slot.turn.clone(), permit: None }
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

    fn lock(&self) -> MutexGuard<'_, HashMap<LockKey, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, key: &LockKey) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(key) {
            slot.users -= 1;
            if slot.users == 0 {
                slots.remove(key);
            }
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), users: 0, holders: Vec::new() }
    }
}

/// A place in a local line.
pub(crate) struct Seat<'a> {
    slots: &'a Slots,
    key: &'a LockKey,
    turn: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Seat<'_> {
    /// Completes when it is this seat's turn, in the order in which seats first asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place; asking again goes to the end.
    pub(crate) async fn turn(&mut self) {
        let permit = self.turn.clone().acquire_owned().await;
        self.permit = Some(permit.expect("the semaphore of a slot is never closed"));
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.slots.leave(self.key);
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
