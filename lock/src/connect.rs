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
use lock_core::LockProvider;
use lock_core::Result;

use crate::Config;
use crate::Io;
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
        let plan = Plan::new(self)?;
        let options = plan.engine_options();
        let Plan { driver, url, io, .. } = plan;
        let timeout = options.operation_timeout;
        let engine = tokio::select! {
            engine = open(driver, url, io, options) => engine,
            () = Clock::system().sleep(timeout) => Err(late(timeout)),
        };
        match engine {
            Ok(engine) => Ok(Arc::new(engine)),
            Err(error) => Err(error.in_context("connect", driver.name, None)),
        }
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

fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the store did not answer within {timeout:?}"))
}

impl Plan {
    fn engine_options(&self) -> EngineOptions {
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
