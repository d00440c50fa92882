//! What came of a storm so far.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Outcome;
use crate::check;
use crate::failure::check;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;

use super::judge::Round;

/// Figures of all rounds that were good.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rounds: u64,
    length: Duration,
    /// How often each thing was done.
    done: BTreeMap<String, u64>,
    /// Grants by mode.
    grants: BTreeMap<String, u64>,
    /// Calls that waited or tried in vain, and those that failed.
    refused: u64,
    failed: u64,
    /// Losses that were told.
    lost: u64,
    /// Overlaps that were excused, by what excused them.
    excused: BTreeMap<String, u64>,
    /// What the store broke by itself.
    mended: BTreeMap<&'static str, u64>,
    longest_wait: Duration,
    /// For how long the machine let nobody run.
    stalled: Duration,
    highest: BTreeMap<String, u64>,
}

impl Tally {
    /// C2: each fence is higher than all of the rounds before.
    pub(super) fn fences_rose(&self, history: &[Record]) -> Outcome {
        for record in history.iter().filter(|record| record.fence.is_some()) {
            let before = self.highest.get(&record.key).copied();
            check!(record.fence > before, "C2: round before had {before:?}, this {record:?}");
        }
        Ok(())
    }

    /// Counts what the store broke by itself, and had to be mended.
    pub(super) fn mended(&mut self, fault: &'static str) {
        *self.mended.entry(fault).or_default() += 1;
    }

    pub(super) fn add(&mut self, round: &Round, history: &[Record]) {
        self.rounds += 1;
        self.length += round.healed.saturating_since(round.began) + round.bound;
        self.stalled += round.stalled();
        for event in &round.events {
            *self.done.entry(plain(&event.what)).or_default() += 1;
        }
        for grant in round.grants(history) {
            *self.grants.entry(grant.mode.to_string()).or_default() += 1;
            let highest = self.highest.entry(grant.key.clone()).or_default();
            *highest = grant.fence.unwrap_or_default().max(*highest);
        }
        let asked = history.iter().filter(|it| matches!(it.op, Op::Acquire | Op::Try));
        for record in asked {
            self.refused += u64::from(record.result == Done::Fail);
            self.failed += u64::from(record.result == Done::Info);
        }
        let lost = history.iter().filter(|it| it.op == Op::Look && it.lost_ns.is_some());
        self.lost += lost.count() as u64;
        for [_, _, by] in check::excused_overlaps(history) {
            let event = &round.events[by.process as usize];
            *self.excused.entry(plain(&event.what)).or_default() += 1;
        }
        let longest = history.iter().map(|record| round.waited(record)).max();
        self.longest_wait = self.longest_wait.max(longest.unwrap_or_default());
    }
}

/// Without what differs each time.
fn plain(what: &str) -> String {
    let what = what.split([' ']).filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    what.take_while(|word| !word.starts_with(['(', '{'])).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, length, grants, refused, failed, lost, longest_wait, stalled, .. } =
            self;
        writeln!(f, "{rounds} good rounds, {length:.0?} of storm and calm")?;
        writeln!(f, "  grants {grants:?}; refused {refused}, failed {failed}; {lost} losses told")?;
        writeln!(
            f,
            "  longest wait in a calm {longest_wait:.1?}; the machine stood still for {stalled:.0?}"
        )?;
        for (what, count) in &self.done {
            writeln!(f, "  {count:>5} {what}")?;
        }
        for (what, count) in &self.excused {
            writeln!(f, "  {count} overlaps excused by {what}")?;
        }
        for (what, count) in &self.mended {
            writeln!(f, "  {count} times the store was mended: {what}")?;
        }
        Ok(())
    }
}
