//! What users see: the object-safe trait of every lock provider.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::Evicted;
use crate::Eviction;
use crate::Handle;
use crate::Holder;
use crate::KeyState;
use crate::LockGuard;
use crate::LockGuards;
use crate::LockOptions;
use crate::Profile;
use crate::Result;

/// A source of locks, whatever the store behind it. Use it as `Arc<dyn LockProvider>`.
///
/// The engine of this crate is the one implementation; write a [`Backend`](crate::Backend) to add a
/// store. Conveniences are on [`LockProviderExt`](crate::LockProviderExt).
///
/// # Errors
///
/// Every call fails with `InvalidInput` for a key or option that cannot be, `Unavailable` if the store
/// gives no usable answer in time, `Closed` after [`shutdown`](Self::shutdown).
#[async_trait]
pub trait LockProvider: Debug + Send + Sync + 'static {
    /// Returns what the backend can do.
    fn profile(&self) -> &Profile;

    /// Acquires `key`, waiting as `options` say.
    ///
    /// # Errors
    ///
    /// `Held` if it was not to wait, `Timeout` when the wait is over; both name the holders.
    /// `Unsupported` if the backend lacks the mode.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue, and whatever the store may have granted by
    /// then is released in the background: within two round trips of a reachable store nothing is left.
    async fn lock(&self, key: &str, options: &LockOptions) -> Result<LockGuard>;

    /// Tries once to acquire `key`, whatever wait the options name.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock), but contention is the value [`TryLock::Held`].
    ///
    /// # Cancel safety
    ///
    /// As for [`lock`](Self::lock).
    async fn try_lock(&self, key: &str, options: &LockOptions) -> Result<TryLock>;

    /// Acquires all of `keys`, or none.
    ///
    /// The keys are taken one after the other in the byte order of their full names, whatever the order
    /// they are given in, so that two such calls never wait for each other in a circle. What was taken is
    /// kept while the rest is waited for. At the end all guards are valid at the same instant.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use std::time::Duration;
    /// # use lock_core::{Engine, EngineOptions};
    /// use lock_core::{Fence, LockOptions, LockProvider, Result};
    ///
    /// /// Takes the articles of an order from the stock, each under its own fence.
    /// async fn place(locks: &dyn LockProvider, skus: &[&str]) -> Result<()> {
    ///     let options = LockOptions::new().wait(Duration::from_secs(5)); // for all together
    ///     let order = locks.lock_many(skus, &options).await?;
    ///     for sku in &order {
    ///         order.check()?; // all of them still hold
    ///         take_one(sku.key(), sku.fence());
    ///     }
    ///     order.unlock().await
    /// }
    ///
    /// fn take_one(sku: &str, fence: Fence) {
    ///     // UPDATE stock SET left = left - 1, fence = :fence WHERE sku = :sku AND fence <= :fence
    /// #   assert!(sku.starts_with("sku:") && fence.get() > 0);
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// # let store = lock_memory::Memory::connect(&lock_memory::Config::private());
    /// # let locks = Engine::new(Arc::new(store), EngineOptions::new())?;
    /// place(&locks, &["sku:7", "sku:3", "sku:7"]).await?;
    /// # assert!(locks.list("sku:").await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// - All keys are locked with the same `options`: mode, order, TTL, owner. An explicit owner may
    ///   re-enter each of them.
    /// - The wait is one for all keys together: [`Wait::For`](crate::Wait::For) is the time for the whole
    ///   call, the pauses of [`Wait::Attempts`](crate::Wait::Attempts) are used up by whichever key is
    ///   waited for.
    /// - A key that is named twice is locked once (in a mode with permits, for one permit): the lines of
    ///   an order may well name the same article.
    /// - `min_hold` counts only once the call has succeeded; `max_hold`, and a TTL that nobody renews, run
    ///   for each key from when it was taken.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock), about the first key that could not be had; `Lost` if one that was
    /// taken already was lost while the rest was waited for. The error names the
    /// [key](crate::Error::key). What had been taken is released in the background. `InvalidInput` for
    /// no key at all: a guard over nothing would be valid for ever and exclude nobody.
    ///
    /// # Deadlocks
    ///
    /// The order helps only within one call. Whoever holds a lock and then asks for others can wait in a
    /// circle with somebody who does it the other way round: name all keys in one call, or give each call a
    /// deadline, which ends the circle.
    ///
    /// A store that knows its keys by a hash (Postgres, 64 bits) may take two names for one lock. If both
    /// are in one call, the second is held by the first until the wait is over; if they are in different
    /// calls, the order of the names is no longer that of the locks. Both show by
    /// [`Holder::other_key`], and a deadline ends both.
    ///
    /// # Cancel safety
    ///
    /// As for [`lock`](Self::lock): nothing that was taken, asked for or queued is left.
    async fn lock_many(&self, keys: &[&str], options: &LockOptions) -> Result<LockGuards>;

    /// Releases `guard`; the same as [`LockGuard::unlock`].
    ///
    /// # Errors
    ///
    /// See [`LockGuard::unlock`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, even before it is polled, still releases in the background.
    async fn unlock(&self, guard: LockGuard) -> Result<()>;

    /// Renews `guard` now, with a new TTL; the same as [`LockGuard::extend`].
    ///
    /// # Errors
    ///
    /// See [`LockGuard::extend`].
    ///
    /// # Cancel safety
    ///
    /// The renewal may or may not happen; the guard never believes in more than was confirmed.
    async fn extend(&self, guard: &LockGuard, ttl: Duration) -> Result<()>;

    /// Tells whether anybody holds `key` now, ours or foreign. A snapshot: it may be false at once.
    ///
    /// # Cancel safety
    ///
    /// Reads only; dropping it changes nothing.
    async fn is_locked(&self, key: &str) -> Result<bool>;

    /// Tells who holds `key` and how many wait in the store's line.
    ///
    /// # Cancel safety
    ///
    /// Reads only; dropping it changes nothing.
    async fn status(&self, key: &str) -> Result<KeyState>;

    /// Lists the held or waited-for keys that begin with `prefix`, in byte order.
    ///
    /// # Cancel safety
    ///
    /// Reads only; dropping it changes nothing.
    async fn list(&self, prefix: &str) -> Result<Vec<KeyState>>;

    /// Takes `key` away from whoever holds it. Holders learn of it by watch or by their next renewal.
    ///
    /// # Cancel safety
    ///
    /// It may or may not happen.
    async fn force_unlock(&self, key: &str, how: Eviction) -> Result<Evicted>;

    /// Removes what expired holders left behind in the store and returns how many records went.
    ///
    /// Locks expire without it; it only reclaims space.
    ///
    /// # Cancel safety
    ///
    /// It may happen in part.
    async fn cleanup_expired(&self) -> Result<u64>;

    /// Renews once what a detached [`Handle`] holds, for `hold_for` from now, and returns for how long
    /// it is valid.
    ///
    /// # Errors
    ///
    /// `NotHeld` if it holds nothing any more.
    ///
    /// # Cancel safety
    ///
    /// It may or may not happen.
    async fn renew(&self, handle: &Handle, hold_for: Duration) -> Result<Duration>;

    /// Releases what a detached [`Handle`] holds.
    ///
    /// # Errors
    ///
    /// `NotHeld` if it holds nothing any more.
    ///
    /// # Cancel safety
    ///
    /// It may or may not happen.
    async fn release(&self, handle: &Handle) -> Result<()>;

    /// Ends the provider: refuses new calls, ends waits with `Closed`, releases all that is held, and
    /// closes the connections.
    ///
    /// Guards that still exist report their loss at once.
    ///
    /// # Errors
    ///
    /// `Timeout` if releases were still unconfirmed after `timeout`; they end by TTL.
    ///
    /// # Cancel safety
    ///
    /// The shutdown has begun and goes on in the background.
    async fn shutdown(&self, timeout: Duration) -> Result<()>;
}

/// What came of [`LockProvider::try_lock`].
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
#[expect(clippy::exhaustive_enums, reason = "a lock is either acquired or it is not")]
pub enum TryLock {
    /// The lock is ours while the guard lives.
    Acquired(LockGuard),
    /// Others hold it; as far as the store can tell, these.
    Held(Vec<Holder>),
}

impl TryLock {
    /// Returns the guard, if the lock was acquired.
    pub fn acquired(self) -> Option<LockGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Held(_) => None,
        }
    }
}
