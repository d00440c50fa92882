//! `memory:` URLs and the stores that a process shares by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;

use crate::store::Shared;
use crate::store::Store;

/// The URL schemes of this backend.
pub const SCHEMES: &[&str] = &["memory"];

/// Which store to connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    name: Option<String>,
}

impl Config {
    /// Asks for a private store that nobody else can reach.
    pub fn private() -> Self {
        Self::default()
    }

    /// Asks for the store that everybody in this process reaches by `name`.
    ///
    /// # Errors
    ///
    /// `Config` if the name is empty or has a character of URLs (`/`, `?`, `#`).
    pub fn named(name: &str) -> Result<Self> {
        if name.is_empty() || name.contains(['/', '?', '#']) {
            return Err(config_error(format!(
                "{name:?} cannot name a store in memory: use letters, digits and dashes"
            )));
        }
        Ok(Self { name: Some(name.to_owned()) })
    }

    /// Parses `memory:` (a private store) or `memory:NAME` (one for all in this process).
    ///
    /// # Errors
    ///
    /// `Config`, with what to write instead.
    pub fn from_url(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("memory:") else {
            return Err(config_error("not a memory URL: write memory: or memory:NAME".into()));
        };
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        if let Some(option) = query.split('&').find(|option| !option.is_empty()) {
            let option = option.split('=').next().unwrap_or_default();
            return Err(config_error(format!(
                "memory: has no option {option:?}: leave it out, a store in memory has none"
            )));
        }
        match name {
            "" => Ok(Self::private()),
            name if name.starts_with('/') => Err(config_error(
                "a memory URL has no slashes: write memory: or memory:NAME".into(),
            )),
            name => Self::named(name),
        }
    }

    /// Returns the name, if the store is shared.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn config_error(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// The named stores of the process: the one thing in it that all see, as a server would be. A store
/// lives as long as a client of it.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

impl Store {
    /// Returns the store that everybody in this process reaches by `name`, on the system's clock.
    ///
    /// It is created by the first and gone, with all it held, after the last handle or client of it.
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            return Self::from_shared(shared);
        }
        named.retain(|_, store| store.strong_count() > 0);
        let store = Self::new(Clock::system());
        named.insert(name.to_owned(), Arc::downgrade(store.shared()));
        store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_name_of_a_shared_store() {
        assert_eq!(Config::from_url("memory:").unwrap(), Config::private());
        assert_eq!(Config::from_url("memory:a-b").unwrap().name(), Some("a-b"));
        assert_eq!(Config::from_url("memory:a?").unwrap().name(), Some("a"));
    }

    #[test]
    fn refuses_all_else_and_says_what_to_write() {
        let rows = [
            ("redis://x", "write memory: or memory:NAME"),
            ("memory", "write memory: or memory:NAME"),
            ("memory://x", "no slashes"),
            ("memory:a/b", "cannot name a store"),
            ("memory:a?table=t", "no option \"table\""),
        ];
        for (url, hint) in rows {
            let error = Config::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.message().contains(hint), "{url}: {error}");
        }
    }

    #[test]
    fn a_named_store_is_shared_while_a_handle_lives() {
        let name = "config-test";
        let first = Store::named(name);
        assert!(Arc::ptr_eq(first.shared(), Store::named(name).shared()));
        let old = Arc::downgrade(first.shared());
        drop(first);
        assert!(old.upgrade().is_none());
        drop(Store::named(name));
    }
}
