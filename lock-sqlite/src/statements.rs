//! The SQL text, all of it.
//!
//! Clocks of leases are parameters, read before SQLite waits for its write lock, so that a long wait
//! can only shorten a lease. The wall clock of fences is read by SQLite inside the step, after
//! the write lock, so that no step can draw a lower fence than one that a purge has removed before.
//!
//! Each key has one row in the table of locks: its fence, and the exclusive holder. The row stays when
//! the lock is free, so that fences rise. All others who hold a key (shared, permits) and all who stand
//! in its line have a row each in a second table, so an exclusive lock that nobody queues for takes
//! one look into an empty table more than it would without other modes.

/// The columns of both tables in their order, as [`Row::read`](crate::row::Row::read) takes them.
const COLUMNS: &str =
    "lock_key, fence, token, owner, mode, boot, expires_at, acquired_at, written_at";

/// Microseconds since 1970 by SQLite's clock inside the step, in whole milliseconds.
const WALL: &str = "(CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000)";

/// True of a row `l` whose lease is over. Parameters: 1 boot id, 2 boot clock, 3 start of this boot.
const OVER: &str = "((l.boot = ?1 AND l.expires_at <= ?2) OR (l.boot <> ?1 AND l.written_at < ?3))";

/// True of a row `l` of the second table that counts no more. A place in line is no promise, so one of
/// another boot is dead whenever it was written. Parameters: the three of `OVER`.
const DEAD: &str = "(({over}) OR (l.fence IS NULL AND l.boot <> ?1))";

/// The table of locks. STRICT, so that SQLite itself keeps values of foreign types out; the key is
/// compared byte by byte.
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

/// The table of all other claims: with a fence they hold, without one they stand in line, in the order
/// of their places.
const CLAIMS_SCHEMA: &str = "\
CREATE TABLE \"{table}_claims\" (
  lock_key    TEXT    NOT NULL,
  token       TEXT    NOT NULL,
  place       INTEGER NOT NULL,
  fence       INTEGER,
  owner       TEXT    NOT NULL,
  mode        TEXT    NOT NULL,
  boot        TEXT    NOT NULL,
  expires_at  INTEGER NOT NULL,
  acquired_at INTEGER NOT NULL,
  written_at  INTEGER NOT NULL,
  PRIMARY KEY (lock_key, token)
) STRICT, WITHOUT ROWID";

/// Takes a free key, takes over a dead one, repeats one's own (same fence, lease re-armed, S2) or
/// changes nothing; the answer is the fence, or no row for a refusal. A row whose fence could not
/// rise within 2^53 is refused and then reported. `{turn}` is what else has to be true.
/// Parameters: the three of `OVER`, 4 key, 5 token, 6 owner, 7 mode, 8 end of the lease, 9 floor.
const TAKE: &str = "\
INSERT INTO \"{table}\" AS l ({columns})
SELECT ?4, max(wall, ?9), ?5, ?6, ?7, ?1, ?8, wall, wall FROM (SELECT {wall} AS wall) WHERE {turn}
ON CONFLICT (lock_key) DO UPDATE SET
  fence = CASE WHEN l.token = ?5 AND NOT {over} THEN max(l.fence, ?9)
               ELSE max(l.fence + 1, excluded.fence) END,
  acquired_at = CASE WHEN l.token = ?5 AND NOT {over} THEN l.acquired_at
                     ELSE excluded.acquired_at END,
  token = ?5, owner = ?6, mode = ?7, boot = ?1, expires_at = ?8, written_at = excluded.written_at
WHERE (l.token = ?5 AND NOT {over})
   OR ((l.token IS NULL OR {over}) AND l.fence < 9007199254740991)
RETURNING fence";

/// True of a key that no other claim holds or waits for, dead or alive: what the dead leave is cleared
/// by the longer way of an attempt.
const ALONE: &str = "NOT EXISTS (SELECT 1 FROM \"{table}_claims\" WHERE lock_key = ?4)";

/// Draws a fence for a claim that goes into the second table; whoever held the key exclusively and is
/// dead loses it for good. No row if the fence could not rise within 2^53.
/// Parameters: the three of `OVER`, 4 key, 5 owner, 6 mode, 7 floor.
const DRAW: &str = "\
INSERT INTO \"{table}\" AS l ({columns})
SELECT ?4, max(wall, ?7), NULL, ?5, ?6, ?1, ?2, wall, wall FROM (SELECT {wall} AS wall) WHERE true
ON CONFLICT (lock_key) DO UPDATE SET
  fence = max(l.fence + 1, excluded.fence), token = NULL, written_at = excluded.written_at
WHERE (l.token IS NULL OR {over}) AND l.fence < 9007199254740991
RETURNING fence";

/// Writes a floor back for a claim that holds already. Parameters: 1 key, 2 fence.
const RAISE: &str = "UPDATE \"{table}\" SET fence = max(fence, ?2) WHERE lock_key = ?1";

/// Puts a claim into the second table, or re-arms it there: with a fence it holds from now on, without
/// one it stands in line, at the end if it is new.
/// Parameters: 1 boot id, 2 key, 3 token, 4 fence or NULL, 5 owner, 6 mode, 7 end.
const CLAIM: &str = "\
INSERT INTO \"{table}_claims\" AS c ({columns}, place)
SELECT ?2, ?4, ?3, ?5, ?6, ?1, ?7, wall, wall,
  (SELECT coalesce(max(place), 0) + 1 FROM \"{table}_claims\" WHERE lock_key = ?2)
FROM (SELECT {wall} AS wall) WHERE true
ON CONFLICT (lock_key, token) DO UPDATE SET
  fence = excluded.fence, owner = excluded.owner, boot = excluded.boot,
  acquired_at = CASE WHEN (c.fence IS NULL) = (excluded.fence IS NULL) THEN c.acquired_at
                     ELSE excluded.acquired_at END,
  expires_at = excluded.expires_at, written_at = excluded.written_at";

/// Removes the dead of one key from the second table. Parameters: the three of `OVER`, 4 key.
const BURY: &str = "DELETE FROM \"{table}_claims\" AS l WHERE l.lock_key = ?4 AND {dead}";

/// Renews a lease that runs. Parameters: 1 boot id, 2 boot clock, 3 key, 4 token, 5 end of the lease.
const KEEP: &str = "\
UPDATE \"{table}\" SET expires_at = ?5, written_at = {wall}
WHERE lock_key = ?3 AND token = ?4 AND boot = ?1 AND expires_at > ?2";

/// Renews a lease or refreshes a place in the second table and tells whether the claim holds.
/// Parameters: 1 boot id, 2 boot clock, 3 key, 4 token, 5 end of the lease, 6 end of the place.
const KEEP_CLAIM: &str = "\
UPDATE \"{table}_claims\"
SET expires_at = CASE WHEN fence IS NULL THEN ?6 ELSE ?5 END, written_at = {wall}
WHERE lock_key = ?3 AND token = ?4 AND boot = ?1 AND expires_at > ?2
RETURNING fence IS NOT NULL";

/// Frees a key whose lease runs; the row stays for its fence.
/// Parameters: 1 boot id, 2 boot clock, 3 key, 4 token.
const RELEASE: &str = "\
UPDATE \"{table}\" SET token = NULL, written_at = {wall}
WHERE lock_key = ?3 AND token = ?4 AND boot = ?1 AND expires_at > ?2";

/// Takes a claim out of the second table and tells whether it counted there.
/// Parameters: 1 boot id, 2 boot clock, 3 key, 4 token.
const RELEASE_CLAIM: &str = "\
DELETE FROM \"{table}_claims\" WHERE lock_key = ?3 AND token = ?4
RETURNING boot = ?1 AND expires_at > ?2";

/// Frees a key whoever holds it and shows what the row was. Parameter: 1 key.
const EVICT: &str = "\
UPDATE \"{table}\" SET token = NULL WHERE lock_key = ?1 AND token IS NOT NULL
RETURNING boot, expires_at, written_at";

/// Takes a claim out of the second table whatever it is. Parameters: 1 key, 2 token.
const DROP_CLAIM: &str = "DELETE FROM \"{table}_claims\" WHERE lock_key = ?1 AND token = ?2";

/// Reads the rows of some keys from both tables. Parameter: 1 an array of keys.
const LOOK: &str = "\
SELECT {columns}, 0 AS place FROM \"{table}\" WHERE lock_key IN (SELECT value FROM rarray(?1))
UNION ALL
SELECT {columns}, place FROM \"{table}_claims\"
WHERE lock_key IN (SELECT value FROM rarray(?1))";

/// True of a row of the second table that counts. Parameters: 1 boot id, 2 boot clock.
const ALIVE: &str = "(boot = ?1 AND expires_at > ?2)";

/// Reads what an exclusive claim has to know of its key: all rows but those of the living in line behind the
/// first, of which only the number is told that stand before the claim.
/// Parameters: 1 boot id, 2 boot clock, 3 key, 4 token.
const SEE: &str = "\
WITH mine (place) AS (
  SELECT place FROM \"{table}_claims\" WHERE lock_key = ?3 AND token = ?4 AND {alive}),
line (head, ahead) AS (
  SELECT min(place), count(*) FILTER (WHERE (place < (SELECT place FROM mine)) IS NOT FALSE)
  FROM \"{table}_claims\" WHERE lock_key = ?3 AND fence IS NULL AND {alive})
SELECT {columns}, 0 AS place, 0 AS unseen FROM \"{table}\" WHERE lock_key = ?3
UNION ALL
SELECT {columns}, place, max(ahead - 1, 0) FROM \"{table}_claims\", line
WHERE lock_key = ?3 AND (fence IS NOT NULL OR NOT {alive} OR place = head OR token = ?4)";

/// Reads the rows of some keys as [`LOOK`] does, but of each line no more than its beginning.
/// Parameters: 1 boot id, 2 boot clock, 3 an array of keys.
const FRONT: &str = "\
WITH front AS MATERIALIZED (
  SELECT lock_key AS name, min(place) AS head FROM \"{table}_claims\"
  WHERE lock_key IN (SELECT value FROM rarray(?3)) AND fence IS NULL AND {alive} GROUP BY lock_key)
SELECT {columns}, 0 AS place FROM \"{table}\" WHERE lock_key IN (SELECT value FROM rarray(?3))
UNION ALL
SELECT {columns}, place FROM \"{table}_claims\" LEFT JOIN front ON name = lock_key
WHERE lock_key IN (SELECT value FROM rarray(?3))
  AND (fence IS NOT NULL OR place < coalesce(head, 0) + 8)";

/// Reads the rows of a page of keys that are held or waited for. The page is in byte order and found
/// by range: LIKE would fold case and take wildcards. Parameters: the three of `OVER`, 4 first key,
/// 5 key to begin after, 6 key to end before or NULL, 7 keys.
const LIST: &str = "\
WITH page (lock_key) AS (
  SELECT lock_key FROM \"{table}\" AS l
  WHERE {range} AND l.token IS NOT NULL AND NOT {over}
  UNION
  SELECT lock_key FROM \"{table}_claims\" AS l WHERE {range} AND NOT {dead}
  ORDER BY lock_key LIMIT ?7)
SELECT {columns}, 0 AS place FROM \"{table}\" WHERE lock_key IN page
UNION ALL
SELECT {columns}, place FROM \"{table}_claims\" WHERE lock_key IN page";

/// True of a row of a page.
const RANGE: &str = "lock_key >= ?4 AND lock_key > ?5 AND (?6 IS NULL OR lock_key < ?6)";

/// Removes some rows that are free or dead and have no other claims. A fence at or above now would be
/// drawn again after its row is gone, so such a row stays. Parameters: the three of `OVER`, 4 rows.
const PURGE: &str = "\
DELETE FROM \"{table}\" WHERE lock_key IN (
  SELECT lock_key FROM \"{table}\" AS l
  WHERE (l.token IS NULL OR {over}) AND l.fence < {wall}
    AND NOT EXISTS (SELECT 1 FROM \"{table}_claims\" AS c WHERE c.lock_key = l.lock_key) LIMIT ?4)";

/// Removes some of the dead from the second table. Parameters: the three of `OVER`, 4 rows.
const PURGE_CLAIMS: &str = "\
DELETE FROM \"{table}_claims\" WHERE (lock_key, token) IN (
  SELECT lock_key, token FROM \"{table}_claims\" AS l WHERE {dead} LIMIT ?4)";

/// Finds what has the table's name. Parameter: 1 table.
pub(crate) const FIND_TABLE: &str =
    "SELECT type = 'table', coalesce(sql, '') FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";

/// Counts what is in the database, ours or not.
pub(crate) const COUNT_OBJECTS: &str = "SELECT count(*) FROM sqlite_schema";

/// The statements of one pair of tables.
#[derive(Debug)]
pub(crate) struct Statements {
    /// [`TAKE`] for a key that is the claim's [`ALONE`].
    pub(crate) attempt: String,
    /// [`TAKE`] for a claim whose turn it is known to be.
    pub(crate) take: String,
    pub(crate) draw: String,
    pub(crate) raise: String,
    pub(crate) claim: String,
    pub(crate) bury: String,
    pub(crate) keep: String,
    pub(crate) keep_claim: String,
    pub(crate) release: String,
    pub(crate) release_claim: String,
    pub(crate) evict: String,
    pub(crate) drop_claim: String,
    pub(crate) look: String,
    pub(crate) see: String,
    pub(crate) front: String,
    pub(crate) list: String,
    pub(crate) purge: String,
    pub(crate) purge_claims: String,
}

impl Statements {
    /// Writes the statements for `table`, whose name the configuration has checked.
    pub(crate) fn new(table: &str) -> Self {
        let write = |text: &str| fill(text, table);
        Self {
            attempt: write(&TAKE.replace("{turn}", ALONE)),
            take: write(&TAKE.replace("{turn}", "true")),
            draw: write(DRAW),
            raise: write(RAISE),
            claim: write(CLAIM),
            bury: write(BURY),
            keep: write(KEEP),
            keep_claim: write(KEEP_CLAIM),
            release: write(RELEASE),
            release_claim: write(RELEASE_CLAIM),
            evict: write(EVICT),
            drop_claim: write(DROP_CLAIM),
            look: write(LOOK),
            see: write(SEE),
            front: write(FRONT),
            list: write(LIST),
            purge: write(PURGE),
            purge_claims: write(PURGE_CLAIMS),
        }
    }
}

/// Returns the tables with the statement that creates each.
pub(crate) fn tables(table: &str) -> [(String, String); 2] {
    [
        (table.to_owned(), fill(SCHEMA, table)),
        (format!("{table}_claims"), fill(CLAIMS_SCHEMA, table)),
    ]
}

/// Returns the statements that create the tables.
pub(crate) fn schema(table: &str) -> String {
    tables(table).map(|(_, create)| create + ";\n").concat()
}

fn fill(text: &str, table: &str) -> String {
    text.replace("{dead}", DEAD)
        .replace("{range}", RANGE)
        .replace("{table}", table)
        .replace("{columns}", COLUMNS)
        .replace("{over}", OVER)
        .replace("{alive}", ALIVE)
        .replace("{wall}", WALL)
}
