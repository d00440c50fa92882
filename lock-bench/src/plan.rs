//! How much is measured, and for how long.

use std::time::Duration;

use serde::Serialize;

use crate::args::Arguments;

/// The sizes of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// How long one round of one lane lasts.
    pub(crate) round: Duration,
    /// How many rounds count.
    pub(crate) rounds: usize,
    /// Which rows are measured; all if none is named.
    pub(crate) only: Vec<usize>,
    /// The TTL of locks, but for those that are held in great number.
    pub(crate) ttl: Duration,
    /// How many locks are held at once.
    pub(crate) locks: usize,
    /// Their TTL; a third of it is a cycle of renewals.
    pub(crate) locks_ttl: Duration,
    /// How many of these cycles are measured.
    pub(crate) cycles: u32,
    /// How many contend for one key.
    pub(crate) crowds: Vec<usize>,
    /// How long they have done so before it counts.
    pub(crate) warm: Duration,
    /// How many wait while idle waiting is measured.
    pub(crate) idle: usize,
    /// How long they have waited before, so that nobody looks as often as at the start, and then do.
    pub(crate) calm: Duration,
}

impl Plan {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let plan = if arguments.quick { Self::quick() } else { Self::full() };
        Self {
            round: arguments.seconds.unwrap_or(plan.round),
            rounds: arguments.rounds.map_or(plan.rounds, usize::from),
            only: arguments.size.clone(),
            ..plan
        }
    }

    fn full() -> Self {
        Self {
            round: Duration::from_millis(400),
            rounds: 3,
            only: Vec::new(),
            ttl: Duration::from_secs(30),
            locks: 10_000,
            locks_ttl: Duration::from_secs(6),
            cycles: 2,
            crowds: vec![10, 64, 1_000],
            warm: Duration::from_millis(300),
            idle: 50,
            calm: Duration::from_millis(1_500),
        }
    }

    fn quick() -> Self {
        Self {
            round: Duration::from_millis(200),
            rounds: 2,
            locks: 500,
            locks_ttl: Duration::from_secs(3),
            cycles: 2,
            crowds: vec![10, 50],
            warm: Duration::from_millis(50),
            calm: Duration::from_millis(100),
            ..Self::full()
        }
    }

    /// The engine renews from a third of the TTL on, and so do we by hand what it does not.
    pub(crate) fn cycle(&self) -> Duration {
        self.locks_ttl / 3
    }
}
