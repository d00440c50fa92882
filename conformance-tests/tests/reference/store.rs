//! What the model remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use conformance_tests::Probe;
use lock_core::BootInstant;
use lock_core::Hint;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Token;

use super::Flaw;

/// What the store remembers.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(super) state: Mutex<State>,
    pub(super) clients: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) keys: BTreeMap<String, Slot>,
    pub(super) watchers: Vec<Watcher>,
    pub(super) watches: u64,
    pub(super) attempts: u64,
    pub(super) told: Vec<Hint>,
    pub(super) eaten: bool,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) holders: Vec<Held>,
    pub(super) line: Vec<Held>,
    pub(super) fence: u64,
    pub(super) released: Option<(Token, u64)>,
    pub(super) forgot: bool,
    pub(super) foreign: bool,
    /// How it was granted last.
    pub(super) last: Option<Mode>,
    /// Whether a holder has died.
    pub(super) dead: bool,
    /// Who lost a place in line.
    pub(super) dropped: Vec<Token>,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) mode: Mode,
    pub(super) owner: String,
    pub(super) fence: u64,
    pub(super) until: BootInstant,
    /// Who stood or held before it when it lined up.
    pub(super) behind: Option<Token>,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) number: u64,
    pub(super) key: String,
    pub(super) hint: Hint,
    /// Who waits, and how it wants to hold; nobody for one that holds.
    pub(super) waits: Option<(Token, Mode)>,
}

impl Store {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one step, and gives its hints when the mutex is free again: wakers run code.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let output = step(&mut state);
        let told = std::mem::take(&mut state.told);
        drop(state);
        told.iter().for_each(Hint::give);
        output
    }

    pub(crate) fn probe(&self, key: &LockKey, flaw: Option<Flaw>) -> Probe {
        let state = self.lock();
        let held = state.keys.get(key.as_str()).and_then(|slot| slot.holders.first());
        let wrong = flaw == Some(Flaw::ShowsToken);
        let token = held.map(|held| if wrong { Token::random() } else { held.token });
        Probe { locked: held.is_some(), token }
    }

    pub(crate) fn forget(&self) {
        self.lock().keys.clear();
    }

    pub(crate) fn corrupt(&self, key: &LockKey) {
        self.lock().keys.entry(key.as_str().into()).or_default().foreign = true;
    }
}

impl State {
    pub(super) fn tell(&mut self, key: &str, most: usize) {
        let told = self.watchers.iter().filter(|watcher| watcher.key == key);
        self.told.extend(told.take(most).map(|watcher| watcher.hint.clone()));
    }

    /// Tells whether a writer that only polls came before `token`: readers that keep coming must not
    /// starve it.
    pub(super) fn writer_waits(&self, key: &str, token: Token) -> bool {
        let of_key = self.watchers.iter().filter(|watcher| watcher.key == key);
        let mut waiting = of_key.filter_map(|watcher| watcher.waits);
        waiting.find_map(|(other, mode)| match mode {
            _ if other == token => Some(false),
            Mode::Exclusive => Some(true),
            _ => None,
        }) == Some(true)
    }
}

pub(super) struct Armed {
    pub(super) store: Arc<Store>,
    pub(super) number: u64,
    pub(super) leaks: bool,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        let gone = state.watchers.extract_if(.., |watcher| watcher.number == self.number);
        let gone: Vec<_> = gone.collect();
        state.eaten |= self.leaks;
        drop(state);
        if gone.iter().any(|watcher| matches!(watcher.waits, Some((_, Mode::Exclusive)))) {
            // It may have been all that kept readers back.
            self.store.step(|state| gone.iter().for_each(|gone| state.tell(&gone.key, usize::MAX)));
        }
        // The last waker of a task may drop what else it holds, also of this store.
        drop(gone);
    }
}
