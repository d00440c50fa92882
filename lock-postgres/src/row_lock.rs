//! Locks on rows of the user's own tables, for as long as the user's own transaction.
//!
//! The alternative to a lock of its own where all that has to be protected is in one database: no
//! lease, no fence, nothing to renew, and nothing that could be lost before the commit.

use std::time::Duration;

use lock_core::Result;
use sqlx::AssertSqlSafe;
use sqlx::Postgres;
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
    /// # use lock_postgres::{RowLock, statement_error};
    /// # async fn example(pool: sqlx::PgPool) -> lock_core::Result<()> {
    /// let mut transaction = pool.begin().await.map_err(statement_error)?;
    /// let read = RowLock::NoWait.read("SELECT quantity FROM stock WHERE sku = $1");
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
/// A statement that waited for longer fails; [`statement_error`] makes
/// [`Held`](lock_core::ErrorKind::Held) of it.
///
/// # Errors
///
/// As [`statement_error`] says.
///
/// # Cancel safety
///
/// Dropped, the transaction has to be rolled back.
pub async fn wait_at_most(
    transaction: &mut Transaction<'_, Postgres>,
    limit: Duration,
) -> Result<()> {
    // Zero would mean for ever.
    let millis = limit.as_millis().clamp(1, 86_400_000);
    sqlx::query("SELECT pg_catalog.set_config('lock_timeout', $1, true)")
        .bind(millis.to_string())
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(statement_error)
}
