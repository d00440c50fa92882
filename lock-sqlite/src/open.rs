//! Opens the database and makes sure that its tables are ours.

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension as _;
use rusqlite::TransactionBehavior;

use crate::config::SqliteConfig;
use crate::error::During;
use crate::error::classify;
use crate::fs::Place;
use crate::statements;

/// How many prepared statements a connection keeps: all of ours and a few to spare.
const STATEMENTS: usize = 32;

/// Opens the database at `place`, creating file and tables as needed.
pub(crate) fn open(config: &SqliteConfig, place: &Place) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&place.path, flags).map_err(in_step)?;
    connection.busy_timeout(config.busy_timeout).map_err(in_step)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    refuse_read_only(&connection, place)?;
    refuse_utf16(&connection, place)?;
    rusqlite::vtab::array::load_module(&connection).map_err(in_step)?;
    choose_journal(&connection)?;
    ensure_tables(&mut connection, &config.table)?;
    Ok(connection)
}

/// SQLite opens what it may not write as read-only without a word.
fn refuse_read_only(connection: &Connection, place: &Place) -> Result<()> {
    if !connection.is_readonly("main").map_err(in_step)? {
        return Ok(());
    }
    let path = place.path.display();
    Err(config(format!("{path} can only be read; locks need to write it and its directory")))
}

/// Keys are listed in the order of their bytes, and there their bytes are others.
fn refuse_utf16(connection: &Connection, place: &Place) -> Result<()> {
    let encoding: String = query_one(connection, "PRAGMA encoding")?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    let path = place.path.display();
    Err(config(format!("{path} keeps its text in {encoding}; give the locks a file of their own")))
}

/// A new database gets a write-ahead log; somebody's own keeps the journal it has.
///
/// NORMAL does not sync at each commit, which is safe with the log: a process that dies loses
/// nothing, and a machine that dies takes the boot, and with it each lock, along. The last fences may
/// be lost with it; the clock in them makes the next ones higher. With another journal NORMAL could
/// damage the file, so FULL is used.
fn choose_journal(connection: &Connection) -> Result<()> {
    let objects: i64 = query_one(connection, statements::COUNT_OBJECTS)?;
    let current: String = query_one(connection, "PRAGMA journal_mode")?;
    let mode = if objects == 0 && current != "wal" {
        query_one(connection, "PRAGMA journal_mode = WAL")?
    } else {
        current
    };
    // The actor copies the log itself: a caller's step must not.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(in_step)?;
    let level = if mode == "wal" { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", level).map_err(in_step)
}

/// Creates what is missing: a table of locks without the second one is from before there were modes.
fn ensure_tables(connection: &mut Connection, table: &str) -> Result<()> {
    if missing_tables(connection, table)?.is_empty() {
        return Ok(());
    }
    let behavior = TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior).map_err(in_step)?;
    // Another process may have made them while this one waited.
    for create in missing_tables(&transaction, table)? {
        transaction.execute_batch(&create).map_err(in_step)?;
    }
    transaction.commit().map_err(|failure| classify(failure, During::Commit))
}

/// Returns the statements that create what is missing.
fn missing_tables(connection: &Connection, table: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (name, create) in statements::tables(table) {
        if !has_table(connection, &name, &create)? {
            missing.push(create);
        }
    }
    Ok(missing)
}

fn has_table(connection: &Connection, name: &str, create: &str) -> Result<bool> {
    let found = connection
        .query_row(statements::FIND_TABLE, [name], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?))
        })
        .optional()
        .map_err(in_step)?;
    let Some((is_table, sql)) = found else { return Ok(false) };
    if is_table && plain(&sql) == plain(create) {
        return Ok(true);
    }
    Err(config(format!(
        "{name:?} exists and is not a table of locks: choose another with ?table=NAME, or make it \
         with {create}"
    )))
}

/// Spelling that makes no difference is taken out: what is left is compared.
fn plain(sql: &str) -> String {
    let keep = |c: &char| !c.is_whitespace() && *c != '"';
    sql.chars().filter(keep).collect::<String>().to_ascii_lowercase()
}

fn query_one<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> Result<T> {
    connection.query_row(sql, [], |row| row.get(0)).map_err(in_step)
}

fn in_step(failure: rusqlite::Error) -> Error {
    classify(failure, During::Step)
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
