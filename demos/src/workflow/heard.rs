//! What replicas said, and what it means: which executions finished, and whether one ran twice.

use std::collections::BTreeMap;

use crate::story::Result;
use crate::story::Story;

/// What replicas said.
#[derive(Default)]
pub(super) struct Heard {
    /// How many executions were handed to replicas, those that had been before included.
    pub(super) deliveries: u64,
    begun: BTreeMap<(usize, String), u64>,
    spans: BTreeMap<String, Vec<(u64, u64)>>,
    finished: BTreeMap<String, u64>,
    outcomes: BTreeMap<String, u64>,
}

impl Heard {
    /// Takes in a line: the execution, and what became of it.
    pub(super) fn hear(&mut self, replica: usize, line: &str) {
        let mut words = line.split(' ');
        let (Some(id), Some(what)) = (words.next(), words.next()) else { return };
        let at = words.next().and_then(|word| word.parse().ok());
        match (what, at) {
            ("began", Some(at)) => drop(self.begun.insert((replica, id.to_owned()), at)),
            ("ended", Some(at)) => self.end(replica, id, at),
            ("finished", _) => *self.finished.entry(id.to_owned()).or_default() += 1,
            _ => *self.outcomes.entry(what.trim_end_matches(':').to_owned()).or_default() += 1,
        }
    }

    fn end(&mut self, replica: usize, id: &str, at: u64) {
        if let Some(begin) = self.begun.remove(&(replica, id.to_owned())) {
            self.spans.entry(id.to_owned()).or_default().push((begin, at));
        }
    }

    /// The runs of a replica that was killed ended by that.
    pub(super) fn killed(&mut self, replica: usize, at: u64) {
        let keys: Vec<_> = self.begun.keys().filter(|(it, _)| *it == replica).cloned().collect();
        keys.iter().for_each(|(replica, id)| self.end(*replica, id, at));
    }

    pub(super) fn have_finished(&self, ids: &[String]) -> bool {
        ids.iter().all(|id| self.finished.contains_key(id))
    }

    pub(super) fn judge(&self, story: &Story, executions: usize) -> Result {
        let runs: usize = self.spans.values().map(Vec::len).sum();
        let twice = self.finished.values().filter(|times| **times > 1).count();
        let overlaps: usize = self.spans.values().map(|spans| overlaps(spans)).sum();
        for (name, figure) in [
            ("deliveries", self.deliveries),
            ("runs begun", runs as u64),
            ("executions finished", self.finished.len() as u64),
            ("skipped", self.times("skipped")),
            ("stopped, lock lost", self.times("lost")),
            ("store not reached", self.times("failed")),
            ("finished twice", twice as u64),
            ("two runs at a time", overlaps as u64),
        ] {
            story.line(format!("{name:<24}{figure:>8}"));
        }
        story.check(self.finished.len() == executions, "every execution finished")?;
        story.check(twice == 0 && overlaps == 0, "none ran twice")
    }

    fn times(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }
}

/// Counts runs that began before another had ended.
fn overlaps(spans: &[(u64, u64)]) -> usize {
    let (mut spans, mut latest, mut overlaps) = (spans.to_vec(), 0, 0);
    spans.sort_unstable();
    for (begin, end) in spans {
        overlaps += usize::from(begin < latest);
        latest = latest.max(end);
    }
    overlaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[(usize, &str)]) -> String {
        let mut heard = Heard::default();
        lines.iter().for_each(|(replica, line)| heard.hear(*replica, line));
        let judged = heard.judge(&Story::begin("heard"), 1);
        judged.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_execution_that_was_stopped_may_run_again() {
        let stopped =
            [(1, "a began 5 1"), (1, "a ended 6"), (1, "a lost: it"), (2, "a skipped: b")];
        let again = [(2, "a began 7 2"), (2, "a ended 9"), (2, "a finished")];
        assert_eq!(judged(&[&stopped[..], &again].concat()), "");
        assert!(judged(&stopped).ends_with("every execution finished"));
    }

    #[test]
    fn two_runs_at_a_time_and_two_ends_are_found() {
        let one = [(1, "a began 5 1"), (1, "a ended 8"), (1, "a finished")];
        let overlapping = [(2, "a began 7 2"), (2, "a ended 9"), (2, "a lost: it")];
        assert!(judged(&[&one[..], &overlapping].concat()).ends_with("none ran twice"));
        assert!(judged(&[&one[..], &[(2, "a finished")]].concat()).ends_with("none ran twice"));
    }

    #[test]
    fn who_was_killed_runs_no_longer() {
        let mut heard = Heard::default();
        heard.hear(1, "a began 5 1");
        heard.killed(1, 6);
        assert_eq!(heard.spans["a"], [(5, 6)]);
    }
}
