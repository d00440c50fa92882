//! The configuration of a provider: from files, from the environment, from code.

mod env;
mod file;
mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use serde::Deserialize;

/// Which store to use, and the defaults of its locks.
///
/// Everything is optional, except that `url` or `provider` has to say which store. Unknown fields are
/// refused. The manual has the [whole list](crate::manual::configuration).
///
/// ```
/// use lock::Config;
///
/// let config = Config::parse("provider: memory\ndefault_ttl: 10s", "yaml")?;
/// assert_eq!(config.default_ttl, Some(std::time::Duration::from_secs(10)));
/// # Ok::<(), lock::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "read::Table")]
#[non_exhaustive]
pub struct Config {
    /// The backend's name, such as `sqlite`; needless when there is a `url`.
    pub provider: Option<String>,
    /// Where the store is.
    pub url: Option<ConnectUrl>,
    /// How long a store keeps a lock without hearing from us, if the lock's options do not say.
    pub default_ttl: Option<Duration>,
    /// How often to try again after the first attempt; for ever if not set.
    pub default_retry_count: Option<u32>,
    /// How long to pause between attempts; [`DEFAULT_RETRY_DELAY`] if not set.
    pub default_retry_delay: Option<Duration>,
    /// Text put before every key.
    pub key_prefix: Option<String>,
    /// The longest time that one operation of the store may take.
    pub timeout: Option<Duration>,
    /// Where the store's I/O runs.
    pub io: Option<Io>,
    /// What each backend is told besides: the query keys of its URL, by the backend's name.
    pub sections: BTreeMap<String, Section>,
}

/// The pause between attempts when only `default_retry_count` is set.
pub const DEFAULT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Where the I/O of a store runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Io {
    /// On the runtime from which the provider was connected.
    Runtime,
    /// On a thread of its own, so that a blocked runtime loses no lock.
    Thread,
}

/// What a backend is told. `Debug` shows the names only, as a value may be a password.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// Names and values.
    pub values: BTreeMap<String, String>,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Config {
    /// Returns the configuration for a store at `url`.
    ///
    /// # Errors
    ///
    /// `Config` if it is no URL.
    pub fn of_url(url: &str) -> Result<Self> {
        Ok(Self { url: Some(ConnectUrl::parse(url)?), ..Self::default() })
    }

    /// Reads text in `format`: `yaml`, `yml`, `toml` or `json`.
    ///
    /// # Errors
    ///
    /// `Config`, naming the field and what to write.
    pub fn parse(text: &str, format: &str) -> Result<Self> {
        file::parse(text, format)
    }

    /// Reads a file whose name ends in `.yaml`, `.yml`, `.toml` or `.json`.
    ///
    /// # Errors
    ///
    /// `Config`, naming the file, the field and what to write.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        file::read(path.as_ref())
    }

    /// Reads `LOCK_URL`, `LOCK_PROVIDER`, `LOCK_DEFAULT_TTL` and so on from the environment.
    ///
    /// Empty variables count as not set. Unknown ones are refused if they look like a misspelt one.
    ///
    /// # Errors
    ///
    /// `Config`, naming the variable and what to write.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(std::env::vars_os())
    }

    /// Reads the same from `variables` instead of the process's.
    ///
    /// # Errors
    ///
    /// As for [`from_env`](Self::from_env).
    pub fn from_vars<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: Into<std::ffi::OsString>,
        V: Into<std::ffi::OsString>,
    {
        env::read(variables.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// Fills what is not set here from `lower`: flags are over the environment, which is over a file.
    ///
    /// `url` and `provider` are one choice: who makes it here takes neither from `lower`.
    #[must_use]
    pub fn over(mut self, lower: Self) -> Self {
        if self.url.is_none() && self.provider.is_none() {
            self.url = lower.url;
            self.provider = lower.provider;
        }
        for (backend, section) in lower.sections {
            let values = &mut self.sections.entry(backend).or_default().values;
            for (name, value) in section.values {
                values.entry(name).or_insert(value);
            }
        }
        Self {
            default_ttl: self.default_ttl.or(lower.default_ttl),
            default_retry_count: self.default_retry_count.or(lower.default_retry_count),
            default_retry_delay: self.default_retry_delay.or(lower.default_retry_delay),
            key_prefix: self.key_prefix.or(lower.key_prefix),
            timeout: self.timeout.or(lower.timeout),
            io: self.io.or(lower.io),
            ..self
        }
    }
}

/// Every refusal of a configuration passes here, so that a URL with a password, wherever somebody
/// may have put it, is shown nowhere (G11).
pub(crate) fn refused(message: impl Into<String>) -> Error {
    let mut message = message.into();
    if let (Some(begin), Some(end)) = (message.find("://"), message.rfind('@'))
        && begin < end
    {
        message.replace_range(begin + 3..end, "***");
    }
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Plan;

    fn yaml(text: &str) -> Config {
        Config::parse(text, "yaml").unwrap()
    }

    #[test]
    fn reads_the_same_from_each_format_and_from_the_environment() {
        let from_yaml = yaml(
            "provider: mysql\ndefault_ttl: 10m\ndefault_retry_count: 5\n\
             default_retry_delay: 2s\nkey_prefix: 'a:'\nmysql:\n  table_name: my_locks\nsqlite:\n",
        );
        let from_toml = "provider='mysql'\ndefault_ttl='10m'\ndefault_retry_count=5\n\
             default_retry_delay='2s'\nkey_prefix='a:'\n[mysql]\ntable_name='my_locks'";
        let from_json = r#"{"provider":"mysql","default_ttl":"10m","default_retry_count":5,
             "default_retry_delay":"2s","key_prefix":"a:","mysql":{"table_name":"my_locks"}}"#;
        assert_eq!(from_yaml.default_ttl, Some(Duration::from_secs(600)));
        assert_eq!(from_yaml.sections["mysql"].values["table_name"], "my_locks");
        assert_eq!(Config::parse(from_toml, "toml").unwrap(), from_yaml);
        assert_eq!(Config::parse(from_json, "json").unwrap(), from_yaml);
        assert_eq!(serde_json::from_str::<Config>(from_json).unwrap(), from_yaml);
        let from_vars = Config::from_vars([
            ("LOCK_PROVIDER", "mysql"),
            ("LOCK_DEFAULT_TTL", "10m"),
            ("LOCK_DEFAULT_RETRY_COUNT", "5"),
            ("LOCK_DEFAULT_RETRY_DELAY", "2s"),
            ("LOCK_KEY_PREFIX", "a:"),
            ("LOCK_MYSQL_TABLE_NAME", "my_locks"),
            ("LOCK_URL", ""),
            ("LOCK_DIR", "/somebody/else's"),
            ("LOCK_FENCE", "17"),
            ("LOCK_KEY", "nightly"),
            ("LOCK_OWNER", "ann@host:1"),
            ("LOCK_TEST_ETCD_URL", "etcd://h"),
        ]);
        assert_eq!(from_vars.unwrap(), from_yaml);
    }

    #[test]
    fn a_higher_layer_wins_field_by_field() {
        let file = yaml("{default_ttl: 1s, timeout: 1s, sqlite: {path: a, table: t}}");
        let env = yaml("{default_ttl: 2s, sqlite: {path: b}}");
        let merged = env.over(file);
        assert_eq!(merged, yaml("{default_ttl: 2s, timeout: 1s, sqlite: {path: b, table: t}}"));
    }

    #[test]
    fn the_layer_that_names_the_store_names_it_alone() {
        let file = yaml("{provider: mysql, default_ttl: 1s}");
        let flag = Config::of_url("sqlite:x.db").unwrap();
        let merged = flag.over(file);
        assert_eq!(merged.provider, None);
        assert_eq!(merged.url.unwrap().to_string(), "sqlite:x.db");
    }

    #[test]
    fn shows_no_password() {
        let text = "{url: 'redis://ann:hunter2@h', postgres: {password: hunter2}}";
        let shown = format!("{:?}", yaml(text));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("ann:***@h"), "{shown}");
    }

    proptest! {
        /// Whichever field a URL was put in, and however its password is escaped.
        #[test]
        fn no_field_shows_a_password(
            field in "provider|url|default_ttl|default_retry_count|key_prefix|io|sqlite|redis|x",
            middle in "[a-z:@,/?#%&=\\[\\]\"'{}0-9é \\PC]{0,12}",
        ) {
            let url = format!("redis://ann:Hunter{middle}Tiger@h");
            for text in [
                serde_json::json!({ field.as_str(): url }),
                serde_json::json!({ field.as_str(): { "path": url } }),
                serde_json::json!({ "sqlite": { field.as_str(): [url] } }),
                serde_json::json!({ url.as_str(): field }),
            ] {
                let shown = match Config::parse(&text.to_string(), "json") {
                    // A prefix is no secret, and it is not shown in errors either.
                    Ok(config) => format!("{:?}", Plan::new(&Config { key_prefix: None, ..config })),
                    Err(error) => format!("{error} {error:?}"),
                };
                prop_assert!(!shown.contains("Hunter") && !shown.contains("Tiger"), "{shown}");
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", format in "yaml|toml|json") {
            let _ = Config::parse(&text, &format);
        }
    }
}
