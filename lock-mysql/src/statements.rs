//! The SQL text, all of it, in the words that MySQL and MariaDB share.
//!
//! Each key has one row in the table of locks: its last fence and what holds it. It stays when the lock is
//! free, so that fences rise and nothing is deleted in the hot path, which deadlocks. `expires_at` alone
//! decides whether the key is taken: NULL or past is free. An exclusive holder has its `token` there; of
//! several holders (shared, permits) the row shows the latest, without a token, and the latest end. All of
//! these, and all who stand in line, have a row each in the second table, which is written only while the
//! key's own row is locked: `line_until` says until when that has a line, so one row tells an exclusive
//! attempt all it needs.
//!
//! A holder's row in the second table counts while the key's row says that several hold it, and not longer
//! than that does: whoever takes or deletes the key's row ends them all.
//!
//! Sessions are at UTC, read committed, and strict; `NOW(6)` is when the statement began, so a wait for a
//! row can only shorten a lease.

use std::sync::Arc;

/// Microseconds since 1970 by the server's clock, whatever the session's time zone.
const CLOCK: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";

/// The highest fence that is stored. It is never granted.
const HIGHEST: &str = "9007199254740991";

/// True of a row that the claim's token holds.
const MINE: &str = "(token = :token AND expires_at > NOW(6))";

/// True of a row that nobody holds or waits for.
const FREE: &str = "((expires_at IS NULL OR expires_at <= NOW(6)) \
                     AND (line_until IS NULL OR line_until <= NOW(6)))";

/// Takes a free key, takes over a dead one, repeats one's own (same fence, lease re-armed, S2) or changes
/// nothing; the answer is the fence as the last insert id, 0 for a refusal, because affected rows mean
/// something else to each client. Conditions are on the old `expires_at`, which is assigned last, and on
/// `token`, which changes no condition that it is used in; so the order of assignment makes no difference,
/// nor whether they see each other (SIMULTANEOUS_ASSIGNMENT).
const ATTEMPT: &str = "\
INSERT INTO `{table}` (lock_key, owner, token, mode, fence, acquired_at, expires_at)
VALUES (:key, :owner, :token, 'exclusive', LAST_INSERT_ID(GREATEST({clock}, :floor)), NOW(6),
  NOW(6) + INTERVAL :ttl MICROSECOND)
ON DUPLICATE KEY UPDATE
  fence = CASE WHEN {mine} THEN LAST_INSERT_ID(GREATEST(fence, :floor))
               WHEN {free} THEN LAST_INSERT_ID(LEAST({highest}, GREATEST(fence + 1, {clock}, :floor)))
               ELSE fence + LAST_INSERT_ID(0) END,
  acquired_at = CASE WHEN {free} THEN NOW(6) ELSE acquired_at END,
  owner = CASE WHEN {mine} OR {free} THEN :owner ELSE owner END,
  mode = CASE WHEN {free} THEN 'exclusive' ELSE mode END,
  token = CASE WHEN {free} THEN :token ELSE token END,
  expires_at = CASE WHEN {mine} OR {free} THEN NOW(6) + INTERVAL :ttl MICROSECOND ELSE expires_at END";

/// Frees a key whose lease runs.
const RELEASE: &str = "\
UPDATE `{table}` SET token = NULL, owner = NULL, mode = NULL, acquired_at = NULL, expires_at = NULL
WHERE lock_key = :key AND token = :token AND expires_at > NOW(6)";

/// Renews leases that run. A token belongs to one key, so the two lists need no pairing.
const KEEP: &str = "\
UPDATE `{table}` SET expires_at = NOW(6) + INTERVAL :ttl MICROSECOND
WHERE lock_key IN (:keys) AND token IN (:tokens) AND expires_at > NOW(6)";

/// Locks the row of a key, making one if there is none.
const LOCK: &str = "\
INSERT INTO `{table}` (lock_key, fence) VALUES (:key, {clock}) ON DUPLICATE KEY UPDATE fence = fence";

/// Locks the rows of some keys, always in the same order.
const LOCK_MANY: &str = "\
SELECT lock_key FROM `{table}` WHERE lock_key IN (:keys) ORDER BY lock_key FOR UPDATE";

/// Gives a locked key to an exclusive claim whose turn it is.
const TAKE: &str = "\
UPDATE `{table}` SET fence = LAST_INSERT_ID(LEAST({highest}, GREATEST(fence + 1, {clock}, :floor))),
  owner = :owner, token = :token, mode = 'exclusive', acquired_at = NOW(6),
  expires_at = NOW(6) + INTERVAL :ttl MICROSECOND
WHERE lock_key = :key";

/// Draws a fence for a claim that goes into the second table; an exclusive holder that is dead loses the
/// key for good.
const DRAW: &str = "\
UPDATE `{table}` SET fence = LAST_INSERT_ID(LEAST({highest}, GREATEST(fence + 1, {clock}, :floor))),
  token = NULL
WHERE lock_key = :key";

/// Writes a floor back for a claim that holds already.
const RAISE: &str = "UPDATE `{table}` SET fence = GREATEST(fence, :fence) WHERE lock_key = :key";

/// Puts a claim into the second table, or re-arms it there: with a fence it holds from now on, without
/// one it stands in line, at the end if it is new. The place is worked out in a table of its own, because
/// a table that is written cannot be read otherwise.
const CLAIM: &str = "\
INSERT INTO `{table}_claims`
  (lock_key, token, owner, mode, fence, place, acquired_at, expires_at)
SELECT :key, :token, :owner, :mode, :fence, last.place + 1, NOW(6), NOW(6) + INTERVAL :ttl MICROSECOND
FROM (SELECT COALESCE(MAX(place), 0) AS place FROM `{table}_claims` WHERE lock_key = :key) AS last
ON DUPLICATE KEY UPDATE
  acquired_at = CASE WHEN (`{table}_claims`.fence IS NULL) = (:fence IS NULL)
                     THEN `{table}_claims`.acquired_at ELSE NOW(6) END,
  owner = :owner, fence = :fence, expires_at = NOW(6) + INTERVAL :ttl MICROSECOND";

/// Renews leases in the second table. That they still count is known: their keys' rows have been locked since
/// they were looked at.
const KEEP_CLAIMS: &str = "\
UPDATE `{table}_claims` SET expires_at = NOW(6) + INTERVAL :ttl MICROSECOND
WHERE lock_key IN (:keys) AND token IN (:tokens)";

/// Refreshes places in line that have not ended.
const KEEP_PLACES: &str = "\
UPDATE `{table}_claims` SET expires_at = NOW(6) + INTERVAL :ttl MICROSECOND
WHERE lock_key IN (:keys) AND token IN (:tokens) AND fence IS NULL AND expires_at > NOW(6)";

/// Says that some keys have a line for a while yet. Said in vain, it makes attempts take the longer way.
const KEEP_LINES: &str = "\
UPDATE `{table}`
SET line_until = GREATEST(COALESCE(line_until, NOW(6)), NOW(6) + INTERVAL :ttl MICROSECOND)
WHERE lock_key IN (:keys)";

/// Takes one claim out of the second table.
const DROP_CLAIM: &str = "DELETE FROM `{table}_claims` WHERE lock_key = :key AND token = :token";

/// Removes the dead of one key from the second table.
const BURY: &str = "\
DELETE FROM `{table}_claims` WHERE lock_key = :key AND expires_at <= NOW(6)";

/// Removes all holders of one key from the second table.
const BURY_HOLDERS: &str = "\
DELETE FROM `{table}_claims` WHERE lock_key = :key AND fence IS NOT NULL";

/// Brings the rows of locked keys in line with the second table.
const SETTLE: &str = "\
UPDATE `{table}` SET
  line_until = (SELECT MAX(c.expires_at) FROM `{table}_claims` AS c
    WHERE c.lock_key = `{table}`.lock_key AND c.fence IS NULL),
  owner = CASE WHEN token IS NOT NULL THEN owner ELSE (SELECT c.owner FROM `{table}_claims` AS c
    WHERE c.lock_key = `{table}`.lock_key AND c.fence IS NOT NULL ORDER BY c.fence DESC LIMIT 1) END,
  mode = CASE WHEN token IS NOT NULL THEN mode ELSE (SELECT c.mode FROM `{table}_claims` AS c
    WHERE c.lock_key = `{table}`.lock_key AND c.fence IS NOT NULL ORDER BY c.fence DESC LIMIT 1) END,
  acquired_at = CASE WHEN token IS NOT NULL THEN acquired_at
    ELSE (SELECT MAX(c.acquired_at) FROM `{table}_claims` AS c
      WHERE c.lock_key = `{table}`.lock_key AND c.fence IS NOT NULL) END,
  expires_at = CASE WHEN token IS NOT NULL THEN expires_at
    ELSE (SELECT MAX(c.expires_at) FROM `{table}_claims` AS c
      WHERE c.lock_key = `{table}`.lock_key AND c.fence IS NOT NULL) END
WHERE lock_key IN (:keys)";

/// Frees a key whoever holds it.
const FREE_KEY: &str = "\
UPDATE `{table}` SET token = NULL, owner = NULL, mode = NULL, acquired_at = NULL, expires_at = NULL
WHERE lock_key = :key";

/// The columns of a look: those of the first table, with a place of 0, and of the second. Times are in µs.
const COLUMNS: &str = "\
l.lock_key, l.token, l.owner, l.mode, l.fence,
  TIMESTAMPDIFF(MICROSECOND, '1970-01-01', l.acquired_at) AS acquired,
  TIMESTAMPDIFF(MICROSECOND, NOW(6), l.expires_at) AS remains";

/// Reads the rows of some keys from both tables.
const LOOK: &str = "\
SELECT {columns}, 0 AS place FROM `{table}` AS l WHERE l.lock_key IN (:keys)
UNION ALL
SELECT {columns}, l.place FROM `{table}_claims` AS l WHERE l.lock_key IN (:keys)";

/// Reads the rows of a page of keys that are held or waited for. The page is in byte order and found by
/// range: LIKE would take wildcards.
const LIST: &str = "\
SELECT {columns}, 0 AS place FROM `{table}` AS l
  JOIN (SELECT lock_key FROM `{table}` WHERE {range} ORDER BY lock_key LIMIT :limit) AS page
  ON page.lock_key = l.lock_key
UNION ALL
SELECT {columns}, l.place FROM `{table}_claims` AS l
  JOIN (SELECT lock_key FROM `{table}` WHERE {range} ORDER BY lock_key LIMIT :limit) AS page
  ON page.lock_key = l.lock_key";

/// True of a row of a page.
const RANGE: &str = "\
lock_key >= :first AND lock_key > :after AND lock_key < :end \
 AND (expires_at > NOW(6) OR line_until > NOW(6))";

/// Finds rows that nobody holds or waits for, without locking any.
const FIND_FREE: &str = "\
SELECT lock_key FROM `{table}` WHERE lock_key > :after AND {free} ORDER BY lock_key LIMIT :limit";

/// Removes those of some rows that are free and whose fence the clock has passed by so far that no
/// statement on its way can have begun before, and draw a lower one.
const PURGE: &str = "\
DELETE FROM `{table}` WHERE lock_key IN (:keys) AND {free} AND fence < {clock} - 10000000";

/// Empties those of some rows whose holder is dead; what is left is their fence.
const PURGE_DEAD: &str = "\
UPDATE `{table}` SET token = NULL, owner = NULL, mode = NULL, acquired_at = NULL, expires_at = NULL
WHERE lock_key IN (:keys) AND {free} AND expires_at IS NOT NULL";

/// Finds dead claims in the second table, without locking any.
const FIND_DEAD_CLAIMS: &str = "\
SELECT lock_key, token FROM `{table}_claims` WHERE expires_at <= NOW(6) LIMIT :limit";

/// Removes those of some claims that are dead.
const PURGE_CLAIMS: &str = "\
DELETE FROM `{table}_claims`
WHERE lock_key IN (:keys) AND token IN (:tokens) AND expires_at <= NOW(6)";

/// What a statement asks for, in the order of its question marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Key,
    Token,
    Owner,
    Mode,
    Ttl,
    Floor,
    Fence,
    First,
    After,
    End,
    Limit,
    Keys,
    Tokens,
}

impl Ask {
    fn named(name: &str) -> Self {
        match name {
            "key" => Self::Key,
            "token" => Self::Token,
            "owner" => Self::Owner,
            "mode" => Self::Mode,
            "ttl" => Self::Ttl,
            "floor" => Self::Floor,
            "fence" => Self::Fence,
            "first" => Self::First,
            "after" => Self::After,
            "end" => Self::End,
            "limit" => Self::Limit,
            "keys" => Self::Keys,
            "tokens" => Self::Tokens,
            _ => unreachable!("statements ask for nothing else"),
        }
    }
}

/// The most items in one list.
pub(crate) const BATCH: usize = 500;

/// The lengths of lists that statements are written for: a list is filled up to the next, so that a
/// connection prepares few statements.
const SIZES: [usize; 5] = [1, 8, 32, 128, BATCH];

/// One statement, with its lists in each of the lengths.
#[derive(Debug)]
pub(crate) struct Statement {
    sized: Vec<(usize, Arc<str>)>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) writes: bool,
}

impl Statement {
    fn new(text: &str) -> Self {
        let mut pieces = text.split(':');
        let mut plain = vec![pieces.next().unwrap_or_default()];
        let mut asks = Vec::new();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(piece.len());
            asks.push(Ask::named(&piece[..end]));
            plain.push(&piece[end..]);
        }
        let has_list = asks.iter().any(|ask| matches!(ask, Ask::Keys | Ask::Tokens));
        let sizes = if has_list { &SIZES[..] } else { &SIZES[..1] };
        let sized = sizes.iter().map(|&size| (size, join(&plain, &asks, size))).collect();
        Self { sized, asks, writes: !text.starts_with("SELECT") }
    }

    /// Returns the text for lists of `length`, and the length to fill them up to.
    pub(crate) fn text(&self, length: usize) -> (usize, Arc<str>) {
        let sized = self.sized.iter().find(|(size, _)| *size >= length);
        let (size, text) =
            sized.or_else(|| self.sized.last()).expect("each statement has a length");
        (*size, text.clone())
    }
}

fn join(plain: &[&str], asks: &[Ask], size: usize) -> Arc<str> {
    let marks = |ask: &Ask| match ask {
        Ask::Keys | Ask::Tokens => vec!["?"; size].join(","),
        _ => "?".to_owned(),
    };
    let mut text = plain[0].to_owned();
    for (ask, rest) in asks.iter().zip(&plain[1..]) {
        text += &marks(ask);
        text += rest;
    }
    text.into()
}

/// The statements of one pair of tables.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) attempt: Statement,
    pub(crate) release: Statement,
    pub(crate) keep: Statement,
    pub(crate) lock: Statement,
    pub(crate) lock_many: Statement,
    pub(crate) take: Statement,
    pub(crate) draw: Statement,
    pub(crate) raise: Statement,
    pub(crate) claim: Statement,
    pub(crate) keep_claims: Statement,
    pub(crate) keep_places: Statement,
    pub(crate) keep_lines: Statement,
    pub(crate) drop_claim: Statement,
    pub(crate) bury: Statement,
    pub(crate) bury_holders: Statement,
    pub(crate) settle: Statement,
    pub(crate) free_key: Statement,
    pub(crate) look: Statement,
    pub(crate) list: Statement,
    pub(crate) find_free: Statement,
    pub(crate) purge: Statement,
    pub(crate) purge_dead: Statement,
    pub(crate) find_dead_claims: Statement,
    pub(crate) purge_claims: Statement,
}

impl Statements {
    /// Writes the statements for `table`, whose name the configuration has checked.
    pub(crate) fn new(table: &str) -> Self {
        let write = |text: &str| Statement::new(&fill(text, table));
        Self {
            attempt: write(ATTEMPT),
            release: write(RELEASE),
            keep: write(KEEP),
            lock: write(LOCK),
            lock_many: write(LOCK_MANY),
            take: write(TAKE),
            draw: write(DRAW),
            raise: write(RAISE),
            claim: write(CLAIM),
            keep_claims: write(KEEP_CLAIMS),
            keep_places: write(KEEP_PLACES),
            keep_lines: write(KEEP_LINES),
            drop_claim: write(DROP_CLAIM),
            bury: write(BURY),
            bury_holders: write(BURY_HOLDERS),
            settle: write(SETTLE),
            free_key: write(FREE_KEY),
            look: write(LOOK),
            list: write(LIST),
            find_free: write(FIND_FREE),
            purge: write(PURGE),
            purge_dead: write(PURGE_DEAD),
            find_dead_claims: write(FIND_DEAD_CLAIMS),
            purge_claims: write(PURGE_CLAIMS),
        }
    }
}

fn fill(text: &str, table: &str) -> String {
    text.replace("{mine}", MINE)
        .replace("{free}", FREE)
        .replace("{range}", RANGE)
        .replace("{columns}", COLUMNS)
        .replace("{highest}", HIGHEST)
        .replace("{clock}", CLOCK)
        .replace("{table}", table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_what_it_asks_for_in_order() {
        let statement = Statement::new("UPDATE t SET a = :ttl WHERE k IN (:keys) AND o = :owner");
        assert_eq!(statement.asks, [Ask::Ttl, Ask::Keys, Ask::Owner]);
        assert!(statement.writes);
        let (size, text) = statement.text(2);
        assert_eq!(size, 8);
        assert_eq!(&*text, "UPDATE t SET a = ? WHERE k IN (?,?,?,?,?,?,?,?) AND o = ?");
    }

    #[test]
    fn each_statement_is_written_for_its_table() {
        let all = format!("{:?}", Statements::new("my_locks"));
        assert!(all.contains("`my_locks`") && all.contains("`my_locks_claims`"));
        for left in ["{table}", "{clock}", "{mine}", "{free}", "{columns}", "{range}", "{highest}"]
        {
            assert!(!all.contains(left), "{left}");
        }
    }
}
