//! How an engine is set up.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::Clock;
use crate::Wait;

/// How an [`Engine`](crate::Engine) is set up; each setting has one setter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineOptions {
    /// What stands before every key in the store; counts towards its 512 bytes.
    pub prefix: String,
    /// The TTL of a lock call that names none; if `None`, 30 s, or the most that the store keeps.
    pub ttl: Option<Duration>,
    /// The wait of a lock call that names none.
    pub wait: Wait,
    /// How long one request to the store may take before it is given up.
    pub operation_timeout: Duration,
    /// Who holds, where a lock call names no owner; `host:pid` if `None`.
    pub owner: Option<String>,
    /// The source of time.
    pub clock: Clock,
    /// Where renewals, polls and late releases run.
    pub background: Background,
}

/// Where an engine does what no caller waits for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Background {
    /// On one thread of the engine's own, so that a blocked, dropped or missing runtime stops nothing.
    #[default]
    Thread,
    /// On a runtime of the caller's; for deterministic tests under virtual time. A guard dropped after
    /// that runtime has ended is released by its TTL only.
    Runtime(Handle),
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            ttl: None,
            wait: Wait::Forever,
            operation_timeout: Duration::from_secs(5),
            owner: None,
            clock: Clock::system(),
            background: Background::Thread,
        }
    }
}

impl EngineOptions {
    /// Starts from the defaults: no prefix, a TTL of 30 s, waiting for ever, 5 s per request, a
    /// background thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what stands before every key in the store.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the TTL of a lock call that names none.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the wait of a lock call that names none.
    #[must_use]
    pub fn wait(mut self, wait: impl Into<Wait>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Sets how long one request to the store may take.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Sets who holds, where a lock call names no owner. It does not allow re-entry.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Sets the source of time.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where background work runs.
    #[must_use]
    pub fn background(mut self, background: Background) -> Self {
        self.background = background;
        self
    }
}
