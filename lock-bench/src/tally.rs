//! What one task did in one round.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;
use serde::Serialize;

use crate::failure::Failure;
use crate::usage::since_boot;

/// The longest time that is told from longer ones.
const LONGEST_NANOS: u64 = 600_000_000_000;

/// Two digits tell a hundredth from the next, which is finer than any of this repeats.
const DIGITS: u8 = 2;

/// How many grants of a task are told one by one.
const TURNS: usize = 100;

/// Counts and times while a task runs.
pub(crate) struct Tape {
    turns: Vec<(Duration, Duration)>,
    times: Histogram<u64>,
    longest: Duration,
    errors: u64,
    error: Option<String>,
}

/// What a task did, as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
    pub(crate) longest: Duration,
    /// From when until when each of the first grants was waited for, by the boot clock.
    pub(crate) turns: Vec<(Duration, Duration)>,
    /// Nanoseconds and how often.
    times: Vec<(u64, u64)>,
}

impl Tape {
    pub(crate) fn new() -> Self {
        let (times, turns, longest) = (empty(), Vec::new(), Duration::ZERO);
        Self { turns, times, longest, errors: 0, error: None }
    }

    /// Notes how long something took.
    pub(crate) fn took(&mut self, time: Duration) {
        self.times.saturating_record(nanos(time));
        self.saw(time);
    }

    /// Notes how long a grant that came just now was waited for.
    pub(crate) fn granted(&mut self, time: Duration) {
        self.took(time);
        if self.turns.len() < TURNS {
            let now = since_boot();
            self.turns.push((now.saturating_sub(time), now));
        }
    }

    /// Notes a time that may be the longest without counting it.
    pub(crate) fn saw(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        self.errors += 1;
        self.error.get_or_insert_with(|| failure.to_string());
    }

    pub(crate) fn tally(self) -> Tally {
        let recorded = self.times.iter_recorded();
        Tally {
            count: self.times.len(),
            errors: self.errors,
            error: self.error,
            longest: self.longest,
            turns: self.turns,
            times: recorded.map(|it| (it.value_iterated_to(), it.count_at_value())).collect(),
        }
    }
}

impl Tally {
    /// Puts several together.
    pub(crate) fn sum<'a>(tallies: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for tally in tallies {
            sum.count += tally.count;
            sum.errors += tally.errors;
            sum.error = sum.error.or_else(|| tally.error.clone());
            sum.longest = sum.longest.max(tally.longest);
            sum.turns.extend(&tally.turns);
            sum.times.extend(&tally.times);
        }
        sum
    }

    /// Returns the time that this share of all took at most; nothing if there were none.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut all = empty();
        for (nanos, times) in &self.times {
            all.saturating_record_n(*nanos, *times);
        }
        (self.count > 0).then(|| Duration::from_nanos(all.value_at_quantile(share)))
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, DIGITS).expect("the bounds and digits are legal")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_of_several_tasks_is_that_of_all_their_times() {
        let mut tapes = [Tape::new(), Tape::new()];
        (1..=50).for_each(|ms| tapes[0].took(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| tapes[1].took(Duration::from_millis(ms)));
        let all = Tally::sum(&tapes.map(Tape::tally));
        let median = all.quantile(0.5).unwrap().as_millis();
        assert!((49..=51).contains(&median), "{median}");
        let high = all.quantile(0.99).unwrap().as_millis();
        assert!((98..=100).contains(&high), "{high}");
        assert_eq!((all.count, all.longest), (100, Duration::from_millis(100)));
    }

    #[test]
    fn errors_are_counted_and_the_first_is_kept() {
        let mut tape = Tape::new();
        tape.failed(Failure::new("one"));
        tape.failed(Failure::new("two"));
        let tally = Tally::sum(&[Tally::default(), tape.tally()]);
        assert_eq!((tally.errors, tally.error.as_deref(), tally.count), (2, Some("one"), 0));
        assert_eq!(tally.quantile(0.5), None);
    }
}
