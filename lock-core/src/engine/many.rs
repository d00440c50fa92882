//! Several keys in one call: all or none.
//!
//! They are taken one after the other in the order of their full names, each by a lock call of its own
//! with what is left of one patience. What was taken is kept like any hold while the rest is waited for;
//! it goes with the call if that fails, is dropped, or finds one of them lost.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Engine;
use super::provider::acquired;
use super::request::Request;
use crate::Error;
use crate::ErrorKind;
use crate::Hold;
use crate::LockGuards;
use crate::LockOptions;
use crate::Result;
use crate::Wait;

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
        let wait = self.wait(options);
        let requests = self.in_order(keys, options, *wait != Wait::Never)?;
        self.0.check_open()?;
        let mut pace = self.0.pace(wait);
        let mut guards = Vec::with_capacity(requests.len());
        let mut losses = FuturesUnordered::new();
        for request in requests {
            let key = request.claim.key.clone();
            let outcome = tokio::select! {
                biased;
                outcome = self.carry_out(request, &mut pace) => outcome.and_then(acquired),
                // A shutdown ends what is held too, and says more.
                Some(lost) = losses.next() => self.0.check_open().and(Err(lost)),
            };
            let guard = outcome.map_err(|error| {
                self.0.stamp(error, "lock_many", Some(self.0.strip(key.as_str())))
            })?;
            losses.push(lost_meanwhile(guard.hold()));
            guards.push(guard);
        }
        let guards = LockGuards::new(guards);
        guards.check()?;
        for guard in &guards {
            guard.0.decide_min_hold(options.min_hold);
        }
        Ok(guards)
    }

    /// Parses a call for each key, sorted, each key once.
    fn in_order(&self, keys: &[&str], options: &LockOptions, waits: bool) -> Result<Vec<Request>> {
        if keys.is_empty() {
            let message = "no keys to lock: name at least one";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut requests = Vec::with_capacity(keys.len());
        for key in keys {
            let request = Request::parse(&self.0, key, options, waits);
            let mut request =
                request.map_err(|error| self.0.stamp(error, "lock_many", Some(key)))?;
            // If the rest cannot be had, this one must be free at once.
            request.min_hold = None;
            requests.push(request);
        }
        requests.sort_by(|one, other| one.claim.key.cmp(&other.claim.key));
        requests.dedup_by(|one, other| one.claim.key == other.claim.key);
        Ok(requests)
    }
}

/// Completes with an error when `hold` is lost.
async fn lost_meanwhile(hold: Hold) -> Error {
    let loss = hold.lost().await;
    let message = format!("the lock was lost while the others were waited for: {loss}");
    hold.0.stamp(Error::new(ErrorKind::Lost, message), "lock_many")
}
