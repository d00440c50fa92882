//! The SQL text, all of it.
//!
//! Clocks of leases are parameters, read before SQLite waits for its write lock, so that a long wait
//! can only shorten a lease. The wall clock of fences is read by SQLite inside the step, after
//! the write lock, so that no step can draw a lower fence than one that a purge has removed before.
//!
//! A row stays when its lock is free, so that fences rise. Other holders of the same key (shared,
//! permits) and places in line get a second table keyed by `(lock_key, token)`; the row here
//! keeps the key's fence and mode, and the takeover below one more condition.

/// The columns in their order, as [`Row::read`](crate::row::Row::read) takes them.
const COLUMNS: &str =
    "lock_key, fence, token, owner, mode, boot, expires_at, acquired_at, written_at";

/// Microseconds since 1970 by SQLite's clock inside the step, in whole milliseconds.
const WALL: &str = "(CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000)";

/// True of a row `l` whose lease is over. Parameters: 1 boot id, 2 boot clock, 3 start of this boot.
const OVER: &str = "((l.boot = ?1 AND l.expires_at <= ?2) OR (l.boot <> ?1 AND l.written_at < ?3))";

/// The table. STRICT, so that SQLite itself keeps values of foreign types out; the key is compared
/// byte by byte.
const SCHEMA: &str = "\
CREATE TABLE \"{table}\" (
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

/// Takes a free key, takes over a dead one, repeats one's own (same fence, lease re-armed, S2) or
/// changes nothing; the answer is the fence, or no row for a refusal. A row whose fence could not
/// rise within 2^53 is refused and then reported.
/// Parameters: the three of `OVER`, 4 key, 5 token, 6 owner, 7 mode, 8 end of the lease, 9 floor.
const ATTEMPT: &str = "\
INSERT INTO \"{table}\" AS l ({columns})
SELECT ?4, max(wall, ?9), ?5, ?6, ?7, ?1, ?8, wall, wall FROM (SELECT {wall} AS wall) WHERE true
ON CONFLICT (lock_key) DO UPDATE SET
  fence = CASE WHEN l.token = ?5 AND NOT {over} THEN max(l.fence, ?9)
               ELSE max(l.fence + 1, excluded.fence) END,
  acquired_at = CASE WHEN l.token = ?5 AND NOT {over} THEN l.acquired_at
                     ELSE excluded.acquired_at END,
  token = ?5, owner = ?6, mode = ?7, boot = ?1, expires_at = ?8, written_at = excluded.written_at
WHERE (l.token IS NULL OR l.token = ?5 OR {over}) AND l.fence < 9007199254740991
RETURNING fence";

/// Renews a lease that runs. Parameters: 1 boot id, 2 boot clock, 3 key, 4 token, 5 end of the lease.
const KEEP: &str = "\
UPDATE \"{table}\" SET expires_at = ?5, written_at = {wall}
WHERE lock_key = ?3 AND token = ?4 AND boot = ?1 AND expires_at > ?2";

/// Frees a key whose lease runs; the row stays for its fence.
/// Parameters: 1 boot id, 2 boot clock, 3 key, 4 token.
const RELEASE: &str = "\
UPDATE \"{table}\" SET token = NULL, written_at = {wall}
WHERE lock_key = ?3 AND token = ?4 AND boot = ?1 AND expires_at > ?2";

/// Frees a key whoever holds it and shows what the row was. Parameter: 1 key.
const EVICT: &str = "\
UPDATE \"{table}\" SET token = NULL WHERE lock_key = ?1 AND token IS NOT NULL
RETURNING boot, expires_at, written_at";

/// Reads the rows of some keys. Parameter: 1 an array of keys.
const LOOK: &str = "\
SELECT {columns} FROM \"{table}\" WHERE lock_key IN (SELECT value FROM rarray(?1))";

/// Reads a page of rows that hold, in byte order, by range: LIKE would fold case and take
/// wildcards. Parameters: the three of `OVER`, 4 first key, 5 key to begin after, 6 key to end
/// before or NULL, 7 rows.
const LIST: &str = "\
SELECT {columns} FROM \"{table}\" AS l
WHERE lock_key >= ?4 AND lock_key > ?5 AND (?6 IS NULL OR lock_key < ?6)
  AND l.token IS NOT NULL AND NOT {over}
ORDER BY lock_key LIMIT ?7";

/// Removes some rows that are free or dead. A fence at or above now would be drawn again after its
/// row is gone, so such a row stays. Parameters: the three of `OVER`, 4 rows.
const PURGE: &str = "\
DELETE FROM \"{table}\" WHERE lock_key IN (
  SELECT lock_key FROM \"{table}\" AS l
  WHERE (l.token IS NULL OR {over}) AND l.fence < {wall} LIMIT ?4)";

/// Finds what has the table's name. Parameter: 1 table.
pub(crate) const FIND_TABLE: &str =
    "SELECT type = 'table', coalesce(sql, '') FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";

/// Counts what is in the database, ours or not.
pub(crate) const COUNT_OBJECTS: &str = "SELECT count(*) FROM sqlite_schema";

/// The statements of one table.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) attempt: String,
    pub(crate) keep: String,
    pub(crate) release: String,
    pub(crate) evict: String,
    pub(crate) look: String,
    pub(crate) list: String,
    pub(crate) purge: String,
}

impl Statements {
    /// Writes the statements for `table`, whose name the configuration has checked.
    pub(crate) fn new(table: &str) -> Self {
        let write = |text: &str| fill(text, table);
        Self {
            attempt: write(ATTEMPT),
            keep: write(KEEP),
            release: write(RELEASE),
            evict: write(EVICT),
            look: write(LOOK),
            list: write(LIST),
            purge: write(PURGE),
        }
    }
}

/// Returns the statement that creates `table`.
pub(crate) fn schema(table: &str) -> String {
    fill(SCHEMA, table)
}

fn fill(text: &str, table: &str) -> String {
    text.replace("{table}", table)
        .replace("{columns}", COLUMNS)
        .replace("{over}", OVER)
        .replace("{wall}", WALL)
}
