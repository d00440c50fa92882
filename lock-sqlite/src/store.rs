//! The steps of a lock on one connection.
//!
//! A claim moves from the second table to the first (from the line to an exclusive hold) and never
//! back, and whoever counts a row as dead overwrites or deletes it in the same transaction: a renewal
//! that comes late finds nothing to revive.

mod attempt;
mod hold;
mod look;

use std::cell::Cell;
use std::time::Duration;

use lock_core::Error;
use lock_core::Evicted;
use lock_core::LockKey;
use lock_core::Result;
use rusqlite::CachedStatement;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;
use rusqlite::Params;
use rusqlite::params;

use crate::boot::Boot;
use crate::boot::Moment;
use crate::config::SqliteConfig;
use crate::error::During;
use crate::error::classify;
use crate::statements::Statements;

/// How many rows one step of a purge takes, so that it keeps nobody waiting for long.
pub(crate) const PURGE_ROWS: usize = 500;

/// A connection and what it takes to work on it.
pub(crate) struct Store {
    connection: Connection,
    sql: Statements,
    boot: Boot,
    has_log: bool,
    busy_timeout: Duration,
    /// Whether a step since the last [`take_freed`](Self::take_freed) made room for others.
    freed: Cell<bool>,
}

impl Store {
    pub(crate) fn new(connection: Connection, config: &SqliteConfig, boot: Boot) -> Result<Self> {
        let journal = connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
        let journal: String = journal.map_err(|failure| classify(failure, During::Step))?;
        Ok(Self {
            has_log: journal == "wal",
            connection,
            sql: Statements::new(&config.table),
            boot,
            busy_timeout: config.busy_timeout,
            freed: Cell::new(false),
        })
    }

    /// Tells whether commits go to a write-ahead log, so that they need no sync.
    pub(crate) fn has_log(&self) -> bool {
        self.has_log
    }

    /// Sets whether steps wait for other processes or fail at once as busy.
    pub(crate) fn wait_for_others(&self, waits: bool) {
        let limit = if waits { self.busy_timeout } else { Duration::ZERO };
        let set = self.connection.busy_timeout(limit);
        debug_assert!(set.is_ok(), "the configuration has checked the range");
    }

    /// Copies the log into the database as far as readers allow. What cannot be copied now is next time.
    pub(crate) fn checkpoint(&self) {
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }

    /// Tells whether waiters have something to hear of, once.
    pub(crate) fn take_freed(&self) -> bool {
        self.freed.take()
    }

    pub(crate) fn begin(&self) -> Result<()> {
        self.execute("BEGIN IMMEDIATE", []).map(drop)
    }

    /// Commits, or rolls back and says why.
    pub(crate) fn commit(&self) -> Result<()> {
        let committed = self.prepare("COMMIT")?.execute([]);
        if committed.is_err() && self.in_transaction() {
            // What cannot be rolled back is undone when the connection closes.
            let _ = self.execute("ROLLBACK", []);
        }
        committed.map(drop).map_err(|failure| classify(failure, During::Commit))
    }

    /// Tells whether a transaction is open; a grave error ends it unasked.
    pub(crate) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Frees `key`, also from holders whose rows make no sense: this is the way out of that. The line
    /// stays, but for places that make no sense.
    pub(crate) fn evict(&self, key: &LockKey) -> Result<Evicted> {
        self.atomically(|| {
            let at = self.boot.moment();
            let exclusive = self.query(&self.sql.evict, [key.as_str()], |row| {
                let (boot, expires, written) = (row.get::<_, String>(0)?, row.get(1)?, row.get(2)?);
                Ok(counts(&at, &boot, expires, written))
            })?;
            let mut fallen = u64::from(exclusive == Some(true));
            let rows = self.look(std::slice::from_ref(key))?;
            for row in rows.iter().filter(|row| row.place > 0) {
                if row.fence.is_some() || row.stake(&at).is_err() {
                    self.execute(&self.sql.drop_claim, params![row.key, row.token])?;
                    let counted = counts(&at, &row.boot, row.expires_at, row.written_at);
                    fallen += u64::from(counted && row.fence.is_some());
                }
            }
            self.freed.set(true);
            Ok(Evicted::new(fallen, 0))
        })
    }

    /// Removes up to [`PURGE_ROWS`] rows and returns how many went.
    pub(crate) fn purge(&self) -> Result<usize> {
        let at = self.boot.moment();
        let purge = |sql: &str, rows: usize| {
            self.execute(sql, params![at.boot, at.now, at.booted, rows as i64])
        };
        let gone = purge(&self.sql.purge_claims, PURGE_ROWS)?;
        Ok(gone + purge(&self.sql.purge, PURGE_ROWS - gone)?)
    }

    /// Runs several statements as one, all or none: alone, or inside the transaction of a group.
    fn atomically<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.in_transaction() {
            return self.inside(work);
        }
        self.begin()?;
        let done = work();
        if done.is_err() {
            // Unless a grave error has done it. As above for what cannot be rolled back.
            let _ = self.execute("ROLLBACK", []);
            return done;
        }
        self.commit().and(done)
    }

    fn inside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.execute("SAVEPOINT step", [])?;
        let done = work();
        if done.is_err() {
            // Fails only if a grave error has ended the transaction, and then there is nothing to undo.
            let _ = self.execute("ROLLBACK TO step", []);
            let _ = self.execute("RELEASE step", []);
            return done;
        }
        self.execute("RELEASE step", []).and(done)
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, read);
        rows.and_then(Iterator::collect).map_err(|failure| classify(failure, During::Step))
    }

    /// Runs a statement that returns a row or none, to its end: a statement that writes commits only
    /// there, and what fails then must not get lost.
    fn query<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let row = self.prepare(sql)?.query_one(params, read).optional();
        row.map_err(|failure| self.fail(failure))
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.prepare(sql)?.execute(params).map_err(|failure| self.fail(failure))
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).map_err(|failure| classify(failure, During::Step))
    }

    /// Outside a transaction a statement commits itself, so its failure may be the commit's.
    fn fail(&self, failure: rusqlite::Error) -> Error {
        let during = if self.in_transaction() { During::Step } else { During::Commit };
        classify(failure, during)
    }
}

/// Tells whether a hold still counted, whatever else its row says.
fn counts(at: &Moment, boot: &str, expires_at: i64, written_at: i64) -> bool {
    if boot == at.boot { expires_at > at.now } else { written_at >= at.booted }
}
