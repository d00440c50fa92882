//! Virtual time for tests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::BootInstant;
use super::Clock;
use super::Source;
use super::Timers;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering;

/// How often a test's runtime is given a turn after each timer, so that the tasks woken by it, and
/// the tasks woken by those, come to rest before time moves on.
const TURNS: usize = 64;

/// 2020-01-01 in microseconds: virtual wall clocks begin there.
const EPOCH_MICROS: u64 = 1_577_836_800_000_000;

/// Virtual boot time begins at a day, so that subtracting from it does not saturate.
const START_NANOS: u64 = 86_400 * 1_000_000_000;

/// The hand that moves a virtual clock.
///
/// Virtual time is deterministic on a current-thread runtime, as `#[tokio::test]` gives it, with an
/// engine that runs its background work there too ([`Background::Runtime`](crate::Background)).
#[derive(Clone)]
pub struct ManualClock(Arc<Shared>);

struct Shared {
    now: AtomicU64,
    timers: Timers,
}

impl ManualClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { now: AtomicU64::new(START_NANOS), timers: Timers::new() }))
    }

    /// Returns the clock to give to an engine or a backend.
    pub fn clock(&self) -> Clock {
        Clock(self.0.clone())
    }

    /// Moves time on by `by`, stopping at every timer on the way and letting all tasks of the
    /// current runtime come to rest there.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the clock somewhere on the way.
    pub async fn advance(&self, by: Duration) {
        settle().await;
        let target = self.0.now() + by;
        while let Some(at) = self.next_timer(target) {
            self.set(at.max(self.0.now()));
            settle().await;
        }
        self.set(target);
        settle().await;
    }

    /// Moves time on at once, as a suspended machine sees it: what was due fires late, all together.
    pub fn jump(&self, by: Duration) {
        self.set(self.0.now() + by);
    }

    fn next_timer(&self, target: BootInstant) -> Option<BootInstant> {
        let state = self.0.timers.lock();
        state.queue.first_key_value().map(|(id, _)| id.at).filter(|at| *at <= target)
    }

    fn set(&self, now: BootInstant) {
        self.0.now.store(now.as_nanos(), Ordering::SeqCst);
        for waker in self.0.timers.take_due(now).0 {
            waker.wake();
        }
    }
}

async fn settle() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

impl Source for Shared {
    fn now(&self) -> BootInstant {
        BootInstant(self.now.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        EPOCH_MICROS + (self.now().as_nanos() - START_NANOS) / 1000
    }

    fn timers(&self) -> &Timers {
        &self.timers
    }

    fn rearm(&self, _at: BootInstant) {}

    fn name(&self) -> &'static str {
        "manual"
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({:?})", self.0.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advance_stops_at_each_timer() {
        let hand = Clock::manual();
        let clock = hand.clock();
        let start = clock.now();
        let seen = tokio::spawn(async move {
            clock.sleep(Duration::from_secs(1)).await;
            let first = clock.now();
            clock.sleep(Duration::from_secs(1)).await;
            (first, clock.now())
        });
        hand.advance(Duration::from_secs(5)).await;
        let (first, second) = seen.await.unwrap();
        assert_eq!(first, start + Duration::from_secs(1));
        assert_eq!(second, start + Duration::from_secs(2));
        assert_eq!(hand.clock().now(), start + Duration::from_secs(5));
    }
}
