//! The SQL text, all of it; what the database keeps stands in `schema.sql`.
//!
//! Advisory locks of a key, by `hashtextextended(key, SEED)`: seed 0 is the lock, as anybody may take it in
//! psql. Seed 1 is held shared by those who wait, so that a release need not tell nobody. Seed 2 makes attempts
//! in shared modes decide one after the other, for one statement. Each session holds a number of its own in
//! the space of two integers: 1819239275 (`lock` in ASCII) and its mark.

use std::sync::Arc;

use lock_core::Result;

use crate::names::Name;

/// What the comment on a schema of ours reads.
pub(crate) const VERSION: &str = "lock-postgres 1";

/// Gives the next statement, and all others, enough time. One that hangs is to be ended by the server before the
/// client gives the session up. Only Postgres 17 and later limit transactions.
pub(crate) const FIRST: &str = "\
SELECT pg_catalog.set_config('statement_timeout', '4s', false),
  CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
    THEN pg_catalog.set_config('transaction_timeout', '0', false) END";

/// Makes a session fit, whatever its role or database sets, and says what there is to know of the server.
/// Parameters: 1 schema. The plans are the same for all values, so that none is made twice.
pub(crate) const GREET: &str = "\
SELECT pg_catalog.pg_backend_pid(),
  pg_catalog.current_setting('server_version_num')::int,
  pg_catalog.pg_is_in_recovery(),
  pg_catalog.current_setting('max_locks_per_transaction')::bigint
    * (pg_catalog.current_setting('max_connections')::bigint
       + pg_catalog.current_setting('max_prepared_transactions')::bigint),
  (EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_postmaster_start_time())
    * 1000000)::bigint,
  pg_catalog.obj_description(pg_catalog.to_regnamespace(pg_catalog.quote_ident($1)), 'pg_namespace'),
  pg_catalog.current_setting('server_encoding'),
  EXISTS (SELECT FROM pg_catalog.pg_class c
    WHERE c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident($1))
      AND c.relkind = 'r' AND pg_catalog.row_security_active(c.oid)),
  pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
  pg_catalog.set_config('default_transaction_read_only', 'off', false),
  pg_catalog.set_config('exit_on_error', 'off', false),
  pg_catalog.set_config('synchronous_commit', 'off', false),
  pg_catalog.set_config('search_path', 'pg_catalog', false),
  pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false),
  pg_catalog.set_config('jit', 'off', false),
  pg_catalog.set_config('max_parallel_workers_per_gather', '0', false),
  pg_catalog.set_config('lock_timeout', '250ms', false),
  pg_catalog.set_config('idle_session_timeout', '0', false),
  pg_catalog.set_config('idle_in_transaction_session_timeout', '10s', false)";

/// Takes the number by which a session is known. Parameters: 1 mark.
pub(crate) const TAKE_MARK: &str = "SELECT pg_try_advisory_lock(1819239275, $1)";

/// Tells whose session this is: not always the same behind a pooler of transactions.
pub(crate) const WHO: &str = "SELECT pg_backend_pid()";

/// Ends a session that was given up, and waits until it is gone. Parameters: 1 pid, 2 mark.
const END_GHOST: &str = "\
SELECT pg_terminate_backend(pid, 2000) FROM {schema}.sessions WHERE pid = $1 AND session = $2";

/// Tells whether a session lives. Parameters: 1 pid, 2 mark.
const LIVES: &str = "SELECT EXISTS (SELECT FROM {schema}.sessions WHERE pid = $1 AND session = $2)";

/// Takes free keys exclusively. The fence is drawn after the lock is won, or it would not rise; rows are
/// written in the order of keys, so that no two batches wait for each other. A key that others claim too is
/// left to `attempt`, so that nobody is overtaken. Not carried out on any other session.
/// Parameters: 1 keys, 2 tokens, 3 owners, 4 floors, 5 pid, 6 mark, 7 the session's time-out or nothing.
const ACQUIRE: &str = "\
WITH got AS MATERIALIZED (
  SELECT n, k, token, owner, floor, num, CASE
    WHEN (SELECT true FROM {schema}.claims c WHERE c.lock_key = k LIMIT 1) THEN NULL
    ELSE pg_try_advisory_lock(num) END AS ok
  FROM (SELECT *, hashtextextended(k, 0) AS num
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
        WITH ORDINALITY AS t (k, token, owner, floor, n)
        WHERE pg_backend_pid() = $5 OFFSET 0) t),
mark AS (
  INSERT INTO {schema}.holders AS h (lock_key, num, token, owner, pid, session, acquired_at, fence)
  SELECT k, num, token, owner, $5, $6, clock_timestamp(),
    greatest(floor, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
  FROM got WHERE ok ORDER BY k
  ON CONFLICT (lock_key) DO UPDATE SET fence = greatest(h.fence + 1, excluded.fence),
    token = excluded.token, owner = excluded.owner, pid = excluded.pid, session = excluded.session,
    acquired_at = excluded.acquired_at, evicted = false
  RETURNING lock_key, fence)
SELECT got.n, got.num, got.ok, mark.fence,
  CASE WHEN got.ok AND $7 <> '' THEN set_config('idle_session_timeout', $7, false) END
FROM got LEFT JOIN mark ON mark.lock_key = got.k";

/// The same for one key, which costs the server two thirds. Parameters: as before, each for one.
const ACQUIRE_ONE: &str = "\
WITH got AS MATERIALIZED (
  SELECT hashtextextended($1, 0) AS num, CASE
    WHEN (SELECT true FROM {schema}.claims c WHERE c.lock_key = $1 LIMIT 1) THEN NULL
    ELSE pg_try_advisory_lock(hashtextextended($1, 0)) END AS ok
  WHERE pg_backend_pid() = $5),
mark AS (
  INSERT INTO {schema}.holders AS h (lock_key, num, token, owner, pid, session, acquired_at, fence)
  SELECT $1, num, $2, $3, $5, $6, clock_timestamp(),
    greatest($4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
  FROM got WHERE ok
  ON CONFLICT (lock_key) DO UPDATE SET fence = greatest(h.fence + 1, excluded.fence),
    token = excluded.token, owner = excluded.owner, pid = excluded.pid, session = excluded.session,
    acquired_at = excluded.acquired_at, evicted = false
  RETURNING fence)
SELECT 1::bigint, num, ok, (SELECT fence FROM mark),
  CASE WHEN ok AND $7 <> '' THEN set_config('idle_session_timeout', $7, false) END FROM got";

/// Takes a key with a line or in a shared mode. Parameters: 1 key, 2 token, 3 mode, 4 owner, 5 whether to stand
/// in line, 6 floor, 7 pid, 8 mark, 9 how the session holds it, 10 the session's time-out or nothing.
const ATTEMPT: &str = "\
SELECT num, fence, clash,
  CASE WHEN $10 <> '' AND clash IS NULL AND (fence IS NOT NULL OR $5)
    THEN set_config('idle_session_timeout', $10, false) END
FROM (SELECT WHERE pg_backend_pid() = $7) here,
  {schema}.attempt($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Unlocks and then, if a waiter shows itself, tells. Nothing is written.
/// Parameters: 1 numbers, 2 keys, 3 the session's time-out or nothing.
const RELEASE: &str = "\
SELECT n, CASE WHEN pg_advisory_unlock(num) THEN {wake} END,
  CASE WHEN n = 1 AND $3 <> '' THEN set_config('idle_session_timeout', $3, false) END
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS t (num, k, n)";

/// The same of one key. Parameters: 1 number, 2 key, 3 the session's time-out or nothing.
const RELEASE_ONE: &str = "\
SELECT 1::bigint, CASE WHEN pg_advisory_unlock($1) THEN {wake} END,
  CASE WHEN $3 <> '' THEN set_config('idle_session_timeout', $3, false) END
FROM (SELECT $2 AS k) t";

/// Tells of a key that has become free, if a waiter shows itself.
const WAKE_IF_WAITED: &str = "\
CASE WHEN pg_try_advisory_lock(hashtextextended(k, 1))
  THEN pg_advisory_unlock(hashtextextended(k, 1))::text ELSE {schema}.tell(k) END";

/// Takes one claim of several out. Others learn of it only once it is committed, by the next statement.
/// Parameters: 1 key, 2 token, 3 whether the session's lock goes too, 4 number, 5 the session's time-out or nothing.
const LEAVE: &str = "\
WITH gone AS (DELETE FROM {schema}.claims WHERE lock_key = $1 AND token = $2 RETURNING 1)
SELECT count(*), CASE WHEN $3 THEN pg_advisory_unlock_shared($4) END,
  CASE WHEN $5 <> '' THEN set_config('idle_session_timeout', $5, false) END FROM gone";

/// Tells of a key that may have become free. Parameters: 1 key.
const WAKE: &str = "SELECT {wake} FROM (SELECT $1 AS k) t";

/// Keeps the session alive and asks what somebody wants back.
/// Parameters: 1 pid, 2 mark, 3 the session's time-out or nothing.
const HEARTBEAT: &str = "\
SELECT lock_key, token FROM {schema}.holders WHERE evicted AND pid = $1 AND session = $2
UNION ALL
SELECT lock_key, token FROM {schema}.claims WHERE evicted AND pid = $1 AND session = $2
UNION ALL
SELECT NULL, set_config('idle_session_timeout', $3, false) WHERE $3 <> ''";

/// Raises a fence. Parameters: 1 key, 2 token, 3 floor.
const RAISE: &str = "\
WITH shared AS (UPDATE {schema}.claims SET fence = greatest(fence, $3) WHERE lock_key = $1 AND token = $2)
UPDATE {schema}.holders SET fence = greatest(fence, $3) WHERE lock_key = $1";

/// What the session holds really: numbers, and how.
pub(crate) const SETTLE: &str = "\
SELECT (classid::bigint << 32) | objid::bigint, mode = 'ExclusiveLock' FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid = pg_backend_pid()";

/// Gives back what was taken by a statement that failed. Parameters: 1 number.
pub(crate) const UNDO: &str = "SELECT pg_advisory_unlock($1)";
/// The same for a lock that others can share.
pub(crate) const UNDO_SHARED: &str = "SELECT pg_advisory_unlock_shared($1)";

/// Gives all back, and the session's mark.
pub(crate) const LET_GO: &str = "SELECT pg_advisory_unlock_all()";

/// How many locks the server has in all that are not this session's: its table is one for all databases.
pub(crate) const COUNT: &str =
    "SELECT count(*) FROM pg_locks WHERE pid IS DISTINCT FROM pg_backend_pid() AND NOT fastpath";

/// Who holds some keys and stands in their lines. Parameters: 1 keys.
const LOOK: &str = "\
SELECT t.n, v.lock_key, v.token, v.mode, v.fence, v.owner,
  (extract(epoch FROM v.acquired_at) * 1000000)::bigint, NULL::bigint
FROM {schema}.held_by(ARRAY(SELECT hashtextextended(k, 0) FROM unnest($1::text[]) AS k)) v
JOIN unnest($1::text[]) WITH ORDINALITY AS t (k, n) ON v.num = hashtextextended(t.k, 0)
UNION ALL
SELECT t.n, w.lock_key, w.token, w.mode, NULL, w.owner,
  (extract(epoch FROM w.waits_since) * 1000000)::bigint, w.place
FROM unnest($1::text[]) WITH ORDINALITY AS t (k, n) JOIN {schema}.waiting w ON w.lock_key = t.k";

/// A page of keys that are held or waited for. Parameters: 1 prefix, 2 key to begin after, 3 how many.
const LIST: &str = "\
SELECT DISTINCT k COLLATE \"C\" AS k FROM (
  SELECT lock_key AS k FROM {schema}.held UNION ALL SELECT lock_key FROM {schema}.waiting) keys
WHERE starts_with(k, $1) AND ($2::text IS NULL OR k COLLATE \"C\" > $2) ORDER BY 1 LIMIT $3";

/// Asks all who hold a key to give it back, and tells them; places in line that make no sense go at once.
/// Parameters: 1 key.
const ASK_BACK: &str = "\
WITH live AS MATERIALIZED (SELECT token FROM {schema}.held_by(ARRAY[hashtextextended($1, 0)])
  WHERE lock_key = $1),
one AS (UPDATE {schema}.holders SET evicted = true
  WHERE lock_key = $1 AND token IN (SELECT token FROM live) RETURNING 1),
several AS (UPDATE {schema}.claims SET evicted = true
  WHERE lock_key = $1 AND fence IS NOT NULL AND token IN (SELECT token FROM live) RETURNING 1),
senseless AS (DELETE FROM {schema}.claims WHERE lock_key = $1 AND fence IS NULL
  AND (mode !~ '^(exclusive|shared|permits:[0-9]+)$' OR token !~ '^[0-9a-f]{32}$')),
hit AS (SELECT (SELECT count(*) FROM one) + (SELECT count(*) FROM several) AS n)
SELECT n, CASE WHEN n > 0 THEN pg_notify('{name}', 'e ' || $1)::text END
FROM hit";

/// Counts the sessions that hold a key and are not ours: each of ours has its mark before it holds anything, though its
/// row may come a moment after the lock. Parameters: 1 key.
const STRANGERS: &str = "\
WITH l AS MATERIALIZED (SELECT * FROM {schema}.locked)
SELECT count(*) FROM l WHERE objsubid = 1 AND (high << 32) | low = hashtextextended($1, 0)
  AND pid NOT IN (SELECT pid FROM l WHERE objsubid = 2 AND high = 1819239275)";

/// Ends the sessions that hold a key, counts what goes with them, and has everybody look after their own.
/// Parameters: 1 key.
const END_SESSIONS: &str = "\
WITH live AS MATERIALIZED (SELECT num, pid FROM {schema}.held),
hit AS MATERIALIZED (SELECT pid, count(*) AS holds FROM live
  WHERE num = hashtextextended($1, 0) GROUP BY pid)
SELECT pid, holds, (SELECT count(*) FROM live o WHERE o.pid = hit.pid) - holds,
  pg_terminate_backend(pid, 2000), pg_notify('{name}', 'e ' || $1)::text FROM hit";

/// Forgets some keys that nobody has locked. A fence that is not below now could be drawn again, so its row
/// stays; so does one whose lock was taken after this began, as its fence is above this clock.
/// Parameters: 1 rows.
const PURGE: &str = "\
DELETE FROM {schema}.holders WHERE lock_key IN (
  SELECT h.lock_key FROM {schema}.holders h
  WHERE h.fence < (extract(epoch FROM now()) * 1000000)::bigint
    AND NOT EXISTS (SELECT FROM {schema}.claims c WHERE c.lock_key = h.lock_key)
    AND h.num NOT IN (SELECT (high << 32) | low FROM {schema}.locked WHERE objsubid = 1)
  LIMIT $1 FOR UPDATE SKIP LOCKED)
  AND fence < (extract(epoch FROM now()) * 1000000)::bigint RETURNING 1";

/// Removes the claims of dead sessions. Parameters: 1 rows.
const PURGE_CLAIMS: &str = "\
DELETE FROM {schema}.claims WHERE (lock_key, token) IN (
  SELECT c.lock_key, c.token FROM {schema}.claims c
  WHERE NOT EXISTS (SELECT FROM {schema}.sessions s WHERE s.pid = c.pid AND s.session = c.session)
  LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1";

/// Shows and hides that somebody waits for a key. Parameters: 1 key.
pub(crate) const SHOW: &str = "SELECT pg_advisory_lock_shared(hashtextextended($1, 1))";
/// See [`SHOW`].
pub(crate) const HIDE: &str = "SELECT pg_advisory_unlock_shared(hashtextextended($1, 1))";

/// Returns the statements that take a key which is free and give it back, in the schema of that name; for
/// measuring what stands around them.
///
/// # Errors
///
/// If there can be no schema of that name.
pub fn of_a_free_key(schema: &str) -> Result<[String; 2]> {
    let schema = Name::schema(schema)?;
    Ok([ACQUIRE_ONE, RELEASE_ONE].map(|text| fill(text, &schema)))
}

/// The statements of one schema.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) end_ghost: Arc<str>,
    pub(crate) lives: Arc<str>,
    pub(crate) acquire: Arc<str>,
    pub(crate) acquire_one: Arc<str>,
    pub(crate) attempt: Arc<str>,
    pub(crate) release: Arc<str>,
    pub(crate) release_one: Arc<str>,
    pub(crate) leave: Arc<str>,
    pub(crate) wake: Arc<str>,
    pub(crate) heartbeat: Arc<str>,
    pub(crate) raise: Arc<str>,
    pub(crate) look: Arc<str>,
    pub(crate) list: Arc<str>,
    pub(crate) ask_back: Arc<str>,
    pub(crate) strangers: Arc<str>,
    pub(crate) end_sessions: Arc<str>,
    pub(crate) purge: Arc<str>,
    pub(crate) purge_claims: Arc<str>,
}

impl Statements {
    pub(crate) fn new(schema: &Name) -> Self {
        let write = |text: &str| Arc::from(fill(text, schema));
        Self {
            end_ghost: write(END_GHOST),
            lives: write(LIVES),
            acquire: write(ACQUIRE),
            acquire_one: write(ACQUIRE_ONE),
            attempt: write(ATTEMPT),
            release: write(RELEASE),
            release_one: write(RELEASE_ONE),
            leave: write(LEAVE),
            wake: write(WAKE),
            heartbeat: write(HEARTBEAT),
            raise: write(RAISE),
            look: write(LOOK),
            list: write(LIST),
            ask_back: write(ASK_BACK),
            strangers: write(STRANGERS),
            end_sessions: write(END_SESSIONS),
            purge: write(PURGE),
            purge_claims: write(PURGE_CLAIMS),
        }
    }
}

/// Writes what begins the transaction in which `schema` is created: one client at a time, as the statements
/// that create it would have it too.
pub(crate) fn alone(schema: &Name) -> String {
    fill(ALONE, schema)
}

/// The last statement is there because the session remembers that there was no schema, until it reads a
/// relation.
const ALONE: &str = "\
BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0; \
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('{name} schema', 3)); \
SELECT FROM pg_catalog.pg_namespace LIMIT 0";

/// Writes the statements that create `schema` and what is in it. They end the transaction they are in.
pub(crate) fn schema(schema: &Name) -> String {
    fill(include_str!("schema.sql"), schema)
}

fn fill(text: &str, schema: &Name) -> String {
    text.replace("{wake}", WAKE_IF_WAITED)
        .replace("{schema}", &schema.quoted())
        .replace("{name}", schema.as_str())
}
