//! Writes that a stale holder cannot make: the check is part of the user's own transaction.

use lock_core::Fence;
use lock_core::Result;
use rusqlite::Transaction;

use crate::config::check_table;
use crate::error::statement_error;

/// A table that remembers the highest fence with which each resource was written.
///
/// A lock cannot keep a process that was frozen from writing late: only what is written to can.
/// [`admit`](Self::admit) refuses such a write, in the transaction that makes it.
///
/// ```
/// # use lock_core::{Fence, Result};
/// # use lock_sqlite::{Fences, statement_error};
/// fn decrement(connection: &mut rusqlite::Connection, fence: Fence) -> Result<()> {
///     let fences = Fences::new("fences")?;
///     let transaction = connection.transaction().map_err(statement_error)?;
///     fences.admit(&transaction, "sku:123", fence)?;
///     let write = "UPDATE stock SET quantity = quantity - 1 WHERE sku = '123'";
///     transaction.execute(write, ()).map_err(statement_error)?;
///     transaction.commit().map_err(statement_error)
/// }
/// # let mut connection = rusqlite::Connection::open_in_memory().unwrap();
/// # let fences = Fences::new("fences").unwrap().schema();
/// # connection.execute_batch(&(fences + "CREATE TABLE stock (sku, quantity)")).unwrap();
/// # decrement(&mut connection, Fence::new(2).unwrap()).unwrap();
/// # decrement(&mut connection, Fence::new(1).unwrap()).unwrap_err();
/// ```
///
/// Where the rows written to can have a column of their own, no table is needed:
/// `UPDATE stock SET quantity = …, fence = ?1 WHERE sku = ?2 AND fence <= ?1` hits no row if it is stale.
#[derive(Clone, Debug)]
pub struct Fences {
    table: String,
}

impl Fences {
    /// Keeps the fences in `table`, in the file of the user's own connection.
    ///
    /// # Errors
    ///
    /// `Config` if the name is not made of ASCII letters, digits and underscores.
    pub fn new(table: &str) -> Result<Self> {
        check_table(table)?;
        Ok(Self { table: table.to_owned() })
    }

    /// Writes the statement that creates the table.
    pub fn schema(&self) -> String {
        let table = &self.table;
        format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" \
             (resource TEXT PRIMARY KEY, fence INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        )
    }

    /// Lets the holder of `fence` write to `resource` in `transaction`, or refuses it.
    ///
    /// From here on the transaction is the file's one writer, so nobody can come between this check and
    /// the commit. Call it before anything is read: a transaction that has read what another one has
    /// changed since cannot write any more.
    ///
    /// # Errors
    ///
    /// `Lost` if a later holder has written: roll back. Others as [`statement_error`] says.
    pub fn admit(&self, transaction: &Transaction<'_>, resource: &str, fence: Fence) -> Result<()> {
        let text = format!(
            "INSERT INTO \"{}\" (resource, fence) VALUES (?1, ?2)
             ON CONFLICT (resource) DO UPDATE SET fence = max(fence, excluded.fence)
             RETURNING fence",
            self.table
        );
        let highest = transaction
            .prepare_cached(&text)
            .and_then(|mut admit| {
                let values = (resource, fence.get().cast_signed());
                admit.query_row(values, |row| row.get::<_, i64>(0))
            })
            .map_err(statement_error)?;
        fence.check_against(Fence::new(highest.cast_unsigned())?)
    }
}
