//! What a lock call learns while it waits, for those who show progress.

use std::fmt;
use std::sync::Arc;

use crate::Error;
use crate::Holder;

/// What a waiting lock call has learned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Waiting {
    /// An attempt found the key held.
    Held {
        /// By whom, as far as one step can tell; may be empty.
        holders: Vec<Holder>,
        /// How many stand before this call in the store's line, if it stands there.
        ahead: Option<u64>,
    },
    /// It still stands in the store's line.
    Queued {
        /// How many stand before it.
        ahead: u64,
    },
    /// An attempt failed and will be repeated.
    Failed {
        /// Why.
        error: Error,
    },
}

/// Somebody who is told what a call learns while it waits; see
/// [`LockOptions::observe`](crate::LockOptions::observe).
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Waiting) + Send + Sync>);

impl Observer {
    pub(crate) fn new(observer: impl Fn(Waiting) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    pub(crate) fn tell(&self, news: Waiting) {
        (self.0)(news);
    }
}

/// Two observers are equal if they are the same.
impl PartialEq for Observer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
