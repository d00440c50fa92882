//! How a combination of stores is set up.

use std::time::Duration;

use crate::Background;
use crate::Clock;

/// How a [`Quorum`](crate::Quorum) or a [`Dual`](crate::Dual) is set up; each setting has one setter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuorumOptions {
    /// The name in errors, metrics and documentation; `quorum` or `dual` if `None`.
    pub name: Option<&'static str>,
    /// How long a round waits for a member that does not answer. If `None`, 100 ms (2 s for a
    /// [`Dual`](crate::Dual), which cannot do without either), but never more than a fifth of the TTL.
    pub budget: Option<Duration>,
    /// What has to be left of a lease for an acquisition to count; a fifth of the TTL if `None`, for a
    /// guard would be at risk at once with less.
    pub min_validity: Option<Duration>,
    /// The longest TTL of a lock. A member of a quorum that forgets when it restarts is out for so long
    /// after each start.
    pub ttl_max: Duration,
    /// The source of time.
    pub clock: Clock,
    /// Where late answers are awaited and releases repeated.
    pub background: Background,
}

impl Default for QuorumOptions {
    fn default() -> Self {
        Self {
            name: None,
            budget: None,
            min_validity: None,
            ttl_max: Duration::from_secs(60),
            clock: Clock::system(),
            background: Background::Thread,
        }
    }
}

impl QuorumOptions {
    /// Starts from the defaults; the longest TTL is a minute.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name in errors, metrics and documentation.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// Sets how long a round waits for a member that does not answer: a small part of the TTL.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets what has to be left of a lease for an acquisition to count.
    #[must_use]
    pub fn min_validity(mut self, least: Duration) -> Self {
        self.min_validity = Some(least);
        self
    }

    /// Sets the longest TTL of a lock, and with it how long a restarted member is out.
    #[must_use]
    pub fn ttl_max(mut self, longest: Duration) -> Self {
        self.ttl_max = longest;
        self
    }

    /// Sets the source of time.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where late answers are awaited and releases repeated.
    #[must_use]
    pub fn background(mut self, background: Background) -> Self {
        self.background = background;
        self
    }
}
