//! What the suite has to know of a store: how to connect, and, if it can be, how to look at it from
//! outside and how to hurt it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::LockProvider;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_core::Token;

use crate::Link;
use crate::Tap;

/// A store under test. Only [`name`](Self::name) and [`connect`](Self::connect) are needed; each
/// further hook lets more cases run, and what cannot run is shown as ignored with its reason.
///
/// ```
/// use std::sync::Arc;
/// use conformance_tests::{Fixture, async_trait};
/// use lock_core::{Result, SharedBackend};
///
/// struct Mine;
///
/// #[async_trait]
/// impl Fixture for Mine {
///     fn name(&self) -> &str {
///         "mine"
///     }
///
///     async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
/// #       let _ = namespace;
///         // Ok(Arc::new(MyBackend::connect("my://127.0.0.1").await?))
/// #       unimplemented!()
///     }
/// }
/// # let _: Arc<dyn Fixture> = Arc::new(Mine);
/// ```
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Names the store in the names of the trials.
    fn name(&self) -> &str;

    /// Connects a new client with a connection or session of its own.
    ///
    /// All keys of a case begin with `namespace`, which no other case uses; a fixture with a store
    /// for each namespace (a file, an instance in memory) picks it by that.
    async fn connect(&self, namespace: &str) -> Result<SharedBackend>;

    /// Connects a client over a link that cases can disturb.
    ///
    /// By default calls are disturbed on their way into the backend; a fixture with a server returns
    /// a client that goes through a [`Proxy`](crate::Proxy) instead.
    async fn proxied(&self, namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let tap = Arc::new(Tap::new(self.connect(namespace).await?));
        Ok((tap.clone(), tap))
    }

    /// Sets up the engine that the cases use; for a store that needs other settings.
    fn options(&self, options: EngineOptions) -> EngineOptions {
        options
    }

    /// Wraps the engine that the cases use; for whoever adds something around it and wants to know
    /// that all promises still hold.
    fn provider(&self, engine: Engine) -> Arc<dyn LockProvider> {
        Arc::new(engine)
    }

    /// Whether a try is refused only if somebody holds the key at that instant.
    ///
    /// Not so with a store of several parts, of which two who try at once may each get some.
    fn refuses_only_held(&self) -> bool {
        true
    }

    /// Whether a repeated attempt returns the very same fence.
    ///
    /// Not so with a store of several parts, where one that granted a moment later than the others may have
    /// drawn a higher one. It may never be lower.
    fn repeats_fences(&self) -> bool {
        true
    }

    /// Starts the store, or checks that it is there; once, before all cases.
    ///
    /// An error fails the run unless `LOCK_TEST_EXCLUDE` names the fixture.
    async fn set_up(&self) -> Result<()> {
        Ok(())
    }

    /// Ends what [`set_up`](Self::set_up) began; once, after all cases.
    async fn tear_down(&self) {}

    /// Returns the environment with which this test program, started once more, reaches the same
    /// store; `None` if no other process can.
    fn environment(&self) -> Option<Vec<(String, String)>> {
        None
    }

    /// Looks at the store out of band, not through the backend; `None` if there is no such way.
    async fn probe(&self, namespace: &str, key: &LockKey) -> Option<Probe> {
        let _ = (namespace, key);
        None
    }

    /// Does `fault` to the store of `namespace`.
    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        let _ = (namespace, fault);
        Err(Unsupported("the fixture has no such fault"))
    }

    /// Returns passwords that no output may show.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a look at the store itself shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "fixtures build it")]
pub struct Probe {
    /// Whether the key is locked.
    pub locked: bool,
    /// The token that holds it, if the store shows it.
    pub token: Option<Token>,
}

/// What a case may ask a fixture to do to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Stop and start the server, as an operator would; its data may go as far as its set-up says.
    Restart,
    /// Delete every record of the namespace by hand, fences included.
    Forget,
    /// Write something under the key's name that is not ours.
    Corrupt(LockKey),
}

/// A fault that a fixture cannot do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "fixtures build it")]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
