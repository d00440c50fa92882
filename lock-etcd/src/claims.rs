//! What this client has in the store, by token.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use lock_core::Lease;
use lock_core::Mode;
use lock_core::Token;

use crate::lease::Class;
use crate::line::Blocker;

/// All claims of one client that have, or may have, a key in the store.
#[derive(Default)]
pub(crate) struct Claims(Mutex<HashMap<Token, Arc<Entry>>>);

/// One claim.
#[derive(Default)]
pub(crate) struct Entry {
    /// Calls about one token go one after another, so that a release never overtakes the attempt it
    /// undoes.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<Mine>,
}

/// What is known of one claim.
#[derive(Clone, Default)]
pub(crate) struct Mine {
    /// The create revision of its key; none until an attempt has put it.
    pub(crate) revision: Option<i64>,
    /// The mode in which it was put.
    pub(crate) mode: Option<Mode>,
    /// Whether an attempt was told that it holds.
    pub(crate) holds: bool,
    /// The leases of attempts that got no answer: the server may still carry them out.
    pub(crate) unsure: Vec<i64>,
    /// On which lease its key hangs.
    pub(crate) lease: Option<Hanging>,
    /// The store's revision at which it was last seen there.
    pub(crate) seen: i64,
    /// What it waits for, and the revision at which that was true.
    pub(crate) blocked: Option<(Blocker, i64)>,
}

/// On which lease a key hangs.
#[derive(Clone)]
pub(crate) struct Hanging {
    pub(crate) class: Arc<Class>,
    pub(crate) id: i64,
    /// What the lease promised then.
    pub(crate) lease: Lease,
}

impl Claims {
    pub(crate) fn find(&self, token: Token) -> Option<Arc<Entry>> {
        self.lock().get(&token).cloned()
    }

    pub(crate) fn find_or_new(&self, token: Token) -> Arc<Entry> {
        self.lock().entry(token).or_default().clone()
    }

    pub(crate) fn forget(&self, token: Token) {
        let gone = self.lock().remove(&token);
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn mine(&self) -> Mine {
        self.state().clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Mine> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mine {
    /// Notes that its key is there.
    pub(crate) fn stands(&mut self, revision: i64, mode: Mode) {
        (self.revision, self.mode) = (Some(revision), Some(mode));
    }

    /// Notes that a key may still be put on `lease`.
    pub(crate) fn unsure(&mut self, lease: &Hanging) {
        if !self.unsure.contains(&lease.id) {
            self.unsure.push(lease.id);
        }
    }

    /// Notes that its key is gone.
    pub(crate) fn lost(&mut self) {
        (self.revision, self.holds, self.blocked) = (None, false, None);
    }
}
