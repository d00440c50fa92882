//! A recorded history of one key as calls to be put in order.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use lock_core::Mode;

use super::Refusals;
use crate::check::Checked;
use crate::check::Violation;
use crate::check::forgotten::Forgotten;
use crate::check::wrong;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;

/// What a call did at its instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was granted this hold.
    Take(usize),
    /// It released this hold, which was there.
    Leave(usize),
    /// It found this hold there.
    Stay(usize),
    /// It found this hold gone.
    Miss(usize),
    /// It was refused.
    Refuse,
    /// It took the lock from all.
    Clear,
}

/// One call that certainly took effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) step: Step,
    pub(super) record: &'a Record,
}

/// One acquisition; holds are numbered in the order of their fences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold<'a> {
    pub(super) mode: Mode,
    pub(super) grant: &'a Record,
    /// From when on it may be gone although nobody released it for certain.
    pub(super) goes_from: u64,
    /// Whether the store may have forgotten it.
    forgotten: bool,
}

/// The calls on one key.
#[derive(Debug)]
pub(super) struct Calls<'a> {
    pub(super) holds: Vec<Hold<'a>>,
    /// Calls that follow each other without overlap, as those of one process do.
    pub(super) lanes: Vec<Vec<Call<'a>>>,
    /// From when on somebody may hold the key of whom nobody knows.
    pub(super) unknown_from: u64,
}

impl<'a> Calls<'a> {
    /// Sorts out what certainly happened.
    ///
    /// # Errors
    ///
    /// A fence that was granted twice, or a release of what was never granted.
    pub(super) fn read(records: &[&'a Record], refusals: Refusals) -> Result<Self, Violation> {
        let forgotten = Forgotten::of(records.iter().copied());
        let records = &without_doubles(records, &forgotten)?;
        let mut grants: Vec<_> = records.iter().copied().filter(|record| granted(record)).collect();
        grants.sort_by_key(|grant| grant.fence);
        let numbers: BTreeMap<_, _> =
            grants.iter().enumerate().map(|(number, grant)| (grant.fence, number)).collect();
        let mut own = BTreeMap::<_, Vec<_>>::new();
        for record in records {
            own.entry(record.fence).or_default().push(*record);
        }
        // Who may have forced it open does not say when.
        let forced = records.iter().filter(|it| it.op == Op::Evict && it.result != Done::Ok);
        let forced = forced.map(|record| record.invoke_ns).min().unwrap_or(u64::MAX);
        let hold = |grant: &&'a Record| Hold::new(grant, &own[&grant.fence], forced, &forgotten);
        let holds: Vec<_> = grants.iter().map(hold).collect();
        let mut calls = Vec::new();
        for &record in records {
            let hold = numbers.get(&record.fence).map(|number| &holds[*number]);
            if let Some(step) = step(record, refusals, &numbers)?
                && !hold.is_some_and(|hold| hold.makes_unknown(record))
            {
                calls.push(Call { step, record });
            }
        }
        let unknown = records.iter().filter(|record| is_unknown(record));
        let unknown_from = unknown.map(|record| record.invoke_ns).min().unwrap_or(u64::MAX);
        Ok(Self { holds, lanes: lanes(calls), unknown_from })
    }

    pub(super) fn count(&self) -> usize {
        self.lanes.iter().map(Vec::len).sum()
    }
}

impl<'a> Hold<'a> {
    /// Describes a grant by all records of it, and by when it may have been forced or
    /// forgotten.
    fn new(grant: &'a Record, own: &[&Record], forced: u64, forgotten: &Forgotten<'_>) -> Self {
        let of = |op, result| own.iter().filter(move |it| it.op == op && it.result == result);
        // The guard's last word counts: a renewal can bring the end nearer, too.
        let told = own.iter().filter(|record| record.deadline_ns.is_some());
        let deadline = told.max_by_key(|record| record.return_ns).and_then(|it| it.deadline_ns);
        let dropped = of(Op::Release, Done::Info).map(|record| record.invoke_ns).min();
        // Whoever says that it is lost excludes nobody any more, as with a session that broke before its time; a call
        // that told of it may have come after.
        let lost =
            own.iter().filter_map(|record| Some(record.lost_ns?.min(record.invoke_ns))).min();
        let ends = deadline.into_iter().chain(dropped).chain(lost);
        let end = ends.min().unwrap_or(u64::MAX).min(forced);
        let seen = of(Op::Renew, Done::Ok).map(|record| record.invoke_ns).max().unwrap_or(0);
        let released = of(Op::Release, Done::Ok).map(|record| record.return_ns).min();
        let unlocked = of(Op::Release, Done::Ok).map(|record| record.invoke_ns).min();
        let forgotten = forgotten.of_key(&grant.key).find(|loss| {
            let asked = grant.invoke_ns <= loss.return_ns;
            let there = released.is_none_or(|released| released >= loss.invoke_ns);
            asked && there && seen <= loss.return_ns
        });
        let goes_from = match forgotten {
            // What its unlock did is unknown then, too.
            Some(loss) => end.min(loss.invoke_ns).min(unlocked.unwrap_or(u64::MAX)),
            None if released.is_some() => u64::MAX,
            None => end.max(seen),
        };
        Self { mode: grant.mode, grant, goes_from, forgotten: forgotten.is_some() }
    }

    /// Whether a record says of this hold that it was there, when it may have been forgotten: an
    /// unlock is repeated until the store has answered, and what is gone then counts as released; and
    /// of two primaries each says so of its own.
    fn makes_unknown(&self, record: &Record) -> bool {
        let was_there = record.result == Done::Ok && matches!(record.op, Op::Release | Op::Renew);
        self.forgotten && was_there
    }
}

fn granted(record: &Record) -> bool {
    matches!(record.op, Op::Acquire | Op::Try) && record.result == Done::Ok
}

/// Whether somebody may hold the key by this call, for a while, though nobody was told.
fn is_unknown(record: &Record) -> bool {
    match record.op {
        Op::Acquire => record.result != Done::Ok,
        Op::Try => record.result == Done::Info,
        _ => false,
    }
}

/// Leaves out holds of one fence that two stores granted apart from each other: nothing tells them apart.
fn without_doubles<'a>(
    records: &[&'a Record],
    forgotten: &Forgotten<'_>,
) -> Result<Vec<&'a Record>, Violation> {
    let (mut fences, mut doubles) = (BTreeMap::new(), BTreeSet::new());
    for &grant in records.iter().filter(|record| granted(record)) {
        match fences.insert(grant.fence, grant) {
            Some(other) if !forgotten.splits(grant, other) => twice(grant, other)?,
            Some(_) => drop(doubles.insert(grant.fence)),
            None => {}
        }
    }
    Ok(records.iter().copied().filter(|record| !doubles.contains(&record.fence)).collect())
}

fn twice(one: &Record, other: &Record) -> Checked {
    wrong("C5", format!("one fence for {one:?} and {other:?}"))
}

fn step(
    record: &Record,
    refusals: Refusals,
    numbers: &BTreeMap<Option<u64>, usize>,
) -> Result<Option<Step>, Violation> {
    let step = match (record.op, record.result) {
        (Op::Look | Op::Write | Op::Forget, _) | (_, Done::Info) | (Op::Acquire, Done::Fail) => {
            return Ok(None);
        }
        (Op::Try, Done::Fail) => return Ok((refusals == Refusals::Exact).then_some(Step::Refuse)),
        (Op::Evict, Done::Fail) => return Ok(None),
        (Op::Evict, Done::Ok) => return Ok(Some(Step::Clear)),
        (Op::Acquire | Op::Try, Done::Ok) => Step::Take,
        (Op::Release, Done::Ok) => Step::Leave,
        (Op::Renew, Done::Ok) => Step::Stay,
        (Op::Release | Op::Renew, Done::Fail) => Step::Miss,
    };
    match numbers.get(&record.fence) {
        Some(number) => Ok(Some(step(*number))),
        None => wrong("C5", format!("nobody was granted that: {record:?}")).map(|()| None),
    }
}

fn lanes(mut calls: Vec<Call<'_>>) -> Vec<Vec<Call<'_>>> {
    calls.sort_by_key(|call| (call.record.invoke_ns, call.record.return_ns));
    let mut lanes: Vec<Vec<Call<'_>>> = Vec::new();
    for call in calls {
        let follows = |lane: &&mut Vec<Call<'_>>| {
            lane.last().is_none_or(|last| last.record.return_ns < call.record.invoke_ns)
        };
        match lanes.iter_mut().find(follows) {
            Some(lane) => lane.push(call),
            None => lanes.push(vec![call]),
        }
    }
    lanes
}
