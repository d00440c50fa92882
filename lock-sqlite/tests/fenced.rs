//! Fenced writes in the user's own transactions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod common;

use std::path::Path;
use std::time::Duration;

use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;
use lock_sqlite::Fences;
use lock_sqlite::statement_error;
use rusqlite::Connection;

use crate::common::Directory;
use crate::common::acquire;
use crate::common::acquire_soon;
use crate::common::claim;
use crate::common::claim_for;
use crate::common::open;

/// The user's own connection to the file that the locks are in too.
fn stock(path: &Path, fences: &Fences) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&fences.schema()).unwrap();
    let table = "CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, quantity INTEGER);
                 INSERT OR IGNORE INTO stock VALUES ('a', 10)";
    connection.execute_batch(table).unwrap();
    connection
}

fn sell(connection: &mut Connection, fences: &Fences, fence: Fence) -> Result<()> {
    let transaction = connection.transaction().map_err(statement_error)?;
    fences.admit(&transaction, "sku:a", fence)?;
    let write = "UPDATE stock SET quantity = quantity - 1 WHERE sku = 'a'";
    transaction.execute(write, ()).map_err(statement_error)?;
    transaction.commit().map_err(statement_error)
}

fn quantity(connection: &Connection) -> i64 {
    let read = "SELECT quantity FROM stock WHERE sku = 'a'";
    connection.query_row(read, (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_stale_holder_is_refused_and_writes_nothing() {
    let directory = Directory::new();
    let locks = open(&directory.file()).await;
    let stale = acquire(&locks, &claim_for("a", Duration::from_millis(20))).await;
    let holder = acquire_soon(&locks, &claim("a")).await;
    let fences = Fences::new("fences").unwrap();
    let mut connection = stock(&directory.file(), &fences);
    sell(&mut connection, &fences, stale).unwrap();
    sell(&mut connection, &fences, holder).unwrap();
    sell(&mut connection, &fences, holder).unwrap();
    let error = sell(&mut connection, &fences, stale).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert_eq!(quantity(&connection), 7, "three were admitted");
}

#[tokio::test]
async fn nobody_comes_between_the_check_and_the_commit() {
    let directory = Directory::new();
    let fences = Fences::new("fences").unwrap();
    let (first, second) = (Fence::new(1).unwrap(), Fence::new(2).unwrap());
    let mut early = stock(&directory.file(), &fences);
    let mut late = stock(&directory.file(), &fences);
    late.busy_timeout(Duration::from_millis(50)).unwrap();
    let transaction = early.transaction().unwrap();
    fences.admit(&transaction, "sku:a", first).unwrap();
    let error = sell(&mut late, &fences, second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    transaction.commit().unwrap();
    sell(&mut late, &fences, second).unwrap();
    assert_eq!(sell(&mut early, &fences, first).unwrap_err().kind(), ErrorKind::Lost);
}
