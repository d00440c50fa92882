//! Writes that a stale holder cannot make: the check is part of the user's own transaction.

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;
use sqlx::AssertSqlSafe;
use sqlx::MySql;
use sqlx::Transaction;

use crate::config::is_plain_name;
use crate::error::statement_error;
use crate::schema::COLLATION;

/// A table that remembers the highest fence with which each resource was written.
///
/// A lock cannot keep a process that was frozen, or cut off, from writing late: only what is written to
/// can. [`admit`](Self::admit) refuses such a write, in the transaction that makes it.
///
/// ```no_run
/// # use lock_core::{Fence, Result};
/// # use lock_mysql::{Fences, statement_error};
/// # async fn example(pool: sqlx::MySqlPool, fence: Fence) -> Result<()> {
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
/// `UPDATE stock SET quantity = …, fence = ? WHERE sku = ? AND fence <= ?` hits no row if it is stale.
#[derive(Clone, Debug)]
pub struct Fences {
    table: String,
}

impl Fences {
    /// Keeps the fences in `table`, which may be qualified by a database.
    ///
    /// # Errors
    ///
    /// `Config` if the name is not made of ASCII letters, digits and underscores.
    pub fn new(table: &str) -> Result<Self> {
        let parts: Vec<&str> = table.split('.').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_plain_name(part, MAX_NAME_BYTES)) {
            let message = format!(
                "the table name {table:?} must be one or two words of ASCII letters, digits and \
                 underscores"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(Self { table: format!("`{}`", parts.join("`.`")) })
    }

    /// Writes the statement that creates the table, on either server.
    pub fn schema(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  \
               resource VARCHAR(512) CHARACTER SET utf8mb4 {COLLATION} NOT NULL PRIMARY KEY,\n  \
               fence    BIGINT NOT NULL\n) ENGINE=InnoDB;",
            self.table
        )
    }

    /// Lets the holder of `fence` write to `resource` in `transaction`, or refuses it.
    ///
    /// Until the transaction ends, other writers of the resource wait here, so nobody can come between
    /// this check and the commit. Take resources in the same order everywhere. It is one statement, and
    /// changes what `LAST_INSERT_ID()` says.
    ///
    /// # Errors
    ///
    /// `Lost` if a later holder has written: roll back. Others as [`statement_error`] says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction has to be rolled back.
    pub async fn admit(
        &self,
        transaction: &mut Transaction<'_, MySql>,
        resource: &str,
        fence: Fence,
    ) -> Result<()> {
        // The last insert id is the highest fence there is now, whatever the client's flags.
        let text = format!(
            "INSERT INTO {} (resource, fence) VALUES (?, LAST_INSERT_ID(?))
             ON DUPLICATE KEY UPDATE fence = LAST_INSERT_ID(GREATEST(fence, ?))",
            self.table
        );
        let wanted = fence.get().cast_signed();
        let admit = sqlx::query(AssertSqlSafe(text)).bind(resource).bind(wanted).bind(wanted);
        let done = admit.execute(&mut **transaction).await.map_err(statement_error)?;
        fence.check_against(Fence::new(done.last_insert_id())?)
    }
}

/// The longest name of a table.
const MAX_NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_cannot_carry_sql() {
        assert!(Fences::new("fences").unwrap().schema().contains("`fences` ("));
        assert!(Fences::new("app.fences").unwrap().schema().contains("`app`.`fences` ("));
        for name in ["", "a b", "a`", "a.b.c", ".a", "a;DROP", "1a"] {
            assert_eq!(Fences::new(name).unwrap_err().kind(), ErrorKind::Config, "{name}");
        }
    }
}
