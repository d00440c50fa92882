//! Who waits for what, and what the server tells of it.
//!
//! Each key's card is also the name of a channel. A release publishes on it whose turn it may be: tokens of the
//! line, or `*`. Channels are subscribed to when the first waiter comes, and left some time after the last has
//! gone, so that short waits do not cost a command each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use lock_core::Hint;
use lock_core::Token;
use lock_core::Watch;
use redis::PushInfo;
use redis::PushKind;
use redis::Value;

/// How many channels that nobody waits on stay subscribed to: keys come back.
const IDLE: usize = 64;

/// The waiters of one server.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    channels: HashMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    /// Whether the server has confirmed that it will tell.
    subscribed: bool,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    token: Token,
    hint: Hint,
}

impl Hints {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Registers a waiter, and tells whether the channel has still to be subscribed to.
    pub(crate) fn add(self: &Arc<Self>, channel: &str, token: Token, hint: Hint) -> (Watch, bool) {
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        let entry = state.channels.entry(channel.to_owned()).or_default();
        entry.waiters.push(Waiter { id, token, hint });
        let subscribed = entry.subscribed;
        drop(state);
        let armed = Armed { hints: Arc::downgrade(self), channel: channel.to_owned(), id };
        (Watch::new(armed), !subscribed)
    }

    /// Returns the channels that have waiters and are not subscribed to yet.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let state = self.lock();
        let wanted = state.channels.iter().filter(|(_, entry)| !entry.subscribed);
        wanted
            .filter(|(_, entry)| !entry.waiters.is_empty())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Notes that the server will tell of `channels` from now on.
    pub(crate) fn confirmed(&self, channels: &[String]) {
        let mut state = self.lock();
        for channel in channels {
            if let Some(entry) = state.channels.get_mut(channel) {
                entry.subscribed = true;
            }
        }
    }

    /// Takes out the channels that nobody waits on, if there are many; they are to be left.
    pub(crate) fn take_idle(&self) -> Vec<String> {
        let mut state = self.lock();
        let idle = state.channels.iter().filter(|(_, entry)| entry.waiters.is_empty());
        let names: Vec<_> = idle.map(|(name, _)| name.clone()).collect();
        if names.len() <= IDLE {
            return Vec::new();
        }
        for name in &names {
            state.channels.remove(name);
        }
        names
    }

    /// Takes in what the server pushed.
    pub(crate) fn heard(&self, push: &PushInfo) {
        let mut texts = push.data.iter().map(|value| match value {
            Value::BulkString(bytes) => str::from_utf8(bytes).unwrap_or_default(),
            Value::SimpleString(text) => text,
            _ => "",
        });
        let channel = texts.next().unwrap_or_default();
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                self.hint(channel, texts.next().unwrap_or_default());
            }
            // Unasked for when the slot moves away; asked for only when nobody waits.
            PushKind::SUnsubscribe => self.break_one(channel),
            _ => {}
        }
    }

    /// Tells all that they will hear nothing more until they arm again.
    pub(crate) fn break_all(&self) {
        let gone = std::mem::take(&mut self.lock().channels);
        // A waker may do anything, so it is called outside the mutex.
        gone.values().flat_map(|entry| &entry.waiters).for_each(|waiter| waiter.hint.broken());
    }

    fn break_one(&self, channel: &str) {
        let gone = self.lock().channels.remove(channel);
        gone.iter().flat_map(|entry| &entry.waiters).for_each(|waiter| waiter.hint.broken());
    }

    fn hint(&self, channel: &str, message: &str) {
        let named =
            |token: &Token| message == "*" || message.split(' ').any(|it| it == token.to_string());
        let state = self.lock();
        let Some(entry) = state.channels.get(channel) else { return };
        let hints: Vec<_> =
            entry.waiters.iter().filter(|it| named(&it.token)).map(|it| it.hint.clone()).collect();
        drop(state);
        hints.iter().for_each(Hint::give);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiter's place among the hints.
struct Armed {
    hints: Weak<Hints>,
    channel: String,
    id: u64,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let Some(hints) = self.hints.upgrade() else { return };
        let mut state = hints.lock();
        let gone = state.channels.get_mut(&self.channel).and_then(|entry| {
            let at = entry.waiters.iter().position(|waiter| waiter.id == self.id)?;
            Some(entry.waiters.swap_remove(at))
        });
        // Dropped outside the mutex, as a waker may run code.
        drop(state);
        drop(gone);
    }
}
