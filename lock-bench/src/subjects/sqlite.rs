//! A SQLite file, and the two statements that a lock in it takes at the least.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use lock::Token;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;
use rusqlite::params;
use tokio::time::sleep;

use crate::counting::Counts;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::order::Requests;
use crate::store::made;
use crate::subject::Rival;
use crate::subject::Subject;
use crate::subject::open;
use crate::usage::since_boot;
use crate::way::Way;

pub(crate) const SUBJECT: Subject = Subject {
    name: "sqlite",
    store: |folder| made(format!("sqlite:{}", folder.join("locks.db").display())),
    probe: None,
    version: || Box::pin(async { Ok(format!("SQLite {}", rusqlite::version())) }),
    has_processes: true,
    is_connection: |target| target.ends_with(".db"),
    bare: Some(Rival {
        name: "bare statements",
        open: |post| {
            let post = post.clone();
            open(async move { Bare::open(&post) })
        },
    }),
    peers: &[],
    notes: &[
        "no peer: no crate with locks in SQLite has an expiry, renewal or a fence",
        "bare statements know no wake-up: who waits tries again every 5 to 15 ms",
    ],
};

/// The table of the backend.
const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS locks (
  lock_key    TEXT    NOT NULL PRIMARY KEY,
  fence       INTEGER NOT NULL,
  token       TEXT,
  owner       TEXT    NOT NULL,
  mode        TEXT    NOT NULL,
  boot        TEXT    NOT NULL,
  expires_at  INTEGER NOT NULL,
  acquired_at INTEGER NOT NULL,
  written_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID";

/// Takes a key that is free or dead and draws a fence, for an exclusive lock and nothing else. Written
/// here again, not shared with the backend: the floor must not move with what stands on it.
const ATTEMPT: &str = "\
INSERT INTO locks AS l
SELECT ?1, wall, ?2, ?3, 'exclusive', ?4, ?5, wall, wall
FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000 AS wall) WHERE true
ON CONFLICT (lock_key) DO UPDATE SET
  fence = max(l.fence + 1, excluded.fence), token = excluded.token, owner = excluded.owner,
  mode = excluded.mode, boot = excluded.boot, expires_at = excluded.expires_at,
  acquired_at = excluded.acquired_at, written_at = excluded.written_at
WHERE l.token IS NULL OR (l.boot = excluded.boot AND l.expires_at <= ?6)
RETURNING fence";

const RELEASE: &str = "\
UPDATE locks SET token = NULL, written_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000
WHERE lock_key = ?1 AND token = ?2 AND boot = ?3 AND expires_at > ?4";

const KEEP: &str = "\
UPDATE locks
SET expires_at = ?5, written_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000
WHERE lock_key = ?1 AND token = ?2 AND boot = ?3 AND expires_at > ?4";

/// The boot that rows are of; one host and one run need no real one.
const BOOT: &str = "0d3b7ad0-30c1-4b52-8f40-6f5f2a1f2a4c";

/// How many renewals share a transaction.
const BATCH: usize = 500;

/// The statements on one connection, as the backend has one; nothing around them.
struct Bare {
    connection: Mutex<Connection>,
    ttl: Duration,
    counts: Counts,
}

/// The key and the token of a held lock.
type Held = (String, String);

impl Bare {
    fn open(post: &Post) -> Outcome<Self> {
        let path = post.url.strip_prefix("sqlite:").ok_or_else(|| Failure::new("no SQLite URL"))?;
        let connection = Connection::open(path)?;
        // Long enough for whoever SQLite lets wait the longest.
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // The log is copied by SQLite itself, at the size at which the backend copies it.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        let (connection, counts) = (Mutex::new(connection), Counts::default());
        Ok(Self { connection, ttl: post.ttl, counts })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(&self, key: &str, token: &str) -> Outcome<Option<i64>> {
        self.counts.request();
        let (now, end) = self.lease()?;
        let params = params![key, token, "bench", BOOT, end, now];
        let connection = self.connection();
        let mut statement = connection.prepare_cached(ATTEMPT)?;
        Ok(statement.query_row(params, |row| row.get(0)).optional()?)
    }

    /// Now, and when a lease that begins now ends, by the boot clock.
    fn lease(&self) -> Outcome<(i64, i64)> {
        let now = since_boot();
        Ok((now.as_nanos().try_into()?, (now + self.ttl).as_nanos().try_into()?))
    }

    fn keep_batch(&self, batch: &[Held]) -> Outcome {
        self.counts.keep(batch.len());
        let (now, end) = self.lease()?;
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let mut statement = transaction.prepare_cached(KEEP)?;
        for (key, token) in batch {
            if statement.execute(params![key, token, BOOT, now, end])? != 1 {
                return Err(Failure::new("a bare lock was lost"));
            }
        }
        drop(statement);
        Ok(transaction.commit()?)
    }
}

impl Way for Bare {
    type Guard = Held;

    async fn lock(&self, key: &str) -> Outcome<Held> {
        let token = Token::random().to_string();
        while self.attempt(key, &token)?.is_none() {
            sleep(Duration::from_millis(rand::random_range(5..=15))).await;
        }
        Ok((key.to_owned(), token))
    }

    async fn unlock(&self, (key, token): Held) -> Outcome {
        self.counts.request();
        let (now, _) = self.lease()?;
        let connection = self.connection();
        match connection.prepare_cached(RELEASE)?.execute(params![key, token, BOOT, now])? {
            1 => Ok(()),
            _ => Err(Failure::new("a bare lock was lost")),
        }
    }

    async fn keep(&self, guards: &[Held]) -> Outcome {
        guards.chunks(BATCH).try_for_each(|batch| self.keep_batch(batch))
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.counts.requests())
    }
}
