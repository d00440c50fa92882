//! What this client has in the store, by token.
//!
//! Calls about one token go one after another, so that a release never overtakes the attempt that it
//! undoes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use lock_core::Token;

use crate::session::Fate;

/// The claims of one client.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashMap<Token, Entry>>);

/// A claim, for whoever has the turn.
pub(crate) type Entry = Arc<tokio::sync::Mutex<Mine>>;

/// What is known of one claim.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mine {
    /// Nothing is stored, nor ever will be.
    #[default]
    Nothing,
    /// A contender was asked for in that session, and nothing was heard of it since.
    Unsure(Arc<Fate>),
    /// A contender is stored.
    Placed(Placed),
}

/// A contender of ours.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Whose it is.
    pub(crate) fate: Arc<Fate>,
    /// The path of its node.
    pub(crate) path: String,
    /// The last component of it.
    pub(crate) name: String,
    /// The transaction that created it.
    pub(crate) czxid: i64,
    pub(crate) holds: bool,
    /// Those it waited for when it last looked.
    pub(crate) blockers: Vec<String>,
    /// It is being deleted.
    pub(crate) doomed: bool,
}

impl Claims {
    pub(crate) fn get(&self, token: Token) -> Option<Entry> {
        self.lock().get(&token).cloned()
    }

    pub(crate) fn get_or_new(&self, token: Token) -> Entry {
        self.lock().entry(token).or_default().clone()
    }

    /// Forgets a claim of which the caller has the turn, unless others wait for theirs.
    pub(crate) fn forget(&self, token: Token) {
        let mut claims = self.lock();
        // The table's and the caller's.
        if claims.get(&token).is_some_and(|entry| Arc::strong_count(entry) <= 2) {
            claims.remove(&token);
        }
    }

    /// Forgets what went with sessions that are over, unless a call is about it.
    pub(crate) fn forget_ended(&self) {
        let asked_about = |entry: &Entry| Arc::strong_count(entry) > 1;
        let lives = |entry: &Entry| entry.try_lock().map_or(true, |mine| !mine.is_over());
        self.lock().retain(|_, entry| asked_about(entry) || lives(entry));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Placed {
    /// Describes a contender that nothing more is known of.
    pub(crate) fn new(fate: &Arc<Fate>, parent: &str, name: String, czxid: i64) -> Self {
        let path = format!("{parent}/{name}");
        let (blockers, fate) = (Vec::new(), fate.clone());
        Self { fate, path, name, czxid, holds: false, blockers, doomed: false }
    }
}

impl Mine {
    pub(crate) fn placed(&self) -> Option<&Placed> {
        match self {
            Self::Placed(placed) => Some(placed),
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Unsure(fate) => fate.has_ended(),
            Self::Placed(placed) => placed.fate.has_ended(),
        }
    }
}
