//! The calls of a provider, each with its context stamped on what goes wrong.

use std::time::Duration;

use async_trait::async_trait;
use tracing::Instrument as _;
use tracing::Span;
use tracing::field;

use super::Engine;
use super::acquire::Acquire;
use super::pace::Pace;
use super::release::release_patiently;
use super::request;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Evicted;
use crate::Eviction;
use crate::Handle;
use crate::Kept;
use crate::KeyState;
use crate::LockGuard;
use crate::LockGuards;
use crate::LockOptions;
use crate::LockProvider;
use crate::Profile;
use crate::Release;
use crate::Result;
use crate::TryLock;
use crate::Wait;

/// How many keys one page of a listing holds.
const PAGE: usize = 500;

#[async_trait]
impl LockProvider for Engine {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn lock(&self, key: &str, options: &LockOptions) -> Result<LockGuard> {
        let now = self.0.now();
        let outcome = self.acquire(key, options, &mut self.pace(options, now), now).await;
        outcome.and_then(acquired).map_err(|error| self.0.stamp(error, "lock", Some(key)))
    }

    async fn lock_many(&self, keys: &[&str], options: &LockOptions) -> Result<LockGuards> {
        let outcome = self.acquire_many(keys, options).await;
        outcome.map_err(|error| self.0.stamp(error, "lock_many", None))
    }

    async fn try_lock(&self, key: &str, options: &LockOptions) -> Result<TryLock> {
        let now = self.0.now();
        let mut pace = self.0.pace(&Wait::Never, now);
        let outcome = self.acquire(key, options, &mut pace, now).await;
        outcome.map_err(|error| self.0.stamp(error, "try_lock", Some(key)))
    }

    async fn unlock(&self, guard: LockGuard) -> Result<()> {
        guard.unlock().await
    }

    async fn extend(&self, guard: &LockGuard, ttl: Duration) -> Result<()> {
        guard.extend(ttl).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        Ok(self.status(key).await?.is_locked())
    }

    async fn status(&self, key: &str) -> Result<KeyState> {
        self.status_of(key).await.map_err(|error| self.0.stamp(error, "status", Some(key)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KeyState>> {
        self.list_all(prefix).await.map_err(|error| self.0.stamp(error, "list", None))
    }

    async fn force_unlock(&self, key: &str, how: Eviction) -> Result<Evicted> {
        let evict = async {
            self.0.check_open()?;
            let key = self.0.parse_key(key)?;
            // Not repeated: after a lost reply it could hit the next holder.
            let evict = self.0.backend.evict(&key, how);
            let evicted = self.0.limited("force_unlock", evict).await?;
            self.0.waiters.wake_key(&key);
            Ok(evicted)
        };
        evict.await.map_err(|error: Error| self.0.stamp(error, "force_unlock", Some(key)))
    }

    async fn cleanup_expired(&self) -> Result<u64> {
        let purge = async {
            self.0.check_open()?;
            self.0.repeated("cleanup_expired", || self.0.backend.purge()).await
        };
        purge.await.map_err(|error| self.0.stamp(error, "cleanup_expired", None))
    }

    async fn renew(&self, handle: &Handle, hold_for: Duration) -> Result<Duration> {
        let renewed = self.renew_handle(handle, hold_for).await;
        renewed.map_err(|error| self.0.stamp(error, "renew", Some(&handle.key)))
    }

    async fn release(&self, handle: &Handle) -> Result<()> {
        let released = self.release_handle(handle).await;
        released.map_err(|error| self.0.stamp(error, "release", Some(&handle.key)))
    }

    async fn shutdown(&self, timeout: Duration) -> Result<()> {
        self.0.begin_close();
        let finish = self.0.clone().finish_close(timeout);
        let outcome = self.0.executor.run(finish).await.unwrap_or_else(|failure| {
            let message = "the background work ended before the shutdown";
            Err(Error::new(ErrorKind::Unavailable, message).with_source(failure))
        });
        outcome.map_err(|error| self.0.stamp(error, "shutdown", None))
    }
}

/// Makes contention an error, for a call that has no value for it.
pub(super) fn acquired(outcome: TryLock) -> Result<LockGuard> {
    match outcome {
        TryLock::Acquired(guard) => Ok(guard),
        TryLock::Held(holders) => {
            let message = "somebody else holds the lock";
            Err(Error::new(ErrorKind::Held, message).with_holders(holders))
        }
    }
}

impl Engine {
    /// The patience of a call with `options`, from `now` on.
    pub(super) fn pace(&self, options: &LockOptions, now: BootInstant) -> Pace {
        self.0.pace(options.wait.as_ref().unwrap_or(&self.0.options.wait), now)
    }

    /// By hand what `tracing::instrument` does: it would double the size of the future, which every lock
    /// call allocates.
    pub(super) async fn acquire(
        &self,
        key: &str,
        options: &LockOptions,
        pace: &mut Pace,
        now: BootInstant,
    ) -> Result<TryLock> {
        let backend = self.0.profile.name;
        let (owner, fence) = (field::Empty, field::Empty);
        let span = tracing::debug_span!("lock", backend, key, owner, fence);
        self.acquire_in(&span, key, options, pace, now).instrument(span.clone()).await
    }

    async fn acquire_in(
        &self,
        span: &Span,
        key: &str,
        options: &LockOptions,
        pace: &mut Pace,
        now: BootInstant,
    ) -> Result<TryLock> {
        let outcome = self.begin(span, key, options, pace, now)?.acquire().await?;
        if let TryLock::Acquired(guard) = &outcome {
            span.record("fence", guard.fence().get());
        }
        Ok(outcome)
    }

    /// Not in the future of the call, which would keep room for a claim that has long been handed on.
    fn begin<'a>(
        &'a self,
        span: &Span,
        key: &str,
        options: &'a LockOptions,
        pace: &'a mut Pace,
        now: BootInstant,
    ) -> Result<Acquire<'a>> {
        let claim = request::claim(&self.0, key, options, pace.waits())?;
        self.0.check_open()?;
        span.record("owner", claim.owner.as_str());
        Ok(Acquire::new(&self.0, claim, options, pace, now))
    }

    /// The claim of a handle, as this provider would have made it.
    fn claim_of(&self, handle: &Handle, ttl: Duration) -> Result<Claim> {
        let mut claim = Claim::new(self.0.parse_key(&handle.key)?, handle.owner.clone(), ttl);
        claim.token = handle.token;
        claim.mode = handle.mode;
        Ok(claim)
    }

    async fn renew_handle(&self, handle: &Handle, hold_for: Duration) -> Result<Duration> {
        self.0.check_open()?;
        let ttl = self.0.parse_ttl(Some(hold_for))?;
        let claims = [self.claim_of(handle, ttl)?];
        let keep = || self.0.backend.keep(&claims);
        let kept = self.0.repeated("renew", keep).await?;
        match self.0.expect_answers(kept, 1)?[0] {
            Kept::Renewed { lease } => {
                let until = lease.valid_until(self.0.profile.granularity);
                Ok(until.saturating_since(self.0.now()))
            }
            Kept::Queued { .. } | Kept::Gone => Err(not_held()),
            Kept::Unknown => Err(self.0.no_answer()),
        }
    }

    async fn release_handle(&self, handle: &Handle) -> Result<()> {
        self.0.check_open()?;
        let claim = self.claim_of(handle, self.0.default_ttl())?;
        match release_patiently(&self.0, &claim, self.0.now()).await? {
            Release::Released => Ok(()),
            Release::NotHeld => Err(not_held()),
        }
    }

    async fn status_of(&self, key: &str) -> Result<KeyState> {
        self.0.check_open()?;
        let key = self.0.parse_key(key)?;
        let mut state = self.0.repeated("status", || self.0.backend.inspect(&key)).await?;
        state.key = self.0.strip(&state.key).to_owned();
        Ok(state)
    }

    async fn list_all(&self, prefix: &str) -> Result<Vec<KeyState>> {
        self.0.check_open()?;
        let prefix = [self.0.options.prefix.as_str(), prefix].concat();
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let list = || self.0.backend.list(&prefix, cursor.clone(), PAGE);
            let page = self.0.repeated("list", list).await;
            let page = page.map_err(|error| error.with_key(|key| self.0.strip(key).to_owned()))?;
            all.extend(page.items.into_iter().map(|mut state| {
                state.key = self.0.strip(&state.key).to_owned();
                state
            }));
            if page.next.is_none() {
                return Ok(all);
            }
            cursor = page.next;
        }
    }
}

fn not_held() -> Error {
    Error::new(ErrorKind::NotHeld, "the handle holds nothing: released, expired or taken away")
}
