//! What a holder of several keys has in hand.

use std::slice;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::future::select_all;

use crate::ErrorKind;
use crate::Fence;
use crate::LockGuard;
use crate::Loss;
use crate::Result;

/// Several locks that are held together while this lives, from
/// [`LockProvider::lock_many`](crate::LockProvider::lock_many). There is at least one.
///
/// Each key has a fence of its own, for the writes to what that key protects.
///
/// # Drop
///
/// Dropping it releases all of them, as dropping a [`LockGuard`] does: in the background and not at
/// once.
#[derive(Debug)]
#[must_use = "dropping the guards releases the locks"]
pub struct LockGuards(Vec<LockGuard>);

impl LockGuards {
    /// Takes guards that are sorted by key; at least one.
    pub(crate) fn new(guards: Vec<LockGuard>) -> Self {
        Self(guards)
    }

    /// Returns the guards in the byte order of their keys.
    pub fn iter(&self) -> slice::Iter<'_, LockGuard> {
        self.0.iter()
    }

    /// Returns the guard of `key`, if it is one of the keys.
    pub fn get(&self, key: &str) -> Option<&LockGuard> {
        let index = self.0.binary_search_by(|guard| guard.key().cmp(key)).ok()?;
        self.0.get(index)
    }

    /// Returns the number to send with every write to what `key` protects, if it is one of the keys.
    pub fn fence(&self, key: &str) -> Option<Fence> {
        self.get(key).map(|guard| guard.fence())
    }

    /// Tells whether all of them can be relied on now (G1).
    pub fn is_valid(&self) -> bool {
        self.iter().all(|guard| guard.is_valid())
    }

    /// Returns for how long all of them can be relied on if nothing more is heard from the store.
    pub fn valid_for(&self) -> Duration {
        self.iter().map(|guard| guard.valid_for()).min().unwrap_or_default()
    }

    /// Returns an error if one of them cannot be relied on; for a `?` before each irrevocable step.
    ///
    /// # Errors
    ///
    /// `Lost`, naming the first such key and saying why.
    pub fn check(&self) -> Result<()> {
        self.iter().try_for_each(|guard| guard.check())
    }

    /// Completes when the deadline of one of them is near and no renewal has been confirmed, and returns
    /// its key.
    ///
    /// # Cancel safety
    ///
    /// Waits only; dropping it changes nothing.
    pub async fn at_risk(&self) -> &str {
        let each = self.iter().map(|guard| async {
            guard.at_risk().await;
            guard.key()
        });
        select_all(each.map(Box::pin)).await.0
    }

    /// Completes when one of them is lost, and returns its key and why.
    ///
    /// # Cancel safety
    ///
    /// Waits only; dropping it changes nothing.
    pub async fn lost(&self) -> (&str, Loss) {
        let each = self.iter().map(|guard| async { (guard.key(), guard.lost().await) });
        select_all(each.map(Box::pin)).await.0
    }

    /// Releases all of them side by side and tells what came of it.
    ///
    /// # Errors
    ///
    /// All are released, whatever comes of one. If one was lost before, its `Lost`; else the first error
    /// of [`LockGuard::unlock`]. The error names the key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, even before it is polled, still releases all in the background.
    pub async fn unlock(self) -> Result<()> {
        let unlocked = join_all(self.0.into_iter().map(LockGuard::unlock)).await;
        let (losses, rest): (Vec<_>, Vec<_>) = unlocked
            .into_iter()
            .filter_map(Result::err)
            .partition(|error| error.kind() == ErrorKind::Lost);
        losses.into_iter().chain(rest).next().map_or(Ok(()), Err)
    }
}

impl<'a> IntoIterator for &'a LockGuards {
    type Item = &'a LockGuard;
    type IntoIter = slice::Iter<'a, LockGuard>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
