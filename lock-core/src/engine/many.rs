//! Several keys in one call: all or none.
//!
//! They are taken one after the other in the order of their full names, each by a lock call of its own
//! with what is left of one patience. What was taken is kept like any hold while the rest is waited for;
//! it goes with the call if that fails, is dropped, or finds one of them lost.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Engine;
use super::provider::acquired;
use crate::Error;
use crate::ErrorKind;
use crate::Hold;
use crate::LockGuards;
use crate::LockOptions;
use crate::Result;

impl Engine {
    #[tracing::instrument(
        name = "lock_many",
        level = "debug",
        skip_all,
        fields(backend = self.0.profile.name, keys = keys.len())
    )]
    pub(super) async fn acquire_many(
        &self,
        keys: &[&str],
        options: &LockOptions,
    ) -> Result<LockGuards> {
        let keys = self.in_order(keys)?;
        // If the rest cannot be had, what was taken must be free at once.
        let unbound = LockOptions { min_hold: Duration::ZERO, ..options.clone() };
        let mut pace = self.pace(options, self.0.now());
        let mut guards = Vec::with_capacity(keys.len());
        let mut losses = FuturesUnordered::new();
        for key in keys {
            let outcome = tokio::select! {
                biased;
                outcome = self.acquire(key, &unbound, &mut pace, self.0.now()) => outcome.and_then(acquired),
                // A shutdown ends what is held too, and says more.
                Some(lost) = losses.next() => self.0.check_open().and(Err(lost)),
            };
            let guard = outcome.map_err(|error| self.0.stamp(error, "lock_many", Some(key)))?;
            losses.push(lost_meanwhile(guard.hold()));
            guards.push(guard);
        }
        let guards = LockGuards::new(guards);
        guards.check()?;
        for guard in &guards {
            guard.0.lasts_at_least(options.min_hold);
        }
        Ok(guards)
    }

    /// Sorts the keys by their full names, each once.
    fn in_order<'a>(&self, keys: &[&'a str]) -> Result<Vec<&'a str>> {
        if keys.is_empty() {
            let message = "no keys to lock: name at least one";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        for key in keys {
            let parsed = self.0.parse_key(key);
            parsed.map_err(|error| self.0.stamp(error, "lock_many", Some(key)))?;
        }
        // They have one prefix, so their own order is that of their full names.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// Completes with an error when `hold` is lost.
async fn lost_meanwhile(hold: Hold) -> Error {
    let loss = hold.lost().await;
    let message = format!("the lock was lost while the others were waited for: {loss}");
    hold.0.stamp(Error::new(ErrorKind::Lost, message), "lock_many")
}
