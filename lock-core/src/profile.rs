//! What a backend can do, as data: for the engine, for errors, for documentation and for the suite.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::BootInstant;
use crate::Error;
use crate::ErrorKind;
use crate::Lease;
use crate::LockKey;
use crate::Mode;
use crate::Result;

/// The facts about a backend.
///
/// Build it from [`Profile::new`] and set what differs. The defaults describe the plainest store:
/// a lease per lock, a clocked fence, exclusive mode only, no queue, waiting by polling.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// The backend's name in errors, metrics and documentation.
    pub name: &'static str,
    /// What ends a lock whose holder is gone.
    pub lease: LeaseKind,
    /// Where fences come from.
    pub fence: FenceKind,
    /// The smallest TTL the store can grant; a smaller one is raised and the guard says so.
    pub ttl_min: Duration,
    /// The largest TTL the store can keep.
    pub ttl_max: Duration,
    /// What has to be left of a lease for an acquisition to count; a TTL that cannot leave it is refused.
    pub min_validity: Duration,
    /// How much earlier than promised the store may end a lease, by rounding.
    pub granularity: Duration,
    /// Whether a store's line is kept for every waiter anyway, so that order is always exact.
    pub native_queue: bool,
    /// Whether a waiter can take a place in the store's line (`fair`).
    pub fair: bool,
    /// Whether readers can share a lock. Readers that keep coming must not starve a writer, which takes a line
    /// ([`fair`](Self::fair)).
    pub shared: bool,
    /// Whether a lock can have several permits.
    pub permits: bool,
    /// How a waiter learns of a release.
    pub wakeup: Wakeup,
    /// Whether [`watch`](crate::Backend::watch) also tells the holder of an eviction.
    pub watches_holders: bool,
    /// The longest a waiter may go without looking, and how it gets there.
    pub poll: PollPlan,
    /// How many claims one [`keep`](crate::Backend::keep) or [`peek`](crate::Backend::peek) takes.
    pub batch: usize,
    /// Refuses the keys that this store cannot keep apart.
    pub key_rule: KeyRule,
}

impl Profile {
    /// Describes the plainest store under `name`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            lease: LeaseKind::PerLock,
            fence: FenceKind::Clocked,
            ttl_min: Duration::from_millis(10),
            ttl_max: Duration::from_secs(365 * 86_400),
            min_validity: Duration::ZERO,
            granularity: Duration::ZERO,
            native_queue: false,
            fair: false,
            shared: false,
            permits: false,
            wakeup: Wakeup::Poll,
            watches_holders: false,
            poll: PollPlan::default(),
            batch: 500,
            key_rule: KeyRule::new(|_| Ok(())),
        }
    }

    /// Checks that a lease of `ttl` can be worth acquiring.
    pub(crate) fn check_validity(&self, ttl: Duration) -> Result<()> {
        let begin = BootInstant::from_nanos(0);
        let best =
            Lease { since: begin, ttl }.valid_until(self.granularity).saturating_since(begin);
        if best >= self.min_validity {
            return Ok(());
        }
        let message = format!(
            "a TTL of {ttl:?} leaves {best:?} at the best and min_validity wants {:?}: make one \
             longer or the other shorter",
            self.min_validity
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// Checks that the backend has `mode`.
    ///
    /// # Errors
    ///
    /// `Unsupported`, naming mode and backend.
    pub fn check_mode(&self, mode: Mode) -> Result<()> {
        let able = match mode {
            Mode::Exclusive => true,
            Mode::Shared => self.shared,
            Mode::Permits { .. } => self.permits,
        };
        if able {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("mode {mode} is not supported by backend {}", self.name),
        ))
    }
}

/// Says which keys a store can keep apart. Cloning is cheap.
#[derive(Clone)]
pub struct KeyRule(Arc<Rule>);

type Rule = dyn Fn(&LockKey) -> Result<()> + Send + Sync;

impl KeyRule {
    /// Makes a rule of `refuse`, which returns `InvalidInput` for the keys that the store cannot have.
    pub fn new(refuse: impl Fn(&LockKey) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(refuse))
    }

    /// Checks one key.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the store cannot keep it apart from others.
    pub fn check(&self, key: &LockKey) -> Result<()> {
        (self.0)(key)
    }
}

impl fmt::Debug for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRule")
    }
}

/// What ends a lock whose holder is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseKind {
    /// Each lock has a TTL of its own in the store.
    PerLock,
    /// All locks of a client hang on one lease or session in the store and die together; the TTL of
    /// one lock is kept by the engine.
    Session,
}

/// Where fences come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FenceKind {
    /// `max(last + 1, store clock in µs)`: rises also when the store forgot the last one.
    Clocked,
    /// The store's own order by consensus: small numbers.
    Native,
}

/// How a waiter learns of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wakeup {
    /// The store or the operating system tells; polling is only the guarantee behind it.
    Push,
    /// Only by looking. Waiters of one client hand a key on among themselves: if the store answers in
    /// microseconds, those of another, who look every few milliseconds, may go without it for long.
    Poll,
}

/// How often waiters are looked after when no hint comes: every `first` during a wait's first
/// `eager`, then doubling up to `max`. Where looking is the only way to learn of a release, a waiter that
/// sees that somebody else got the key begins anew: it has to be as quick as those who have just come.
///
/// One batched look serves all waiters of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "backends build it; a plan is these three figures")]
pub struct PollPlan {
    /// The interval at the start of a wait.
    pub first: Duration,
    /// How long the interval stays so, from the beginning or from the last time that others got the key.
    pub eager: Duration,
    /// The longest interval.
    pub max: Duration,
}

impl Default for PollPlan {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(5),
            eager: Duration::from_secs(1),
            max: Duration::from_millis(100),
        }
    }
}

impl PollPlan {
    /// Returns the pause after a wait of `waited`, given the pause before.
    pub(crate) fn pause(&self, waited: Duration, last: Option<Duration>) -> Duration {
        match last {
            Some(last) if waited >= self.eager => (last * 2).clamp(self.first, self.max),
            _ => self.first.min(self.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_eagerly_first_and_then_backs_off() {
        let plan = PollPlan::default();
        let ms = Duration::from_millis;
        assert_eq!(plan.pause(ms(0), None), ms(5));
        assert_eq!(plan.pause(ms(900), Some(ms(5))), ms(5));
        assert_eq!(plan.pause(ms(1000), Some(ms(5))), ms(10));
        assert_eq!(plan.pause(ms(5000), Some(ms(80))), ms(100));
    }

    #[test]
    fn an_unsupported_mode_names_mode_and_backend() {
        let error = Profile::new("plain").check_mode(Mode::Shared).unwrap_err();
        assert_eq!(error.to_string(), "mode shared is not supported by backend plain");
    }
}
