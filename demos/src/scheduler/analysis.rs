//! What instances printed, and what it says: how often each tick ran, and whether two runs were under way at a time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;

use super::instance::PERIOD;

/// What became of the ticks of one job.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// How often each tick ran, on whichever instance.
    runs: BTreeMap<u64, u64>,
    /// When runs began and ended, and the instances that had them.
    begun: BTreeMap<(usize, u64), u64>,
    spans: Vec<(u64, u64)>,
    /// How often each other outcome came.
    outcomes: BTreeMap<String, u64>,
}

impl Tally {
    /// Takes in a line about this job: the tick, and what became of it.
    pub(super) fn hear(&mut self, instance: usize, line: &str) {
        let mut words = line.split(' ');
        let Some(tick) = words.next().and_then(|word| word.parse().ok()) else { return };
        let what = words.next().unwrap_or_default();
        let at = words.next().and_then(|word| word.parse().ok());
        match (what, at) {
            ("began", Some(at)) => {
                *self.runs.entry(tick).or_default() += 1;
                self.begun.insert((instance, tick), at);
            }
            ("ended", Some(at)) => {
                self.spans.extend(self.begun.remove(&(instance, tick)).map(|begin| (begin, at)));
            }
            _ => *self.outcomes.entry(what.trim_end_matches(':').to_owned()).or_default() += 1,
        }
    }

    /// The runs of an instance that was killed ended by that; returns how many there were.
    pub(super) fn killed(&mut self, instance: usize, at: u64) -> usize {
        let cut: BTreeSet<_> =
            self.begun.keys().filter(|(it, _)| *it == instance).copied().collect();
        for key in &cut {
            self.spans.extend(self.begun.remove(key).map(|begin| (begin, at)));
        }
        cut.len()
    }

    /// An instance that runs the job now.
    pub(super) fn at_work(&self) -> Option<usize> {
        self.begun.keys().next().map(|(instance, _)| *instance)
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs.values().sum()
    }

    /// Ticks that ran more than once.
    pub(super) fn doubles(&self) -> usize {
        self.runs.values().filter(|runs| **runs > 1).count()
    }

    /// Those of `ticks` that did not run.
    pub(super) fn missed(&self, ticks: Range<u64>) -> usize {
        let ticks = ticks.step_by(usize::try_from(PERIOD).unwrap_or(1));
        ticks.filter(|tick| !self.runs.contains_key(tick)).count()
    }

    /// Runs that began before another one had ended.
    pub(super) fn overlaps(&self) -> usize {
        let mut spans = self.spans.clone();
        spans.sort_unstable();
        let mut latest = 0;
        let mut overlaps = 0;
        for (begin, end) in spans {
            overlaps += usize::from(begin < latest);
            latest = latest.max(end);
        }
        overlaps
    }

    pub(super) fn times(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[(usize, &str)]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|(instance, line)| tally.hear(*instance, line));
        tally
    }

    #[test]
    fn each_tick_once_is_as_it_should_be() {
        let good = tally(&[
            (0, "100 began 5 7"),
            (1, "100 skipped: by another"),
            (0, "100 ended 6"),
            (0, "100 ran"),
            (1, "102 began 7 8"),
            (1, "102 ended 8"),
        ]);
        assert_eq!((good.runs(), good.doubles(), good.overlaps()), (2, 0, 0));
        assert_eq!((good.missed(100..104), good.missed(100..106)), (0, 1));
        assert_eq!((good.times("skipped"), good.times("ran")), (1, 1));
    }

    #[test]
    fn a_double_run_and_an_overlap_are_found() {
        let double = tally(&[
            (0, "100 began 5 7"),
            (0, "100 ended 6"),
            (1, "100 began 7 8"),
            (1, "100 ended 9"),
        ]);
        assert_eq!((double.doubles(), double.overlaps()), (1, 0));
        let overlap = tally(&[
            (0, "100 began 5 7"),
            (1, "102 began 7 8"),
            (0, "100 ended 8"),
            (1, "102 ended 9"),
        ]);
        assert_eq!((overlap.doubles(), overlap.overlaps()), (0, 1));
    }

    #[test]
    fn who_was_killed_runs_no_longer() {
        let mut killed = tally(&[(0, "100 began 5 7")]);
        assert_eq!(killed.killed(0, 9), 1);
        killed.hear(1, "102 began 10 8");
        killed.hear(1, "102 ended 11");
        assert_eq!(killed.overlaps(), 0);
    }
}
