//! Locks on rows of the user's own tables, for as long as the user's own transaction.
//!
//! The alternative to a lock of its own where all that has to be protected is in one database: no
//! lease, no fence, nothing to renew, and nothing that could be lost before the commit.

use std::time::Duration;

use lock_core::Result;
use sqlx::AssertSqlSafe;
use sqlx::MySql;
use sqlx::Transaction;

use crate::error::statement_error;

/// What a locking read does about rows that other transactions have locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the database knows these three")]
pub enum RowLock {
    /// Waits for them; at most for what [`wait_at_most`] has set.
    #[default]
    Wait,
    /// Fails at once; [`statement_error`] makes [`Held`](lock_core::ErrorKind::Held) of it.
    NoWait,
    /// Leaves them out, as the workers of a queue want it.
    SkipLocked,
}

impl RowLock {
    /// Makes a locking read of `select`, to be used like its text.
    ///
    /// ```no_run
    /// # use lock_mysql::{RowLock, statement_error};
    /// # async fn example(pool: sqlx::MySqlPool) -> lock_core::Result<()> {
    /// let mut transaction = pool.begin().await.map_err(statement_error)?;
    /// let read = RowLock::NoWait.read("SELECT quantity FROM stock WHERE sku = ?");
    /// let quantity: Option<i64> = sqlx::query_scalar(read).bind("123")
    ///     .fetch_optional(&mut *transaction).await.map_err(statement_error)?;
    /// # let _ = quantity;
    /// # Ok(()) }
    /// ```
    pub fn read(self, select: &'static str) -> AssertSqlSafe<String> {
        let how = match self {
            Self::Wait => "",
            Self::NoWait => " NOWAIT",
            Self::SkipLocked => " SKIP LOCKED",
        };
        AssertSqlSafe(format!("{select} FOR UPDATE{how}"))
    }
}

/// Limits how long each later statement of `transaction` waits for rows that others have locked.
///
/// A statement that waited for longer fails, and the transaction goes on without it; [`statement_error`]
/// makes [`Held`](lock_core::ErrorKind::Held) of it. The server counts in whole seconds, so the limit is
/// rounded up to the next; and it belongs to the connection, so later transactions on that have it too
/// until they set their own.
///
/// # Errors
///
/// As [`statement_error`] says.
///
/// # Cancel safety
///
/// Dropped, the transaction has to be rolled back.
pub async fn wait_at_most(transaction: &mut Transaction<'_, MySql>, limit: Duration) -> Result<()> {
    let seconds = limit.as_millis().div_ceil(1_000).clamp(1, 86_400);
    // A setting takes no parameter that is bound, and this is a number.
    let set = AssertSqlSafe(format!("SET SESSION innodb_lock_wait_timeout = {seconds}"));
    let done = sqlx::raw_sql(set).execute(&mut **transaction).await;
    done.map(drop).map_err(statement_error)
}
