//! What a caller asks of one lock call.

use std::time::Duration;

use backon::BackoffBuilder as _;

use crate::Mode;
use crate::Observer;
use crate::Waiting;

/// What a caller asks of one lock call. The default is the safe choice; each option has one setter.
///
/// ```
/// use std::time::Duration;
/// use lock_core::LockOptions;
///
/// let options = LockOptions::new().ttl(Duration::from_secs(10)).wait(Duration::from_secs(5));
/// # assert_eq!(options.ttl, Some(Duration::from_secs(10)));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LockOptions {
    /// How long the store keeps the lock without hearing from us; the provider's default if `None`.
    pub ttl: Option<Duration>,
    /// How to wait while others hold it; the provider's default if `None`.
    pub wait: Option<Wait>,
    /// How to exclude others.
    pub mode: Mode,
    /// Whether waiters of all processes are served in the order in which they came.
    pub fair: bool,
    /// Who asks. An explicit owner may re-enter what it holds within the same provider.
    pub owner: Option<String>,
    /// How long before the deadline [`at_risk`](crate::Hold::at_risk) fires; a fifth of the TTL if
    /// `None`.
    pub grace: Option<Duration>,
    /// How long the lock stays taken at least, even if it is released earlier.
    pub min_hold: Duration,
    /// After how long renewing stops although the guard lives; never if `None`.
    pub max_hold: Option<Duration>,
    /// Whether the engine renews the lock until it is released.
    pub renew: Renew,
    /// Who is told what the call learns while it waits.
    pub observer: Option<Observer>,
}

impl LockOptions {
    /// Starts from the defaults: the provider's TTL and wait, exclusive, renewed until released.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the store keeps the lock if it hears nothing more from us.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets how to wait; a [`Duration`] means [`Wait::For`].
    #[must_use]
    pub fn wait(mut self, wait: impl Into<Wait>) -> Self {
        self.wait = Some(wait.into());
        self
    }

    /// Sets how to exclude others.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Asks for exact first-come order among the waiters of all processes.
    #[must_use]
    pub fn fair(mut self) -> Self {
        self.fair = true;
        self
    }

    /// Names the owner, who may then re-enter.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Sets how long before the deadline the hold is reported at risk.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Keeps the lock taken for at least this long after it was acquired, against clock skew between
    /// the replicas of a scheduler.
    #[must_use]
    pub fn min_hold(mut self, min_hold: Duration) -> Self {
        self.min_hold = min_hold;
        self
    }

    /// Stops renewing after this long, for guards that may be forgotten.
    #[must_use]
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// Lets the lock end at its TTL instead of renewing it.
    #[must_use]
    pub fn without_renewal(mut self) -> Self {
        self.renew = Renew::Never;
        self
    }

    /// Tells `observer` what the call learns while it waits: who holds, the place in line, failed
    /// attempts. It must not block, and no request is made for its sake.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(Waiting) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer::new(observer));
        self
    }
}

/// Whether the engine renews a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renew {
    /// From a third of its TTL on, until it is released or `max_hold` is over.
    #[default]
    UntilReleased,
    /// Never; it ends at its TTL.
    Never,
}

/// How to wait for a lock that others hold.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Wait {
    /// Not at all.
    Never,
    /// For so long at the most.
    For(Duration),
    /// Until it is free.
    Forever,
    /// For a number of attempts with delays between them. A release that is noticed earlier is used
    /// at once and does not count.
    Attempts {
        /// How many attempts, the first one included.
        max: u32,
        /// The delays between them.
        backoff: Backoff,
    },
}

impl From<Duration> for Wait {
    fn from(duration: Duration) -> Self {
        if duration.is_zero() { Self::Never } else { Self::For(duration) }
    }
}

/// Delays between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// What each delay is multiplied with for the next.
    pub factor: f32,
    /// The longest delay.
    pub max: Duration,
    /// Whether each is lengthened by a random part, to its double at the most, so that many waiters spread out.
    pub jitter: bool,
}

impl Backoff {
    /// The same delay each time.
    pub const fn fixed(delay: Duration) -> Self {
        Self { first: delay, factor: 1.0, max: delay, jitter: false }
    }

    /// `first`, twice that, four times that … up to `max`.
    pub const fn exponential(first: Duration, max: Duration) -> Self {
        Self { first, factor: 2.0, max, jitter: false }
    }

    /// Lengthens each by a random part, to its double at the most.
    #[must_use]
    pub const fn jittered(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Returns the delays, without end.
    pub(crate) fn delays(&self) -> backon::ExponentialBackoff {
        let builder = backon::ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_factor(self.factor.max(1.0))
            .with_max_delay(self.max.max(self.first))
            .without_max_times();
        let builder = if self.jitter { builder.with_jitter() } else { builder };
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn exponential_delays_double_up_to_the_cap() {
        let delays = Backoff::exponential(ms(100), ms(500)).delays().take(4);
        let millis: Vec<_> = delays.map(|delay| delay.as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 500]);
    }

    #[test]
    fn fixed_delays_stay() {
        let delays: Vec<_> = Backoff::fixed(ms(200)).delays().take(3).collect();
        assert_eq!(delays, [ms(200); 3]);
    }

    #[test]
    fn jitter_adds_up_to_the_delay_itself() {
        let plain = Backoff::exponential(ms(100), ms(800));
        for (with, without) in plain.jittered().delays().zip(plain.delays()).take(10) {
            assert!((without..=without * 2).contains(&with), "{with:?} for {without:?}");
        }
    }

    #[test]
    fn waiting_for_nothing_is_never() {
        assert_eq!(Wait::from(Duration::ZERO), Wait::Never);
    }
}
