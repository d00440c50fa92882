//! How a backend crate offers itself: its URL schemes, its query keys, its connect function.
//!
//! Each backend crate has one `pub const DRIVER: Driver`; the facade keeps the list of those that are
//! compiled in. There is no registry to fill at run time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::ConnectUrl;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::SharedBackend;
use crate::nearest;

/// One kind of store.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "each backend crate builds one as a constant")]
pub struct Driver {
    /// The name of the backend and of the feature that compiles it in.
    pub name: &'static str,
    /// The URL schemes it answers to.
    pub schemes: &'static [&'static str],
    /// The query keys it knows, besides [`COMMON_PARAMS`].
    pub params: &'static [Param],
    /// Opens the store. Called only with a URL that [`check`](Self::check) has passed.
    pub connect: fn(ConnectUrl) -> Connecting,
    /// Writes the statements that create what the store at a URL has to have before it can keep
    /// locks; `None` if it needs nothing. Called only with a URL that [`check`](Self::check) has passed.
    pub schema: fn(&ConnectUrl) -> Result<Option<String>>,
}

/// A backend that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = Result<SharedBackend>> + Send>>;

/// A query key of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "each backend crate builds them as constants")]
pub struct Param {
    /// The key.
    pub name: &'static str,
    /// What it sets, in one line, with its default.
    pub help: &'static str,
}

/// The query keys that every URL may have. The engine acts upon them, not the driver.
pub const COMMON_PARAMS: &[Param] = &[
    Param { name: "prefix", help: "text put before every key; none" },
    Param { name: "ttl", help: "TTL of a lock whose options name none; 30s" },
    Param { name: "timeout", help: "longest time one operation of the store may take; 5s" },
    Param { name: "io", help: "where the store's I/O runs: runtime or thread; runtime" },
];

impl Driver {
    /// Checks that the URL is of this driver and that every query key is known.
    ///
    /// # Errors
    ///
    /// `Config`, naming the key, what there is, and what was probably meant.
    pub fn check(&self, url: &ConnectUrl) -> Result<()> {
        if !self.schemes.contains(&url.scheme()) {
            return Err(config(format!(
                "backend {} does not answer to scheme {}: it knows {}",
                self.name,
                url.scheme(),
                self.schemes.join(", ")
            )));
        }
        match url.keys().find(|key| !self.param_names().any(|known| known == *key)) {
            Some(key) => Err(self.unknown(key)),
            None => Ok(()),
        }
    }

    /// Opens the store after [`check`](Self::check).
    ///
    /// [`COMMON_PARAMS`] are the caller's: take them off and act upon them before.
    ///
    /// # Errors
    ///
    /// `Config` for what the URL asks wrongly, `Unavailable` if the store does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes what was opened.
    pub async fn open(&self, url: ConnectUrl) -> Result<SharedBackend> {
        self.check(&url)?;
        (self.connect)(url).await
    }

    fn param_names(&self) -> impl Iterator<Item = &'static str> {
        self.params.iter().chain(COMMON_PARAMS).map(|param| param.name)
    }

    fn unknown(&self, key: &str) -> Error {
        let known = self.param_names().collect::<Vec<_>>().join(", ");
        let hint = nearest(key, self.param_names())
            .map(|name| format!(", did you mean {name:?}?"))
            .unwrap_or_default();
        config(format!("unknown query key {key:?} for {}{hint} (known: {known})", self.name))
    }
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({} for {})", self.name, self.schemes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: Driver = Driver {
        name: "fake",
        schemes: &["fake", "fakes"],
        params: &[Param { name: "table", help: "the table" }],
        connect: |_| Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "nobody home")) }),
        schema: |_| Ok(None),
    };

    fn check(url: &str) -> Result<()> {
        DRIVER.check(&ConnectUrl::parse(url).unwrap())
    }

    #[test]
    fn knows_its_own_keys_and_the_common_ones() {
        check("fake:?table=t&prefix=p&ttl=1s&timeout=1s&io=thread").unwrap();
    }

    #[test]
    fn an_unknown_key_is_named_with_what_was_meant() {
        assert_eq!(
            check("fakes://h?tabel=t").unwrap_err().to_string(),
            "unknown query key \"tabel\" for fake, did you mean \"table\"? \
             (known: table, prefix, ttl, timeout, io)"
        );
        assert_eq!(
            check("fakes://h?zzz=t").unwrap_err().to_string(),
            "unknown query key \"zzz\" for fake (known: table, prefix, ttl, timeout, io)"
        );
    }

    #[test]
    fn refuses_a_foreign_scheme() {
        assert_eq!(
            check("other:").unwrap_err().to_string(),
            "backend fake does not answer to scheme other: it knows fake, fakes"
        );
    }

    #[tokio::test]
    async fn opens_only_what_it_has_checked() {
        let kind = |url: &str| {
            let url = ConnectUrl::parse(url).unwrap();
            async { DRIVER.open(url).await.unwrap_err().kind() }
        };
        assert_eq!(kind("fake:?x=1").await, ErrorKind::Config);
        assert_eq!(kind("fake:?table=1").await, ErrorKind::Unavailable);
    }
}
