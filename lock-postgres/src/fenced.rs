//! Writes that a stale holder cannot make: the check is part of the user's own transaction.

use lock_core::Fence;
use lock_core::Result;
use sqlx::AssertSqlSafe;
use sqlx::Postgres;
use sqlx::Transaction;

use crate::error::statement_error;
use crate::names::Name;

/// A table that remembers the highest fence with which each resource was written.
///
/// A lock cannot keep a process that was frozen, or cut off, from writing late: only what is written to
/// can. [`admit`](Self::admit) refuses such a write, in the transaction that makes it.
///
/// ```no_run
/// # use lock_core::{Fence, Result};
/// # use lock_postgres::{Fences, statement_error};
/// # async fn example(pool: sqlx::PgPool, fence: Fence) -> Result<()> {
/// let fences = Fences::new("fences")?;
/// let mut transaction = pool.begin().await.map_err(statement_error)?;
/// fences.admit(&mut transaction, "sku:123", fence).await?;
/// sqlx::query("UPDATE stock SET quantity = quantity - 1 WHERE sku = '123'")
///     .execute(&mut *transaction).await.map_err(statement_error)?;
/// transaction.commit().await.map_err(statement_error)?;
/// # Ok(()) }
/// ```
///
/// Where the rows written to can have a column of their own, no table is needed:
/// `UPDATE stock SET quantity = …, fence = $1 WHERE sku = $2 AND fence <= $1` hits no row if it is stale.
#[derive(Clone, Debug)]
pub struct Fences {
    table: Name,
}

impl Fences {
    /// Keeps the fences in `table`, which may be qualified by a schema.
    ///
    /// # Errors
    ///
    /// `Config` if the name is not made of ASCII letters, digits and underscores.
    pub fn new(table: &str) -> Result<Self> {
        Ok(Self { table: Name::table(table)? })
    }

    /// Writes the statement that creates the table.
    pub fn schema(&self) -> String {
        let table = self.table.quoted();
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (resource text PRIMARY KEY, fence bigint NOT NULL);"
        )
    }

    /// Lets the holder of `fence` write to `resource` in `transaction`, or refuses it.
    ///
    /// Until the transaction ends, other writers of the resource wait here, so nobody can come between
    /// this check and the commit. Take resources in the same order everywhere.
    ///
    /// # Errors
    ///
    /// `Lost` if a later holder has written: roll back. `Unavailable` as [`statement_error`] says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction has to be rolled back.
    pub async fn admit(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        resource: &str,
        fence: Fence,
    ) -> Result<()> {
        // A refused row stays locked all the same, so that what is read next is what refused it.
        let text = format!(
            "INSERT INTO {0} AS f (resource, fence) VALUES ($1, $2)
             ON CONFLICT (resource) DO UPDATE SET fence = excluded.fence WHERE f.fence <= $2",
            self.table.quoted()
        );
        let admit = sqlx::query(AssertSqlSafe(text)).bind(resource).bind(fence.get().cast_signed());
        if admit.execute(&mut **transaction).await.map_err(statement_error)?.rows_affected() > 0 {
            return Ok(());
        }
        let text = format!("SELECT fence FROM {} WHERE resource = $1", self.table.quoted());
        let highest = sqlx::query_scalar::<_, i64>(AssertSqlSafe(text)).bind(resource);
        let highest = highest.fetch_one(&mut **transaction).await.map_err(statement_error)?;
        fence.check_against(Fence::new(highest.cast_unsigned())?)
    }
}
