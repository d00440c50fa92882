//! What a user can set, parsed at the edge.

use std::path::PathBuf;
use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;

/// The table of a configuration that names none.
pub const DEFAULT_TABLE: &str = "locks";

/// How long a call waits for SQLite's write lock unless told otherwise.
pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_TABLE_BYTES: usize = 63;

const KNOWN_KEYS: &str = "table, busy_timeout and unsafe_filesystem";

/// Where the locks are kept and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The database file; it is created if missing, its directory is not.
    pub path: PathBuf,
    /// The table of the locks, [`DEFAULT_TABLE`] by default.
    pub table: String,
    /// How long a call waits for SQLite's write lock, [`DEFAULT_BUSY_TIMEOUT`] by default. A call
    /// that stands behind another on the same backend can take twice as long.
    pub busy_timeout: Duration,
    /// Whether to use a file system that is not known to be local. Locks on a network file system
    /// are not safe; see [Fault model](crate#fault-model).
    pub any_filesystem: bool,
}

impl SqliteConfig {
    /// Keeps the locks in the file at `path`, the rest by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            table: DEFAULT_TABLE.to_owned(),
            busy_timeout: DEFAULT_BUSY_TIMEOUT,
            any_filesystem: false,
        }
    }

    /// Parses the path of a `sqlite:PATH` URL and its decoded query pairs.
    ///
    /// # Errors
    ///
    /// `Config` for a path that is no file, an unknown key, or a value that makes no sense.
    pub fn from_parts(path: &str, query: &[(&str, &str)]) -> Result<Self> {
        let mut config = Self::new(path);
        for (key, value) in query {
            match *key {
                "table" => config.table = (*value).to_owned(),
                "busy_timeout" => config.busy_timeout = parse_duration(value)?,
                "unsafe_filesystem" => config.any_filesystem = parse_allow(value)?,
                _ => return Err(unknown_key(key)),
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Checks what the fields' types leave open.
    pub(crate) fn check(&self) -> Result<()> {
        check_path(&self.path)?;
        check_table(&self.table)?;
        let longest = Duration::from_secs(60);
        if self.busy_timeout.is_zero() || self.busy_timeout > longest {
            return Err(config_error("busy_timeout must be between 1ms and 60s".into()));
        }
        Ok(())
    }
}

fn check_path(path: &std::path::Path) -> Result<()> {
    let Some(text) = path.to_str() else {
        return Err(config_error("the path of the database must be UTF-8".into()));
    };
    if text.contains(":memory:") {
        let hint = "sqlite::memory: has no file that processes could share; use memory: instead";
        return Err(config_error(hint.into()));
    }
    if text.is_empty() || text.ends_with('/') {
        return Err(config_error("name a file, as in sqlite:/var/lib/app/locks.db".into()));
    }
    if text.starts_with("file:") || text.contains('\0') {
        return Err(config_error(format!("write a plain path instead of {text:?}")));
    }
    Ok(())
}

/// A table's name goes into statements as text, so it is held to what can do no harm there.
fn check_table(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let reserved = name.to_ascii_lowercase().starts_with("sqlite_");
    if begins && name.chars().all(plain) && name.len() <= MAX_TABLE_BYTES && !reserved {
        return Ok(());
    }
    Err(config_error(format!(
        "the table name {name:?} must have 1 to {MAX_TABLE_BYTES} ASCII letters, digits and \
         underscores, begin with no digit, and not with sqlite_"
    )))
}

fn parse_duration(text: &str) -> Result<Duration> {
    let parse = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
    let millis = text.strip_suffix("ms").and_then(parse).map(Duration::from_millis);
    let duration =
        millis.or_else(|| text.strip_suffix('s').and_then(parse).map(Duration::from_secs));
    duration.ok_or_else(|| config_error(format!("busy_timeout {text:?}: write 500ms or 2s")))
}

fn parse_allow(value: &str) -> Result<bool> {
    if value == "allow" {
        return Ok(true);
    }
    Err(config_error(format!("unsafe_filesystem {value:?}: the only value is allow")))
}

fn unknown_key(key: &str) -> Error {
    config_error(format!("unknown key {key:?} for sqlite: it takes {KNOWN_KEYS}"))
}

fn config_error(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, query: &[(&str, &str)]) -> String {
        let error = SqliteConfig::from_parts(path, query).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn takes_each_known_key() {
        let query =
            [("table", "my_locks"), ("busy_timeout", "500ms"), ("unsafe_filesystem", "allow")];
        let config = SqliteConfig::from_parts("a/locks.db", &query).unwrap();
        assert_eq!(config.path, PathBuf::from("a/locks.db"));
        assert_eq!(config.table, "my_locks");
        assert_eq!(config.busy_timeout, Duration::from_millis(500));
        assert!(config.any_filesystem);
    }

    #[test]
    fn refuses_what_it_does_not_know_and_says_what_it_takes() {
        assert!(refused("l.db", &[("tabel", "x")]).contains("it takes table, busy_timeout"));
        assert!(refused("l.db", &[("busy_timeout", "2 minutes")]).contains("500ms or 2s"));
        assert!(refused("l.db", &[("busy_timeout", "0s")]).contains("between"));
        assert!(refused("l.db", &[("unsafe_filesystem", "yes")]).contains("allow"));
    }

    #[test]
    fn a_path_must_name_a_file() {
        assert!(refused(":memory:", &[]).contains("memory:"));
        assert!(refused("", &[]).contains("name a file"));
        assert!(refused("dir/", &[]).contains("name a file"));
        assert!(refused("file:x?mode=ro", &[]).contains("plain path"));
    }

    #[test]
    fn a_table_name_cannot_carry_sql() {
        for name in ["", "1a", "a b", "a\"", "a;DROP", "sqlite_x", "SQLITE_x", "ä", &"a".repeat(64)]
        {
            assert!(refused("l.db", &[("table", name)]).contains("table name"), "{name}");
        }
        assert!(SqliteConfig::from_parts("l.db", &[("table", "_L0cks")]).is_ok());
    }
}
