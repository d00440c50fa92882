//! The one implementation of [`LockProvider`](crate::LockProvider): all that is the same on every store.
//!
//! A lock call is an [`acquire`], which ends in a [`held::Held`], entered in the [`register`]; its
//! renewals are the [`keeper`]'s, its deadlines the clock thread's, its end is in [`leaving`] and
//! [`release`]. A call for several keys ([`many`]) is one for each. What no caller waits for runs in the
//! [`background`]. Everything decided by time is pure: [`term`], [`pace`].

mod acquire;
mod background;
mod held;
mod keeper;
mod leaving;
mod limits;
mod many;
mod observe;
mod options;
mod pace;
mod pending;
mod place;
mod provider;
mod reentry;
mod register;
mod release;
mod request;
mod shared;
mod slots;
mod term;
mod waiters;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

pub(crate) use self::background::Executor;
pub(crate) use self::held::Held;
pub use self::options::Background;
pub use self::options::EngineOptions;
pub(crate) use self::shared::Shared;
pub(crate) use self::term::Phase;

use crate::Backend;
use crate::Error;
use crate::ErrorKind;
use crate::Result;

/// The engine over one backend. Cloning it shares it.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl Engine {
    /// Puts the engine over `backend`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the owner or the default TTL of `options` cannot be, `Unavailable` if the process
    /// cannot start the engine's thread.
    pub fn new(backend: Arc<dyn Backend>, options: EngineOptions) -> Result<Self> {
        let executor = Executor::new(options.background.clone())?;
        Ok(Self(Arc::new(Shared::new(backend, options, executor)?)))
    }

    /// Puts the engine over the backend that `connect` makes, with all of the backend's I/O on the
    /// engine's own thread, so that a blocked runtime of the caller loses no lock.
    ///
    /// # Errors
    ///
    /// What `connect` returned, and as for [`new`](Self::new).
    ///
    /// # Cancel safety
    ///
    /// The connection is closed in the background.
    pub async fn connect(
        connect: impl Future<Output = Result<Arc<dyn Backend>>> + Send + 'static,
        options: EngineOptions,
    ) -> Result<Self> {
        let executor = Executor::new(options.background.clone())?;
        let backend = executor.run(connect).await.map_err(|failure| {
            Error::new(ErrorKind::Unavailable, "connecting was aborted").with_source(failure)
        })??;
        Ok(Self(Arc::new(Shared::new(backend, options, executor)?)))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.0.profile.name)
            .field("prefix", &self.0.options.prefix)
            .field("register", &self.0.register)
            .finish_non_exhaustive()
    }
}
