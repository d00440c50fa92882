//! Keys that several processes take from each other, on a store that tells nobody of a release.
//!
//! Those of one process hear of each other's releases at once; those of others have to look just between two of
//! them. So a process that has had such a key for a while leaves it alone for as long as others take to look
//! twice. What is known of other processes is what was seen of them: a fence that is not this one's.

use std::sync::PoisonError;
use std::time::Duration;

use super::Shared;
use crate::BootInstant;
use crate::Claim;
use crate::Fence;
use crate::Holder;
use crate::LockKey;
use crate::Wakeup;
use crate::key::KeyMap;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering;

/// How long a process keeps a key among its own.
const TURN: Duration = Duration::from_millis(250);

/// For how long others who had a key are expected to want it again.
const MEMORY: Duration = Duration::from_secs(5);

/// How many keys are remembered before those that have been forgotten are looked for.
const FEW: usize = 256;

/// The keys that calls of this process have found held.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    keys: Mutex<Keys>,
    /// Whether there may be any: keys that nobody contends for cost no more than this.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Keys {
    turns: KeyMap<Turn>,
    /// At how many to look for those that can be forgotten.
    full: usize,
}

#[derive(Debug)]
struct Turn {
    /// The last fence that was seen of the key.
    last: Fence,
    /// Since when this process has had it among its own.
    ours: Option<BootInstant>,
    others_at: Option<BootInstant>,
    seen_at: BootInstant,
}

impl Turns {
    /// Notes who was found to hold `key`. Whose the first fence is, is not known; each higher one that was not
    /// granted here is somebody else's.
    pub(crate) fn found(&self, key: &LockKey, holders: &[Holder], now: BootInstant) {
        let Some(fence) = holders.iter().filter_map(|holder| holder.fence).max() else { return };
        let mut keys = self.lock();
        if let Some(turn) = keys.turns.get_mut(key) {
            turn.seen_at = now;
            if fence > turn.last {
                (turn.last, turn.ours, turn.others_at) = (fence, None, Some(now));
            }
            return;
        }
        keys.forget(now);
        let turn = Turn { last: fence, ours: None, others_at: None, seen_at: now };
        keys.turns.insert(key.clone(), turn);
        self.any.store(true, Ordering::Release);
    }

    /// Notes that this process has got `key`.
    pub(crate) fn taken(&self, key: &LockKey, fence: Fence, now: BootInstant) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        if let Some(turn) = self.lock().turns.get_mut(key) {
            turn.last = fence.max(turn.last);
            turn.ours.get_or_insert(now);
        }
    }

    /// Tells whether it is the turn of others, once for each turn.
    pub(crate) fn is_over(&self, key: &LockKey, now: impl FnOnce() -> BootInstant) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut keys = self.lock();
        let Some(turn) = keys.turns.get_mut(key) else { return false };
        let now = now();
        let had = turn.ours.is_some_and(|at| now.saturating_since(at) >= TURN);
        let over = had && turn.others_at.is_some_and(|at| now.saturating_since(at) < MEMORY);
        if over {
            turn.ours = None;
        }
        over
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Notes who holds a key, where all that other processes can do is to look.
    pub(super) fn note_others(&self, key: &LockKey, holders: &[Holder]) {
        if self.profile.wakeup == Wakeup::Poll {
            self.turns.found(key, holders, self.now());
        }
    }

    /// Tells whether others want the key and this process has had it for long enough. In line all have turns.
    pub(super) fn is_turn_over(&self, claim: &Claim) -> bool {
        !claim.queue && self.turns.is_over(&claim.key, || self.now())
    }

    /// Passes as much time as others take to look twice, if there is as much.
    pub(super) async fn give_way(&self, deadline: BootInstant) {
        let until = self.now() + self.profile.poll.first * 2;
        if until < deadline {
            tokio::select! {
                () = self.clock().sleep_until(until) => {}
                () = self.closing() => {}
            }
        }
    }
}

impl Keys {
    fn forget(&mut self, now: BootInstant) {
        if self.turns.len() >= self.full.max(FEW) {
            self.turns.retain(|_, turn| now.saturating_since(turn.seen_at) < MEMORY);
            self.full = self.turns.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootInstant = BootInstant::from_nanos(1_000_000_000_000);

    fn fence(number: u64) -> Fence {
        Fence::new(number).unwrap()
    }

    fn holder(number: u64) -> [Holder; 1] {
        [Holder::new().with_fence(fence(number))]
    }

    fn key(name: &str) -> LockKey {
        LockKey::new(name).unwrap()
    }

    #[test]
    fn who_shares_a_key_with_others_leaves_it_to_them_once_a_turn() {
        let (turns, a) = (Turns::default(), key("a"));
        turns.found(&a, &holder(1), NOW);
        turns.found(&a, &holder(2), NOW);
        turns.taken(&a, fence(3), NOW);
        assert!(!turns.is_over(&a, || NOW + TURN / 2));
        turns.taken(&a, fence(4), NOW + TURN / 2);
        assert!(turns.is_over(&a, || NOW + TURN));
        assert!(!turns.is_over(&a, || NOW + TURN), "it has just been left");
        turns.taken(&a, fence(5), NOW + TURN);
        assert!(turns.is_over(&a, || NOW + TURN * 2));
        // A turn of others ends one's own.
        turns.taken(&a, fence(6), NOW + TURN * 2);
        turns.found(&a, &holder(7), NOW + TURN * 2);
        assert!(!turns.is_over(&a, || NOW + TURN * 3));
        // They may have gone.
        turns.taken(&a, fence(8), NOW + TURN * 3);
        assert!(!turns.is_over(&a, || NOW + TURN * 3 + MEMORY));
    }

    #[test]
    fn where_there_are_no_others_nobody_gives_way() {
        let (turns, a) = (Turns::default(), key("a"));
        turns.taken(&a, fence(1), NOW);
        turns.found(&a, &holder(1), NOW);
        for n in 2..9 {
            turns.taken(&a, fence(n), NOW);
            turns.found(&a, &holder(n), NOW);
        }
        assert!(!turns.is_over(&a, || NOW + TURN));
        assert!(!turns.is_over(&key("b"), || NOW + TURN));
    }

    #[test]
    fn what_nobody_contends_for_any_more_is_forgotten() {
        let turns = Turns::default();
        for n in 0..FEW {
            turns.found(&key(&n.to_string()), &holder(1), NOW);
        }
        turns.found(&key("late"), &holder(1), NOW + MEMORY);
        assert_eq!(turns.lock().turns.len(), 1);
    }
}
