//! From a URL or a configuration to a provider.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Host;
use lock_core::LockProvider;
use lock_core::Result;

use crate::Config;
use crate::Io;
use crate::plan;
use crate::plan::Plan;

/// Connects to the store at `url`.
///
/// # Errors
///
/// `Config` for what the URL asks wrongly: the [list](crate::manual::errors) has every sentence.
/// `Unavailable` if the store does not answer.
///
/// # Cancel safety
///
/// Dropping the future closes what was opened.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> lock::Result<()> {
/// let locks = lock::connect("memory:?prefix=shop:").await?;
/// let guard = locks.lock("sku:123", &lock::LockOptions::new()).await?;
/// guard.unlock().await
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
pub async fn connect(url: &str) -> Result<Arc<dyn LockProvider>> {
    Config::of_url(url)?.connect().await
}

impl Config {
    /// Connects to the configured store.
    ///
    /// # Errors
    ///
    /// As for [`connect`](crate::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn connect(&self) -> Result<Arc<dyn LockProvider>> {
        Ok(Arc::new(Plan::new(self)?.connect().await?))
    }

    /// Returns where the locks are, in one URL that other processes may see: it has the prefix and what
    /// the backend's section says, and no password.
    ///
    /// # Errors
    ///
    /// `Config`, as for [`connect`](crate::connect).
    pub fn place(&self) -> Result<ConnectUrl> {
        plan::place(self)
    }

    /// Writes the statements that create what the configured store has to have before it can keep
    /// locks, for those who create it by other means than connecting; `None` if it needs nothing.
    ///
    /// # Errors
    ///
    /// `Config`, as for [`connect`](crate::connect).
    pub fn schema(&self) -> Result<Option<String>> {
        let plan = Plan::new(self)?;
        (plan.driver.schema)(&plan.url)
            .map_err(|error| error.in_context("schema", plan.driver.name, None))
    }
}

impl Plan {
    async fn connect(self) -> Result<Engine> {
        let options = self.engine_options();
        let timeout = options.operation_timeout;
        let hosts: Vec<_> = self.url.hosts().iter().map(Host::to_string).collect();
        let opened = tokio::select! {
            engine = open(self.driver, self.url, self.io, options) => engine,
            () = Clock::system().sleep(timeout) => Err(late(timeout)),
        };
        opened
            .map_err(|error| asked(at(&hosts, error)).in_context("connect", self.driver.name, None))
    }

    pub(crate) fn engine_options(&self) -> EngineOptions {
        let mut options = EngineOptions::new();
        if let Some(prefix) = &self.prefix {
            options = options.prefix(prefix);
        }
        if let Some(ttl) = self.ttl {
            options = options.ttl(ttl);
        }
        if let Some(wait) = &self.wait {
            options = options.wait(wait.clone());
        }
        if let Some(timeout) = self.timeout {
            options = options.operation_timeout(timeout);
        }
        options
    }
}

async fn open(
    driver: &'static Driver,
    url: ConnectUrl,
    io: Option<Io>,
    options: EngineOptions,
) -> Result<Engine> {
    let backend = driver.open(url);
    match io {
        Some(Io::Thread) => Engine::connect(backend, options).await,
        None | Some(Io::Runtime) => Engine::new(backend.await?, options),
    }
}

/// What cannot be of what was asked for here stands in a URL or a configuration.
fn asked(error: Error) -> Error {
    if error.kind() != ErrorKind::InvalidInput {
        return error;
    }
    Error::new(ErrorKind::Config, error.message())
}

/// Says which servers did not do their part, where the driver has not named one.
fn at(hosts: &[String], error: Error) -> Error {
    let is_named = hosts.is_empty() || hosts.iter().any(|host| error.message().contains(host));
    if is_named || error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let message = format!("{}: {}", hosts.join(","), error.message());
    let retryable = error.is_retryable();
    let named = Error::new(ErrorKind::Unavailable, message).with_source(error);
    if retryable { named } else { named.permanent() }
}

pub(crate) fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the store did not answer within {timeout:?}"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use lock_core::Connecting;

    use super::*;

    #[test]
    #[cfg(all(feature = "sqlite", feature = "redis"))]
    fn a_place_leads_others_to_the_same_locks_beside_the_same_file() {
        let file = "{provider: sqlite, key_prefix: 'f:', sqlite: {path: /d/l.db, table_name: t}}";
        let file = Config::parse(file, "yaml").unwrap();
        let place = file.place().unwrap().to_string();
        assert_eq!(place, "sqlite:///d/l.db?table=t&prefix=f:");
        let again = Config::of_url(&place).unwrap().over(file);
        assert_eq!(again.place().unwrap().to_string(), place);
        Plan::new(&again).unwrap();
        let secret =
            "{url: 'redis+sentinel://ann:hunter2@h/s', redis: {sentinel_password: hunter2}}";
        let place = Config::parse(secret, "yaml").unwrap().place().unwrap();
        assert_eq!(place.to_string(), "redis+sentinel://ann@h/s");
    }

    #[tokio::test]
    #[cfg(feature = "memory")]
    async fn a_ttl_that_the_store_cannot_keep_is_a_matter_of_configuration() {
        let error = connect("memory:?ttl=9000h").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("connect on memory: "), "{error}");
    }

    fn plan(connect: fn(ConnectUrl) -> Connecting, io: Option<Io>) -> Plan {
        let driver =
            Driver { name: "fake", schemes: &["fake"], params: &[], connect, schema: |_| Ok(None) };
        Plan {
            driver: Box::leak(Box::new(driver)),
            url: ConnectUrl::parse("fake://host").unwrap(),
            prefix: None,
            ttl: None,
            wait: None,
            timeout: Some(Duration::from_millis(50)),
            io,
        }
    }

    #[tokio::test]
    async fn a_store_that_never_answers_is_given_up_in_time() {
        for io in [Io::Runtime, Io::Thread] {
            let error = plan(|_| Box::pin(pending()), Some(io)).connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(
                error.to_string(),
                "connect on fake: host: the store did not answer within 50ms"
            );
        }
    }

    #[tokio::test]
    async fn io_runs_where_it_is_asked_to() {
        let tell: fn(ConnectUrl) -> Connecting = |_| {
            Box::pin(async {
                let here = format!("{:?}", std::thread::current().id());
                Err(Error::new(ErrorKind::Corrupt, here))
            })
        };
        let ours = format!("{:?}", std::thread::current().id());
        for (io, same) in [(None, true), (Some(Io::Runtime), true), (Some(Io::Thread), false)] {
            let error = plan(tell, io).connect().await.unwrap_err();
            assert_eq!(error.message() == ours, same, "{io:?}");
        }
    }
}
