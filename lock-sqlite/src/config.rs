//! What a user can set, parsed at the edge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;

/// The table of a configuration that names none.
pub const DEFAULT_TABLE: &str = "locks";

/// How long a call waits for SQLite's write lock unless told otherwise.
pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_TABLE_BYTES: usize = 63;

/// How `sqlite:` URLs open a file.
pub const DRIVER: Driver = Driver {
    name: "sqlite",
    schemes: &["sqlite"],
    params: &[
        Param { name: "table", help: "the table of the locks; locks" },
        Param { name: "busy_timeout", help: "longest wait for SQLite's write lock; 2s" },
        Param {
            name: "unsafe_filesystem",
            help: "allow: use a file system that is not known to be local; not set",
        },
    ],
    connect: |url| Box::pin(open(url)),
    schema: |url| crate::schema(&SqliteConfig::from_url(url)?).map(Some),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    Ok(Arc::new(crate::connect(SqliteConfig::from_url(&url)?).await?))
}

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

    /// Reads `sqlite:PATH?table=…&busy_timeout=…&unsafe_filesystem=allow`.
    ///
    /// # Errors
    ///
    /// `Config` for a path that is no file or a value that makes no sense. Unknown keys are the
    /// [`DRIVER`](crate::DRIVER)'s to refuse.
    pub fn from_url(url: &ConnectUrl) -> Result<Self> {
        let mut config = Self::new(url.path_only()?);
        if let Some(table) = url.text("table") {
            config.table = table.to_owned();
        }
        if let Some(timeout) = url.duration("busy_timeout")? {
            config.busy_timeout = timeout;
        }
        config.any_filesystem = url.choice("unsafe_filesystem", &["allow"])?.is_some();
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
pub(crate) fn check_table(name: &str) -> Result<()> {
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

fn config_error(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<SqliteConfig> {
        SqliteConfig::from_url(&ConnectUrl::parse(url)?)
    }

    fn refused(url: &str) -> String {
        let error = read(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn takes_each_known_key() {
        let config =
            read("sqlite:a/l.db?table=my_locks&busy_timeout=500ms&unsafe_filesystem=allow")
                .unwrap();
        assert_eq!(config.path, PathBuf::from("a/l.db"));
        assert_eq!(config.table, "my_locks");
        assert_eq!(config.busy_timeout, Duration::from_millis(500));
        assert!(config.any_filesystem);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused() {
        assert!(refused("sqlite:l.db?busy_timeout=2minutes").contains("write 300ms"));
        assert!(refused("sqlite:l.db?busy_timeout=0").contains("between"));
        assert!(refused("sqlite:l.db?unsafe_filesystem=yes").contains("allow"));
    }

    #[test]
    fn a_path_must_name_a_file() {
        assert!(refused("sqlite::memory:").contains("memory:"));
        assert!(refused("sqlite:").contains("name a file"));
        assert!(refused("sqlite:dir/").contains("name a file"));
        assert!(refused("sqlite:file:x").contains("plain path"));
        assert!(refused("sqlite://rel/x.db").contains("names no host"));
    }

    #[test]
    fn a_table_name_cannot_carry_sql() {
        for name in ["", "1a", "a b", "a\"", "a;DROP", "sqlite_x", "SQLITE_x", "ä", &"a".repeat(64)]
        {
            let mut url = ConnectUrl::parse("sqlite:l.db").unwrap();
            url.add("table", name).unwrap();
            let error = SqliteConfig::from_url(&url).unwrap_err();
            assert!(error.message().contains("table name"), "{name}");
        }
        assert!(read("sqlite:l.db?table=_L0cks").is_ok());
    }
}
