//! Writes of a holder to data in Redis, refused once a later holder has written.
//!
//! The highest fence that has written is kept beside the data, in its slot, and compared in the step that writes.
//! Unlike the lock itself this needs no clock and no TTL: a holder that was paused for an hour is refused.

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;
use redis::FromRedisValue;
use redis::RedisError;
use redis::Script;
use redis::ToRedisArgs;
use redis::aio::ConnectionLike;

use crate::error::During;
use crate::error::classify;
use crate::keys;
use crate::scripts;

/// A Lua script that runs only for a fence that is not stale: no later holder has written by one.
///
/// All writers of the data have to use such scripts. The highest fence is a key of its own, `lk:{T}w:KEY` with
/// T as for locks, and stays when the data is deleted, or a stale holder could bring it back.
///
/// # Examples
///
/// ```no_run
/// use lock_core::{LockProvider, LockOptions, Result};
/// use lock_redis::{FencedScript, redis};
///
/// /// Takes from the stock what its lock's holder has sold.
/// async fn sell(locks: &dyn LockProvider, redis: &redis::Client, sold: u32) -> Result<i64> {
///     let take = FencedScript::new("return redis.call('DECRBY', KEYS[1], ARGV[1])");
///     let mut connection = redis.get_multiplexed_async_connection().await.expect("a server");
///     let guard = locks.lock("sku:123", &LockOptions::new()).await?;
///     let left = take.run(&mut connection, "stock:123", sold, guard.fence()).await?;
///     guard.unlock().await?;
///     Ok(left)
/// }
/// ```
#[derive(Debug)]
pub struct FencedScript(Script);

impl FencedScript {
    /// Makes a script of `body`, which finds the key of the data in `KEYS[1]` and its arguments in `ARGV`.
    pub fn new(body: &str) -> Self {
        Self(Script::new(&scripts::fenced(body)))
    }

    /// Runs the body on `key`, unless a higher fence has written there; returns what the body does.
    ///
    /// The same fence may write as often as it likes. With a connection to a cluster everything happens in the
    /// slot of `key`.
    ///
    /// # Errors
    ///
    /// `Lost`, naming both fences, if a later holder has written: nothing was done. `Corrupt` if what is
    /// stored as the highest fence is none. Otherwise as every call to a server; an ambiguous error may be
    /// repeated if the body may.
    ///
    /// # Cancel safety
    ///
    /// The body has run or has not.
    pub async fn run<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        key: &str,
        arguments: impl ToRedisArgs,
        fence: Fence,
    ) -> Result<T> {
        let mut call = self.0.prepare_invoke();
        call.key(key).key(keys::mark_of(key)).arg(fence.get()).arg(arguments);
        call.invoke_async(connection).await.map_err(|failure| refused(failure, fence))
    }
}

/// Sets `key` to `value`, unless a later holder has written there: a [`FencedScript`] of one `SET`.
///
/// # Errors
///
/// As for [`FencedScript::run`]; `Lost` if the fence is stale.
///
/// # Cancel safety
///
/// The value is set or is not; repeating it is harmless.
///
/// # Examples
///
/// ```no_run
/// # async fn example(guard: lock_core::LockGuard, client: lock_redis::redis::Client) -> lock_core::Result<()> {
/// # let mut connection = client.get_multiplexed_async_connection().await.expect("a server");
/// lock_redis::set_fenced(&mut connection, "price:123", "9.90", guard.fence()).await?;
/// # Ok(()) }
/// ```
pub async fn set_fenced(
    connection: &mut impl ConnectionLike,
    key: &str,
    value: impl ToRedisArgs,
    fence: Fence,
) -> Result<()> {
    let set = FencedScript(scripts::SET_FENCED.clone());
    set.run(connection, key, value, fence).await
}

fn refused(failure: RedisError, fence: Fence) -> Error {
    if failure.code() != Some("LOCKSTALE") {
        return classify(failure, During::Request);
    }
    let stored = failure.detail().unwrap_or_default();
    let message = format!(
        "a later holder has written: the fence is {fence}, there was one of {stored}; nothing was written"
    );
    Error::new(ErrorKind::Lost, message)
}
