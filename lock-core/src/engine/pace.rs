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

/// The patience of one call, for all of its keys together.
pub(crate) struct Pace {
    deadline: BootInstant,
    waits: bool,
    /// Whether a key was found held.
    met_holders: bool,
    /// The delays of `Wait::Attempts`, which replace polling, and which failures use up too.
    attempts: Option<Delays>,
    /// The delays after failures, from the first one on.
    failures: Option<Delays>,
    /// How many failed requests are repeated before the store has answered.
    retries: usize,
    /// From when on a failed request is not repeated.
    retries_until: BootInstant,
}

impl Pace {
    /// `patience` is how long a call that is not to wait may go on repeating failed requests.
    pub(crate) fn new(wait: &Wait, now: BootInstant, patience: Duration) -> Self {
        let mut pace = Self {
            deadline: BootInstant::FAR,
            waits: true,
            met_holders: false,
            attempts: None,
            failures: None,
            retries: usize::MAX,
            retries_until: BootInstant::FAR,
        };
        match wait {
            // No time at all would not even do for the answer to one attempt.
            Wait::Never | Wait::For(Duration::ZERO) => {
                pace.waits = false;
                pace.retries = PATIENCE;
                pace.retries_until = now + patience;
            }
            Wait::For(limit) => {
                pace.deadline = now + *limit;
                pace.retries_until = pace.deadline;
            }
            Wait::Forever => {}
            Wait::Attempts { max, backoff } => {
                let pauses = usize::try_from(max.saturating_sub(1)).unwrap_or(usize::MAX);
                pace.waits = pauses > 0;
                pace.attempts = Some(Box::new(backoff.delays().take(pauses)));
            }
        }
        pace
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
        let delays = match &mut self.attempts {
            Some(attempts) => attempts,
            None => {
                let begin = || -> Delays { Box::new(FAILURE.delays().take(self.retries)) };
                self.failures.get_or_insert_with(begin)
            }
        };
        let at = now + delays.next()?;
        (at < self.retries_until).then_some(at)
    }

    /// Whether time went by in waiting for others, and not for the store alone.
    pub(crate) fn has_met_holders(&self) -> bool {
        self.met_holders
    }

    /// Notes that the store has answered that others hold: the next failure is a first one again.
    pub(crate) fn answered(&mut self) {
        self.met_holders = true;
        if self.waits {
            self.failures = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootInstant = BootInstant::from_nanos(1_000_000_000_000);
    const PATIENT: Duration = Duration::from_secs(5);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_call_that_is_not_to_wait_repeats_failures_twice() {
        let mut pace = Pace::new(&Wait::Never, NOW, PATIENT);
        assert!(!pace.waits());
        assert!(pace.next_retry(NOW).is_some());
        assert!(pace.next_retry(NOW).is_some());
        assert!(pace.next_retry(NOW).is_none());
    }

    #[test]
    fn counted_attempts_use_their_delays_and_end() {
        let backoff = Backoff::fixed(ms(200));
        let mut pace = Pace::new(&Wait::Attempts { max: 3, backoff }, NOW, PATIENT);
        assert_eq!(pace.next_attempt(NOW), Some(NOW + ms(200)));
        assert_eq!(pace.next_attempt(NOW), Some(NOW + ms(200)));
        assert_eq!(pace.next_attempt(NOW), None);
        assert!(!Pace::new(&Wait::Attempts { max: 1, backoff }, NOW, PATIENT).waits());
    }

    #[test]
    fn a_timed_wait_ends_at_its_deadline() {
        let mut pace = Pace::new(&Wait::For(ms(300)), NOW, PATIENT);
        assert_eq!(pace.next_attempt(NOW + ms(299)), Some(NOW + ms(300)));
        assert_eq!(pace.next_attempt(NOW + ms(300)), None);
        assert!(pace.next_retry(NOW + ms(290)).is_none());
    }

    #[test]
    fn a_call_that_is_not_to_wait_does_not_repeat_a_request_that_hung() {
        let mut pace = Pace::new(&Wait::Never, NOW, PATIENT);
        assert!(pace.next_retry(NOW + PATIENT).is_none());
    }

    #[test]
    fn failures_use_up_counted_attempts() {
        let backoff = Backoff::fixed(ms(200));
        let mut pace = Pace::new(&Wait::Attempts { max: 3, backoff }, NOW, PATIENT);
        assert_eq!(pace.next_retry(NOW), Some(NOW + ms(200)));
        assert_eq!(pace.next_attempt(NOW), Some(NOW + ms(200)));
        assert_eq!(pace.next_retry(NOW), None);
    }

    #[test]
    fn an_answer_makes_the_next_failure_a_first_one() {
        let mut pace = Pace::new(&Wait::Forever, NOW, PATIENT);
        for _ in 0..10 {
            pace.next_retry(NOW);
        }
        pace.answered();
        assert!(pace.next_retry(NOW).is_some_and(|at| at <= NOW + ms(100)));
    }
}
