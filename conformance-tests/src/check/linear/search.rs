//! The search for an order.

use std::collections::HashSet;

use lock_core::Mode;

use super::calls::Call;
use super::calls::Calls;
use super::calls::Step;
use crate::check::crowd::admits;
use crate::history::Record;

/// What a search found.
pub(super) enum Verdict<'a> {
    /// There is an order.
    Ordered,
    /// There is none; this is how far the longest goes.
    Stuck { done: usize, next: Vec<&'a Record>, held: Vec<&'a Record> },
    /// The bound was reached first.
    TooHard,
}

/// How far an order has come: what is done, and who holds the key then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    /// How many calls of each lane are done.
    done: Vec<u32>,
    /// The holds, in the order of their numbers.
    held: Vec<u32>,
    /// How many holds have been granted: the next is the one with this number.
    granted: usize,
}

/// Who holds the key after a step, and from when on that may be so.
struct Outcome {
    held: Vec<u32>,
    from: u64,
}

pub(super) struct Search<'a> {
    calls: &'a Calls<'a>,
    most: usize,
    seen: HashSet<Point>,
    furthest: Point,
}

impl<'a> Search<'a> {
    pub(super) fn new(calls: &'a Calls<'a>, most: usize) -> Self {
        let furthest = Point { done: vec![0; calls.lanes.len()], held: Vec::new(), granted: 0 };
        Self { calls, most, seen: HashSet::new(), furthest }
    }

    pub(super) fn run(mut self) -> Verdict<'a> {
        let mut open = vec![self.furthest.clone()];
        while let Some(point) = open.pop() {
            if self.seen.len() >= self.most {
                return Verdict::TooHard;
            }
            if !self.seen.insert(point.clone()) {
                continue;
            }
            if self.heads(&point).next().is_none() {
                return Verdict::Ordered;
            }
            open.extend(self.following(&point));
            if point.total() >= self.furthest.total() {
                self.furthest = point;
            }
        }
        let next = self.heads(&self.furthest).map(|(_, call)| call.record).collect();
        let held = self.furthest.held.iter().map(|hold| self.calls.holds[*hold as usize].grant);
        Verdict::Stuck { done: self.furthest.total(), next, held: held.collect() }
    }

    /// The next call of each lane.
    fn heads(&self, point: &Point) -> impl Iterator<Item = (usize, &'a Call<'a>)> {
        let lanes = self.calls.lanes.iter().zip(&point.done).enumerate();
        lanes
            .filter_map(|(number, (lane, done))| Some((number, lane.get(*done as usize)?)))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The points one call further, the most promising last.
    fn following(&self, point: &Point) -> Vec<Point> {
        let mut heads: Vec<_> = self.heads(point).collect();
        heads.sort_by_key(|(_, call)| std::cmp::Reverse(call.record.return_ns));
        // A call that comes next comes before all the rest, so none of those may have returned.
        let horizon = heads.last().map_or(0, |(_, call)| call.record.return_ns);
        let mut following = Vec::new();
        for (lane, call) in heads {
            let Some(outcome) = self.outcome(point, call) else { continue };
            if outcome.from.max(call.record.invoke_ns) > horizon {
                continue;
            }
            let changes = outcome.held != point.held || call.step == Step::Clear;
            let next = point.after(lane, call.step, outcome.held);
            if !changes {
                return vec![next];
            }
            following.push(next);
        }
        following
    }

    fn outcome(&self, point: &Point, call: &Call<'_>) -> Option<Outcome> {
        let held = point.held.clone();
        let holds = |hold: usize| held.iter().any(|held| *held as usize == hold);
        match call.step {
            Step::Take(hold) if hold == point.granted => Some(self.take(held, hold)),
            Step::Leave(hold) if holds(hold) => Some(without(held, hold, 0)),
            Step::Stay(hold) if holds(hold) => Some(Outcome { held, from: 0 }),
            Step::Miss(hold) if hold >= point.granted => None,
            Step::Miss(hold) if holds(hold) => Some(without(held, hold, self.goes_from(hold))),
            Step::Miss(_) => Some(Outcome { held, from: 0 }),
            Step::Refuse if self.may_refuse(&held, call.record) => Some(Outcome { held, from: 0 }),
            Step::Clear => Some(Outcome { held: Vec::new(), from: 0 }),
            Step::Take(_) | Step::Leave(_) | Step::Stay(_) | Step::Refuse => None,
        }
    }

    /// Grants `hold` after letting go as few as have to be gone.
    fn take(&self, mut held: Vec<u32>, hold: usize) -> Outcome {
        let mode = self.calls.holds[hold].mode;
        held.sort_by_key(|held| std::cmp::Reverse(self.goes_from(*held as usize)));
        let (mut beside, mut from) = (Vec::<u32>::new(), 0);
        for other in held {
            let others = beside.iter().chain([&other]).map(|held| self.mode(*held));
            if admits(others, mode) {
                beside.push(other);
            } else {
                from = self.goes_from(other as usize).max(from);
            }
        }
        beside.push(u32::try_from(hold).unwrap_or(u32::MAX));
        beside.sort_unstable();
        Outcome { held: beside, from }
    }

    fn may_refuse(&self, held: &[u32], record: &Record) -> bool {
        let unknown = self.calls.unknown_from <= record.return_ns;
        unknown || !admits(held.iter().map(|held| self.mode(*held)), record.mode)
    }

    fn mode(&self, hold: u32) -> Mode {
        self.calls.holds[hold as usize].mode
    }

    fn goes_from(&self, hold: usize) -> u64 {
        self.calls.holds[hold].goes_from
    }
}

fn without(mut held: Vec<u32>, hold: usize, from: u64) -> Outcome {
    held.retain(|held| *held as usize != hold);
    Outcome { held, from }
}

impl Point {
    fn after(&self, lane: usize, step: Step, held: Vec<u32>) -> Self {
        let mut done = self.done.clone();
        done[lane] += 1;
        let granted = self.granted + usize::from(matches!(step, Step::Take(_)));
        Self { done, held, granted }
    }

    fn total(&self) -> usize {
        self.done.iter().map(|done| *done as usize).sum()
    }
}
