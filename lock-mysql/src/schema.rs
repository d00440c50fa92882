//! The two tables: what they have to be, and how they are made.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use lock_core::Error;
use lock_core::ErrorKind;

use crate::error::During;
use crate::error::Failure;
use crate::error::classify;
use crate::session::Session;

/// The table of locks. Keys are compared byte by byte, trailing spaces too: each server has another name
/// for that collation, and reads only its own comment. Times are of the kind that means the same instant
/// in sessions of every time zone, and NULL by default: without that some servers renew the first one on
/// every update.
const LOCKS: &str = "\
CREATE TABLE IF NOT EXISTS `{table}` (
  lock_key    VARCHAR(512) CHARACTER SET utf8mb4 {collation} NOT NULL,
  owner       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  token       CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,
  mode        VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,
  fence       BIGINT NOT NULL,
  acquired_at TIMESTAMP(6) NULL DEFAULT NULL,
  expires_at  TIMESTAMP(6) NULL DEFAULT NULL,
  line_until  TIMESTAMP(6) NULL DEFAULT NULL,
  PRIMARY KEY (lock_key)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC";

/// The table of all other claims: with a fence they hold, without one they stand in line, in the order of
/// their places.
const CLAIMS: &str = "\
CREATE TABLE IF NOT EXISTS `{table}_claims` (
  lock_key    VARCHAR(512) CHARACTER SET utf8mb4 {collation} NOT NULL,
  token       CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  owner       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  mode        VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,
  fence       BIGINT NULL,
  acquired_at TIMESTAMP(6) NULL DEFAULT NULL,
  expires_at  TIMESTAMP(6) NULL DEFAULT NULL,
  place       BIGINT NOT NULL,
  PRIMARY KEY (lock_key, token)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC";

pub(crate) const COLLATION: &str =
    "/*!80017 COLLATE utf8mb4_0900_bin */ /*M! COLLATE utf8mb4_nopad_bin */";

/// One line for each column: name, type, its length or digits, whether it may be NULL, collation, extras.
const COLUMNS: &str = "\
SELECT CONCAT_WS(' ', LOWER(column_name), LOWER(data_type),
  COALESCE(character_maximum_length, datetime_precision, 0), LOWER(is_nullable),
  COALESCE(REPLACE(collation_name, 'utf8mb4_0900_bin', 'utf8mb4_nopad_bin'), '-'), LOWER(extra)) AS fact
FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?
ORDER BY ordinal_position";

/// One line for each unique index, and one for the engine.
const KEYS: &str = "\
SELECT GROUP_CONCAT(LOWER(column_name), COALESCE(sub_part, '') ORDER BY seq_in_index) AS fact
FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0 GROUP BY index_name
UNION ALL
SELECT LOWER(COALESCE(engine, table_type)) FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = ?";

const LOCKS_SHAPE: [&str; 10] = [
    "lock_key varchar 512 no utf8mb4_nopad_bin ",
    "owner varchar 255 yes utf8mb4_bin ",
    "token char 32 yes ascii_bin ",
    "mode varchar 32 yes ascii_bin ",
    "fence bigint 0 no - ",
    "acquired_at timestamp 6 yes - ",
    "expires_at timestamp 6 yes - ",
    "line_until timestamp 6 yes - ",
    "lock_key",
    "innodb",
];

const CLAIMS_SHAPE: [&str; 10] = [
    "lock_key varchar 512 no utf8mb4_nopad_bin ",
    "token char 32 no ascii_bin ",
    "owner varchar 255 yes utf8mb4_bin ",
    "mode varchar 32 yes ascii_bin ",
    "fence bigint 0 yes - ",
    "acquired_at timestamp 6 yes - ",
    "expires_at timestamp 6 yes - ",
    "place bigint 0 no - ",
    "lock_key,token",
    "innodb",
];

/// Returns the statements that create the tables, on either server.
pub(crate) fn ddl(table: &str) -> String {
    [LOCKS, CLAIMS].map(|text| write(text, table) + ";\n").concat()
}

/// Creates what is missing and refuses what has another shape.
pub(crate) async fn ensure(session: &mut Session, table: &str) -> Result<(), Failure> {
    let second = format!("{table}_claims");
    for (name, create, shape) in [(table, LOCKS, LOCKS_SHAPE), (&second, CLAIMS, CLAIMS_SHAPE)] {
        let mut found = facts(session, name).await?;
        if found.is_empty() {
            session.command(&write(create, table)).await?;
        }
        if found != shape {
            // Somebody else may have made it while it was being looked at.
            found = facts(session, name).await?;
        }
        if found != shape {
            return Err(refuse(name, &found, &shape).into());
        }
    }
    Ok(())
}

/// Describes the table of that name; empty if there is none.
async fn facts(session: &mut Session, name: &str) -> Result<Vec<String>, Failure> {
    let mut facts = Vec::new();
    for (sql, names) in [(COLUMNS, 1), (KEYS, 2)] {
        let query = (0..names).fold(sqlx::query(sql), |query, _| query.bind(name));
        let rows = query.fetch_all(session.connection()).await;
        let fact = |row: &MySqlRow| row.try_get_unchecked::<String, _>(0);
        let read = rows.and_then(|rows| rows.iter().map(fact).collect::<Result<Vec<_>, _>>());
        facts.extend(read.map_err(|failure| classify(failure, During::Look))?);
    }
    Ok(facts)
}

fn refuse(name: &str, found: &[String], shape: &[&str]) -> Error {
    let odd = found.iter().find(|fact| !shape.contains(&fact.as_str())).map(String::as_str);
    let missing = shape.iter().find(|fact| !found.iter().any(|found| found == *fact)).copied();
    let odd = odd.map(|odd| format!(" it has ({}),", odd.trim())).unwrap_or_default();
    let missing = missing.map(|it| format!(" it lacks ({}),", it.trim())).unwrap_or_default();
    Error::new(
        ErrorKind::Config,
        format!(
            "{name:?} exists and is not a table of locks:{odd}{missing} choose another name with \
             ?table=NAME, or make it with what lockctl schema prints"
        ),
    )
}

fn write(text: &str, table: &str) -> String {
    text.replace("{collation}", COLLATION).replace("{table}", table)
}
