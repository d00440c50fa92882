//! Who waits for what and who holds what, to be told when the server tells.
//!
//! A key with waiters is *shown*: the listening connection holds a shared lock on its second number, so that
//! a release knows that it has somebody to tell. It stays shown when the last waiter has gone, for keys come
//! back, and is hidden when it is told of in vain.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use lock_core::Hint;
use lock_core::Token;
use lock_core::Watch;

/// How many keys that nobody waits for stay shown.
const IDLE: usize = 64;

/// The hints of one client.
#[derive(Debug, Default)]
pub(crate) struct Hints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiters: HashMap<String, Vec<Waiter>>,
    shown: HashSet<String>,
    holders: HashMap<u64, Hint>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    token: Token,
    hint: Hint,
}

impl Hints {
    /// Registers a holder, to be told that it should look after its lock.
    pub(crate) fn add_holder(self: &Arc<Self>, hint: Hint) -> Watch {
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.holders.insert(id, hint);
        drop(state);
        Watch::new(Armed { hints: Arc::downgrade(self), key: None, id })
    }

    /// Registers a waiter, and tells whether its key is shown.
    pub(crate) fn add_waiter(
        self: &Arc<Self>,
        key: &str,
        token: Token,
        hint: Hint,
    ) -> (Watch, bool) {
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.waiters.entry(key.to_owned()).or_default().push(Waiter { id, token, hint });
        let shown = state.shown.contains(key);
        drop(state);
        let armed = Armed { hints: Arc::downgrade(self), key: Some(key.to_owned()), id };
        (Watch::new(armed), shown)
    }

    pub(crate) fn is_shown(&self, key: &str) -> bool {
        self.lock().shown.contains(key)
    }

    pub(crate) fn show(&self, key: &str) {
        self.lock().shown.insert(key.to_owned());
    }

    /// Takes out the shown keys that nobody waits for, if there are many; they are to be hidden.
    pub(crate) fn take_idle(&self) -> Vec<String> {
        let mut state = self.lock();
        if state.shown.len() <= state.waiters.len() + IDLE {
            return Vec::new();
        }
        let (waiters, shown) = (&state.waiters, &state.shown);
        let idle: Vec<_> =
            shown.iter().filter(|key| !waiters.contains_key(*key)).cloned().collect();
        state.shown.retain(|key| !idle.contains(key));
        idle
    }

    /// Tells those who wait for `key`: the ones that `tokens` names, or all. Returns whether the key is to be
    /// hidden, because nobody waits for it any more.
    pub(crate) fn tell(&self, key: &str, tokens: &str) -> bool {
        let named = |token: Token| {
            let token = token.to_string();
            tokens.is_empty() || tokens.split(',').any(|named| named == token)
        };
        let mut state = self.lock();
        let Some(waiters) = state.waiters.get(key) else { return state.shown.remove(key) };
        let told = waiters.iter().filter(|waiter| named(waiter.token));
        let hints: Vec<_> = told.map(|waiter| waiter.hint.clone()).collect();
        drop(state);
        // A hint may run code, so it is given outside the mutex.
        hints.iter().for_each(Hint::give);
        false
    }

    /// Tells all waiters that they will hear nothing more until they arm again.
    pub(crate) fn break_all(&self) {
        let mut state = self.lock();
        state.shown.clear();
        let gone = std::mem::take(&mut state.waiters);
        drop(state);
        gone.values().flatten().for_each(|waiter| waiter.hint.broken());
    }

    /// Tells all who hold to look.
    pub(crate) fn alarm(&self) {
        let hints: Vec<_> = self.lock().holders.values().cloned().collect();
        hints.iter().for_each(Hint::give);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place among the hints; of a waiter if it has a key.
struct Armed {
    hints: Weak<Hints>,
    key: Option<String>,
    id: u64,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let Some(hints) = self.hints.upgrade() else { return };
        let mut state = hints.lock();
        let holder = state.holders.remove(&self.id);
        let key = self.key.as_deref().unwrap_or_default();
        let waiter = state.waiters.get_mut(key).and_then(|waiters| {
            let at = waiters.iter().position(|waiter| waiter.id == self.id)?;
            Some(waiters.swap_remove(at))
        });
        if state.waiters.get(key).is_some_and(Vec::is_empty) {
            state.waiters.remove(key);
        }
        // Dropped outside the mutex, as a waker may run code.
        drop(state);
        drop((holder, waiter));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    use std::task::Wake;
    use std::task::Waker;

    use super::*;

    struct Bell(AtomicU64);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn bell() -> (Arc<Bell>, Hint) {
        let bell = Arc::new(Bell(AtomicU64::new(0)));
        (bell.clone(), Hint::new(Waker::from(bell)))
    }

    fn rung(bell: &Bell) -> u64 {
        bell.0.load(Ordering::SeqCst)
    }

    #[test]
    fn the_named_are_told_or_all() {
        let hints = Arc::new(Hints::default());
        let ((one, hint), (two, other)) = (bell(), bell());
        let (token, next) = (Token::random(), Token::random());
        let (_one, shown) = hints.add_waiter("a", token, hint);
        let (_two, _) = hints.add_waiter("a", next, other);
        assert!(!shown);
        hints.tell("a", &token.to_string());
        assert_eq!((rung(&one), rung(&two)), (1, 0));
        hints.tell("a", "");
        assert_eq!((rung(&one), rung(&two)), (2, 1));
    }

    #[test]
    fn a_key_is_hidden_when_it_is_told_of_in_vain() {
        let hints = Arc::new(Hints::default());
        let (_bell, hint) = bell();
        let (watch, _) = hints.add_waiter("a", Token::random(), hint);
        hints.show("a");
        assert!(!hints.tell("a", ""));
        drop(watch);
        assert!(hints.is_shown("a"));
        assert!(hints.tell("a", "") && !hints.is_shown("a"));
        assert!(!hints.tell("a", ""), "once is enough");
    }

    #[test]
    fn a_broken_line_is_told_to_waiters_once() {
        let hints = Arc::new(Hints::default());
        let (_, hint) = bell();
        let (_watch, _) = hints.add_waiter("a", Token::random(), hint.clone());
        hints.show("a");
        hints.break_all();
        assert!(hint.is_broken() && !hints.is_shown("a"));
    }

    #[test]
    fn few_keys_stay_shown() {
        let hints = Arc::new(Hints::default());
        (0..=IDLE).for_each(|n| hints.show(&n.to_string()));
        assert_eq!(hints.take_idle().len(), IDLE + 1);
        assert!(hints.take_idle().is_empty());
    }
}
