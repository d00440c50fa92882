//! What a store has promised, and how long a holder may believe it.
//!
//! All arithmetic of validity is here, pure: the engine passes in the time.

use std::time::Duration;

use crate::BootInstant;

/// The lease a store really runs for a lock.
///
/// `since` is taken before the request was sent that last started or renewed *this* lease, so the
/// store cannot end it before `since + ttl` by its own clock. A shared lease or a session returns the
/// send time of the last acknowledged keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "backends build it; it has these two facts only")]
pub struct Lease {
    /// When the request left.
    pub since: BootInstant,
    /// How long the store granted.
    pub ttl: Duration,
}

impl Lease {
    /// Returns the instant from which a holder must not rely on the lease any more.
    ///
    /// It is `since + ttl`, less the drift that two clocks may gather in that time, less the
    /// granularity with which the store ends leases early.
    pub fn valid_until(&self, granularity: Duration) -> BootInstant {
        self.since + self.ttl.saturating_sub(drift(self.ttl)).saturating_sub(granularity)
    }

    /// Returns when the lease should be kept: after a third of its time, which leaves two more
    /// attempts before it ends.
    pub(crate) fn keep_at(&self) -> BootInstant {
        self.since + self.ttl / 3
    }
}

/// Returns how far two clocks may come apart over `ttl`: 1 % and 2 ms, as in the Redlock algorithm
/// (redis.io, "Distributed Locks with Redis").
pub fn drift(ttl: Duration) -> Duration {
    ttl / 100 + Duration::from_millis(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_counts_from_the_send_and_leaves_drift_and_granularity() {
        let since = BootInstant::from_nanos(5_000_000_000);
        let lease = Lease { since, ttl: Duration::from_secs(10) };
        assert_eq!(lease.valid_until(Duration::ZERO), since + Duration::from_millis(9_898));
        assert_eq!(lease.valid_until(Duration::from_secs(1)), since + Duration::from_millis(8_898));
    }

    #[test]
    fn a_tiny_lease_is_never_valid_before_it_began() {
        let since = BootInstant::from_nanos(1);
        let lease = Lease { since, ttl: Duration::from_millis(1) };
        assert_eq!(lease.valid_until(Duration::ZERO), since);
    }
}
