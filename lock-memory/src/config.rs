//! `memory:` URLs and the stores that a process shares by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::client::Memory;
use crate::store::Shared;
use crate::store::Store;

/// How `memory:` URLs open a store: a private one, or one shared by name.
pub const DRIVER: Driver = Driver {
    name: "memory",
    schemes: &["memory"],
    params: &[],
    connect: |url| Box::pin(connect(url)),
    schema: |_| Ok(None),
};

async fn connect(url: ConnectUrl) -> Result<SharedBackend> {
    Ok(Arc::new(Memory::connect(&Config::from_url(&url)?)))
}

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
    /// `Config` if the name is empty or looks like a path.
    pub fn named(name: &str) -> Result<Self> {
        if name.is_empty() || name.contains('/') {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "{name:?} cannot name a store in memory: write memory: or memory:NAME, NAME without slashes"
                ),
            ));
        }
        Ok(Self { name: Some(name.to_owned()) })
    }

    /// Reads `memory:` (a private store) or `memory:NAME` (one for all in this process).
    ///
    /// # Errors
    ///
    /// `Config`, with what to write instead.
    pub fn from_url(url: &ConnectUrl) -> Result<Self> {
        match url.path_only()? {
            "" => Ok(Self::private()),
            name => Self::named(name),
        }
    }

    /// Returns the name, if the store is shared.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
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

    fn read(url: &str) -> Result<Config> {
        Config::from_url(&ConnectUrl::parse(url)?)
    }

    #[test]
    fn reads_the_name_of_a_shared_store() {
        assert_eq!(read("memory:").unwrap(), Config::private());
        assert_eq!(read("memory:a-b").unwrap().name(), Some("a-b"));
    }

    #[test]
    fn refuses_all_else_and_says_what_to_write() {
        for (url, hint) in [("memory://x", "memory:NAME"), ("memory:a/b", "without slashes")] {
            let error = read(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.message().contains(hint), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn the_driver_opens_what_it_answers_to_and_has_no_options() {
        DRIVER.open(ConnectUrl::parse("memory:").unwrap()).await.unwrap();
        let error = DRIVER.open(ConnectUrl::parse("memory:?table=t").unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
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
