//! The steps of a lock on one connection.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::Evicted;
use lock_core::Fence;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Release;
use lock_core::Result;
use rusqlite::CachedStatement;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;
use rusqlite::Params;
use rusqlite::params;
use rusqlite::types::Value;

use crate::boot::Boot;
use crate::config::SqliteConfig;
use crate::error::During;
use crate::error::classify;
use crate::row::Row;
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
    /// Whether a step since the last [`take_freed`](Self::take_freed) freed a key.
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

    pub(crate) fn attempt(&self, claim: &Claim, lease: Lease) -> Result<Attempt> {
        let at = self.boot.moment();
        let expires_at = self.boot.host_nanos_after(lease.since, lease.ttl);
        let floor = claim.fence_floor.and_then(|fence| i64::try_from(fence.get()).ok());
        let fence = self
            .prepare(&self.sql.attempt)?
            .query_row(
                params![
                    at.boot,
                    at.now,
                    at.booted,
                    claim.key.as_str(),
                    claim.token.to_string(),
                    claim.owner.as_str(),
                    claim.mode.to_string(),
                    expires_at,
                    floor.unwrap_or(0),
                ],
                |row| row.get::<_, i64>(0),
            )
            .optional()
            .map_err(|failure| self.fail(failure))?;
        match fence {
            Some(fence) => {
                let fence = Fence::new(u64::try_from(fence).unwrap_or(0))?;
                Ok(Attempt::Acquired { fence, lease })
            }
            None => self.refusal(&claim.key),
        }
    }

    /// Says who holds `key`. If it was freed since the refusal, nobody is named and a retry is due.
    fn refusal(&self, key: &LockKey) -> Result<Attempt> {
        let rows = self.look(std::slice::from_ref(key))?;
        let at = self.boot.moment();
        let holder = rows.first().map_or(Ok(None), |row| row.refused_for(&at))?;
        let retry_in = holder.as_ref().and_then(|holder| holder.expires_in).unwrap_or_default();
        let holders = Vec::from_iter(holder);
        Ok(Attempt::Held { holders, retry_in: Some(retry_in), ahead: None })
    }

    pub(crate) fn keep(
        &self,
        claims: &[Claim],
        since: lock_core::BootInstant,
    ) -> Result<Vec<Kept>> {
        let at = self.boot.moment();
        let mut keep = self.prepare(&self.sql.keep)?;
        let mut renew = |claim: &Claim| {
            let expires_at = self.boot.host_nanos_after(since, claim.ttl);
            let key = claim.key.as_str();
            let changed =
                keep.execute(params![at.boot, at.now, key, claim.token.to_string(), expires_at]);
            match changed.map_err(|failure| self.fail(failure))? {
                0 => Ok(Kept::Gone),
                _ => Ok(Kept::Renewed { lease: Lease { since, ttl: claim.ttl } }),
            }
        };
        claims.iter().map(&mut renew).collect()
    }

    pub(crate) fn release(&self, claim: &Claim) -> Result<Release> {
        let at = self.boot.moment();
        let (key, token) = (claim.key.as_str(), claim.token.to_string());
        match self.execute(&self.sql.release, params![at.boot, at.now, key, token])? {
            0 => Ok(Release::NotHeld),
            _ => {
                self.freed.set(true);
                Ok(Release::Released)
            }
        }
    }

    pub(crate) fn peek(&self, keys: &[LockKey]) -> Result<Vec<Peek>> {
        let rows = self.look(keys)?;
        let rows: HashMap<&str, &Row> = rows.iter().map(|row| (row.key.as_str(), row)).collect();
        let at = self.boot.moment();
        let peek =
            |key: &LockKey| match rows.get(key.as_str()).map_or(Ok(None), |row| row.left(&at))? {
                None => Ok(Peek::Free),
                left => Ok(Peek::Held { retry_in: left }),
            };
        keys.iter().map(peek).collect()
    }

    pub(crate) fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let rows = self.look(std::slice::from_ref(key))?;
        let at = self.boot.moment();
        let holder = rows.first().map_or(Ok(None), |row| row.holder(&at))?;
        Ok(KeyState::new(key.as_str(), Vec::from_iter(holder), 0))
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&Cursor>, limit: usize) -> Result<Page> {
        let at = self.boot.moment();
        let limit = limit.max(1);
        let after = after.map_or("", |cursor| cursor.0.as_str());
        let rows = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let end = end_of(prefix);
        let rows = self
            .rows(&self.sql.list, params![at.boot, at.now, at.booted, prefix, after, end, rows])?;
        let state =
            |row: &Row| Ok(KeyState::new(row.key.as_str(), Vec::from_iter(row.holder(&at)?), 0));
        let items = rows.iter().take(limit).map(state).collect::<Result<Vec<_>>>()?;
        let more = (rows.len() > limit).then(|| items.last().map(|last| last.key.clone()));
        Ok(Page { items, next: more.flatten().map(Cursor) })
    }

    /// Frees `key`, also from a holder whose row makes no sense: this is the way out of that.
    pub(crate) fn evict(&self, key: &LockKey) -> Result<Evicted> {
        let at = self.boot.moment();
        let holds = self
            .prepare(&self.sql.evict)?
            .query_row([key.as_str()], |row| {
                let (boot, expires, written) =
                    (row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
                Ok(if boot == at.boot { expires > at.now } else { written >= at.booted })
            })
            .optional()
            .map_err(|failure| self.fail(failure))?;
        self.freed.set(self.freed.get() || holds.is_some());
        Ok(Evicted::new(u64::from(holds == Some(true)), 0))
    }

    /// Removes up to [`PURGE_ROWS`] rows and returns how many went.
    pub(crate) fn purge(&self) -> Result<usize> {
        let at = self.boot.moment();
        self.execute(&self.sql.purge, params![at.boot, at.now, at.booted, PURGE_ROWS as i64])
    }

    fn look(&self, keys: &[LockKey]) -> Result<Vec<Row>> {
        let text = |key: &LockKey| Value::Text(key.as_str().to_owned());
        let keys: Rc<Vec<Value>> = Rc::new(keys.iter().map(text).collect());
        self.rows(&self.sql.look, [keys])
    }

    fn rows(&self, sql: &str, params: impl Params) -> Result<Vec<Row>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, Row::read);
        rows.and_then(Iterator::collect).map_err(|failure| classify(failure, During::Step))
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

/// Returns the first text after all that begin with `prefix`, if there is one: the order of UTF-8
/// is the order of code points.
fn end_of(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}
