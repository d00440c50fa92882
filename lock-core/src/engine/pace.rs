//! How long one lock call waits, and how it spaces its attempts: pure.

use std::time::Duration;

use crate::Backoff;
use crate::BootInstant;
use crate::Wait;

/// Between two tries after a failure of the store: 50 ms, 100 ms … up to 1 s, spread out.
const FAILURE: Backoff =
    Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jittered();

/// How often a call that is not to wait repeats a failed request.
const PATIENCE: usize = 2;

type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// The patience of one lock call.
pub(crate) struct Pace {
    deadline: BootInstant,
    waits: bool,
    /// The delays of `Wait::Attempts`, which replace polling.
    attempts: Option<Delays>,
    failures: Delays,
}

impl Pace {
    pub(crate) fn new(wait: &Wait, now: BootInstant) -> Self {
        let endless = || -> Delays { Box::new(FAILURE.delays()) };
        let (deadline, waits, attempts, failures) = match wait {
            Wait::Never => {
                let few = Box::new(FAILURE.delays().take(PATIENCE));
                (BootInstant::FAR, false, None, few as Delays)
            }
            Wait::For(limit) => (now + *limit, true, None, endless()),
            Wait::Forever => (BootInstant::FAR, true, None, endless()),
            Wait::Attempts { max, backoff } => {
                let pauses = usize::try_from(max.saturating_sub(1)).unwrap_or(usize::MAX);
                let delays =
                    |backoff: &Backoff| -> Delays { Box::new(backoff.delays().take(pauses)) };
                (BootInstant::FAR, pauses > 0, Some(delays(backoff)), delays(backoff))
            }
        };
        Self { deadline, waits, attempts, failures }
    }

    pub(crate) fn deadline(&self) -> BootInstant {
        self.deadline
    }

    /// Whether contention is worth waiting for.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Until when to wait before the next attempt at a held lock; `None` once attempts are used up.
    /// Without counted attempts that is the deadline: hints and polls come earlier.
    pub(crate) fn next_attempt(&mut self, now: BootInstant) -> Option<BootInstant> {
        match &mut self.attempts {
            Some(delays) => delays.next().map(|delay| now + delay),
            None => (self.deadline > now).then_some(self.deadline),
        }
    }

    /// Whether attempts are counted, so that looking in between would not be what was asked for.
    pub(crate) fn counts(&self) -> bool {
        self.attempts.is_some()
    }

    /// Until when to wait before a failed request is repeated; `None` when it is not.
    pub(crate) fn next_retry(&mut self, now: BootInstant) -> Option<BootInstant> {
        let at = now + self.failures.next()?;
        (at < self.deadline).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootInstant = BootInstant::from_nanos(1_000_000_000_000);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_call_that_is_not_to_wait_repeats_failures_twice() {
        let mut pace = Pace::new(&Wait::Never, NOW);
        assert!(!pace.waits());
        assert!(pace.next_retry(NOW).is_some());
        assert!(pace.next_retry(NOW).is_some());
        assert!(pace.next_retry(NOW).is_none());
    }

    #[test]
    fn counted_attempts_use_their_delays_and_end() {
        let backoff = Backoff::fixed(ms(200));
        let mut pace = Pace::new(&Wait::Attempts { max: 3, backoff }, NOW);
        assert_eq!(pace.next_attempt(NOW), Some(NOW + ms(200)));
        assert_eq!(pace.next_attempt(NOW), Some(NOW + ms(200)));
        assert_eq!(pace.next_attempt(NOW), None);
        assert!(!Pace::new(&Wait::Attempts { max: 1, backoff }, NOW).waits());
    }

    #[test]
    fn a_timed_wait_ends_at_its_deadline() {
        let mut pace = Pace::new(&Wait::For(ms(300)), NOW);
        assert_eq!(pace.next_attempt(NOW + ms(299)), Some(NOW + ms(300)));
        assert_eq!(pace.next_attempt(NOW + ms(300)), None);
        assert!(pace.next_retry(NOW + ms(290)).is_none());
    }
}
