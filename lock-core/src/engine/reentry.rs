//! Which owner holds what, so that it may enter again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;

use super::held::Held;
use crate::Error;
use crate::ErrorKind;
use crate::LockKey;
use crate::Mode;
use crate::Owner;
use crate::Result;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;

/// The holds of explicit owners.
#[derive(Debug, Default)]
pub(crate) struct Reentry {
    holds: Mutex<HashMap<(LockKey, Owner), Weak<Held>>>,
    changed: Notify,
}

impl Reentry {
    fn holds(&self) -> MutexGuard<'_, HashMap<(LockKey, Owner), Weak<Held>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more guard of what `owner` holds already; `None` if it holds nothing valid.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it holds the key in another mode.
    pub(crate) fn enter(
        &self,
        key: &LockKey,
        owner: &Owner,
        mode: Mode,
    ) -> Result<Option<Arc<Held>>> {
        let hold = self.holds().get(&(key.clone(), owner.clone())).and_then(Weak::upgrade);
        let Some(held) = hold.filter(|held| held.join()) else { return Ok(None) };
        if held.claim().mode == mode {
            return Ok(Some(held));
        }
        let message = format!(
            "{owner} holds this key as {}: release it before taking it as {mode}",
            held.claim().mode
        );
        held.release_in_background();
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    pub(crate) fn remember(&self, held: &Arc<Held>) {
        let claim = held.claim();
        let entry = (claim.key.clone(), claim.owner.clone());
        self.holds().insert(entry, Arc::downgrade(held));
        self.changed.notify_waiters();
    }

    /// Forgets `held`, unless its owner holds a newer one under the same name.
    pub(crate) fn forget(&self, key: &LockKey, owner: &Owner, held: &Held) {
        let mut holds = self.holds();
        if holds.is_empty() {
            return;
        }
        let entry = (key.clone(), owner.clone());
        if holds.get(&entry).is_some_and(|known| std::ptr::eq(known.as_ptr(), held)) {
            holds.remove(&entry);
        }
    }

    /// Completes when some owner has got a hold since `changed` was enabled.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}
