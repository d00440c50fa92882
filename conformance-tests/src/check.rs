//! Checkers of recorded histories: pure functions, each of which finds one kind of fault.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lock_core::KeyState;

use crate::history::Done;
use crate::history::Op;
use crate::history::Record;

mod crowd;
mod forgotten;
mod linear;
#[cfg(test)]
mod tests;

use crowd::Class;
use forgotten::Forgotten;

pub use linear::Refusals;
pub use linear::is_linearizable;

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The number of the check, `C1` to `C10`.
    pub check: &'static str,
    /// What is wrong, with the records that show it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.message)
    }
}

type Checked = Result<(), Violation>;

fn wrong(check: &'static str, message: impl Into<String>) -> Checked {
    Err(Violation { check, message: message.into() })
}

/// Acquisitions that succeeded, by key, in the order of their calls.
fn grants(history: &[Record]) -> BTreeMap<&str, Vec<&Record>> {
    let mut grants = BTreeMap::<_, Vec<_>>::new();
    for record in history.iter().filter(|record| asks(record)) {
        if record.result == Done::Ok {
            grants.entry(record.key.as_str()).or_default().push(record);
        }
    }
    for grants in grants.values_mut() {
        grants.sort_by_key(|grant| grant.invoke_ns);
    }
    grants
}

fn asks(record: &Record) -> bool {
    matches!(record.op, Op::Acquire | Op::Try)
}

/// C1: no two acquisitions of a key have the same fence, unless two stores may have granted one each while
/// some of it was [forgotten](Op::Forget).
///
/// # Errors
///
/// The first pair that does.
pub fn fences_are_unique(history: &[Record]) -> Checked {
    let forgotten = Forgotten::of(history);
    for (key, mut grants) in grants(history) {
        grants.sort_by_key(|grant| grant.fence);
        let twice = grants
            .windows(2)
            .find(|pair| pair[0].fence == pair[1].fence && !forgotten.splits(pair[0], pair[1]));
        if let Some([one, other]) = twice {
            return wrong("C1", format!("one fence of {key} for {one:?} and {other:?}"));
        }
    }
    Ok(())
}

/// C2: if one acquisition returned before another was called, its fence is lower.
///
/// # Errors
///
/// The first pair where it is not.
pub fn fences_rise_in_real_time(history: &[Record]) -> Checked {
    for grants in grants(history).into_values() {
        let mut returned = grants.clone();
        returned.sort_by_key(|grant| grant.return_ns);
        let mut returned = returned.into_iter().peekable();
        let mut highest: Option<&Record> = None;
        for grant in grants {
            while let Some(earlier) = returned.next_if(|e| e.return_ns < grant.invoke_ns) {
                highest = Some(higher(highest, earlier));
            }
            if let Some(earlier) = highest.filter(|earlier| earlier.fence >= grant.fence) {
                return wrong("C2", format!("{grant:?} came after {earlier:?}"));
            }
        }
    }
    Ok(())
}

/// C2: of guards that were valid when they came and exclude each other, the later has the higher
/// fence.
///
/// Real time alone does not show a fence that was drawn before the lock was won: such a call overlaps
/// with those that it is out of order with. What the store may have forgotten is no predecessor.
///
/// # Errors
///
/// The first pair where it has not.
pub fn fences_follow_holds(history: &[Record]) -> Checked {
    let (facts, forgotten) = (facts(history), Forgotten::of(history));
    for mut grants in grants(history).into_values() {
        grants.retain(|grant| grant.return_ns < end(&facts[&id(grant)]));
        grants.sort_by_key(|grant| grant.return_ns);
        let mut highest = BTreeMap::<Class, &Record>::new();
        for grant in grants {
            let class = Class::of(grant.mode);
            let wrongly = |before: &Record| {
                let both = end(&facts[&id(before)]).min(end(&facts[&id(grant)]));
                before.fence >= grant.fence && forgotten.excuse(before, grant, both).is_none()
            };
            let mut before = highest.iter().filter(|(other, _)| class.excludes(**other));
            if let Some((_, before)) = before.find(|(_, before)| wrongly(before)) {
                return wrong("C2", format!("{grant:?} held after {before:?}"));
            }
            let before = highest.get(&class).copied();
            highest.insert(class, higher(before, grant));
        }
    }
    Ok(())
}

fn higher<'a>(one: Option<&'a Record>, other: &'a Record) -> &'a Record {
    one.filter(|one| one.fence >= other.fence).unwrap_or(other)
}

/// What a history says of one hold.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    deadline: Option<u64>,
    lost: Option<u64>,
    release_called: Option<u64>,
    release_returned: Option<u64>,
}

type HoldId<'a> = (&'a str, Option<u64>, u64);

fn id(record: &Record) -> HoldId<'_> {
    (&record.key, record.fence, record.process)
}

fn facts(history: &[Record]) -> BTreeMap<HoldId<'_>, Facts> {
    let mut all = BTreeMap::<_, Facts>::new();
    for record in history {
        let facts = all.entry(id(record)).or_default();
        facts.deadline = facts.deadline.max(record.deadline_ns);
        facts.lost = earlier(facts.lost, record.lost_ns);
        if record.op == Op::Release {
            facts.release_called = earlier(facts.release_called, Some(record.invoke_ns));
            facts.release_returned = earlier(facts.release_returned, Some(record.return_ns));
        }
    }
    all
}

/// When a guard stopped being valid.
fn end(facts: &Facts) -> u64 {
    earlier(earlier(facts.release_called, facts.lost), facts.deadline).unwrap_or(u64::MAX)
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// C3: no two guards of a key were valid at one time that exclude each other, and no more permits than
/// there are, unless the store may have [forgotten](Op::Forget) one of them.
///
/// A guard is valid from the return of its acquisition to its release, its last deadline or its loss,
/// whichever came first.
///
/// # Errors
///
/// The first pair that was.
pub fn holds_do_not_overlap(history: &[Record]) -> Checked {
    overlaps(history).map(drop)
}

/// Returns the overlaps that C3 excuses: who came, beside whom, and the [`Op::Forget`] that excuses it.
pub fn excused_overlaps(history: &[Record]) -> Vec<[&Record; 3]> {
    overlaps(history).unwrap_or_default()
}

fn overlaps(history: &[Record]) -> Result<Vec<[&Record; 3]>, Violation> {
    let (facts, forgotten, mut excused) = (facts(history), Forgotten::of(history), Vec::new());
    for mut grants in grants(history).into_values() {
        grants.sort_by_key(|grant| grant.return_ns);
        let mut valid: Vec<(u64, &Record)> = Vec::new();
        for grant in grants {
            valid.retain(|(end, _)| grant.return_ns < *end);
            let end = end(&facts[&id(grant)]);
            if grant.return_ns >= end {
                continue;
            }
            if !crowd::admits(valid.iter().map(|(_, held)| held.mode), grant.mode) {
                let excuse =
                    |(until, held): &(u64, &_)| forgotten.excuse(held, grant, end.min(*until));
                let (gone, there): (Vec<_>, Vec<_>) =
                    valid.iter().map(|held| (held, excuse(held))).partition(|it| it.1.is_some());
                if !crowd::admits(there.iter().map(|(held, _)| held.1.mode), grant.mode) {
                    return Err(overlap(grant, &valid));
                }
                excused
                    .extend(gone.into_iter().filter_map(|(held, by)| Some([grant, held.1, by?])));
            }
            valid.push((end, grant));
        }
    }
    Ok(excused)
}

fn overlap(grant: &Record, valid: &[(u64, &Record)]) -> Violation {
    let message = format!("{grant:?} came while {valid:?} were valid");
    Violation { check: "C3", message }
}

/// C4: the resource took writes in the order of their fences, those of each fence together.
///
/// # Errors
///
/// The first write that came too late.
pub fn writes_follow_fences(history: &[Record]) -> Checked {
    let mut last = BTreeMap::<&str, &Record>::new();
    let mut writes: Vec<_> = history.iter().filter(|record| record.op == Op::Write).collect();
    writes.retain(|write| write.result == Done::Ok);
    writes.sort_by_key(|write| write.return_ns);
    for write in writes {
        match last.insert(&write.key, write) {
            Some(last) if last.fence > write.fence => {
                return wrong("C4", format!("{write:?} was taken after {last:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// C6: an acquisition of which nobody knows was followed by a release of the same process.
///
/// # Errors
///
/// The first that was not.
pub fn unknowns_are_released(history: &[Record]) -> Checked {
    let unknown = |record: &&Record| record.op == Op::Acquire && record.result == Done::Info;
    for acquire in history.iter().filter(unknown) {
        let released = history.iter().any(|release| {
            release.op == Op::Release
                && release.process == acquire.process
                && release.key == acquire.key
                && release.return_ns >= acquire.invoke_ns
        });
        if !released {
            return wrong("C6", format!("{acquire:?} was never released"));
        }
    }
    Ok(())
}

/// C7: nobody waited for a free key longer than `bound`; for exclusive locks.
///
/// A key is free from the return of a release, from a deadline or from a loss on.
///
/// # Errors
///
/// The first who did.
pub fn free_keys_are_granted(history: &[Record], bound: Duration) -> Checked {
    let facts = facts(history);
    for grants in grants(history).into_values() {
        let freed = |grant: &&Record| {
            let facts = facts[&id(grant)];
            facts.release_returned.or(facts.deadline).unwrap_or(u64::MAX)
        };
        let mut ends: Vec<_> = grants.iter().map(freed).collect();
        ends.sort_unstable();
        for grant in &grants {
            let before = ends.partition_point(|end| *end <= grant.return_ns);
            let free = ends[..before].last().copied().unwrap_or(0).max(grant.invoke_ns);
            let waited = Duration::from_nanos(grant.return_ns - free);
            if waited > bound {
                return wrong("C7", format!("free for {waited:?} before {grant:?}"));
            }
        }
    }
    Ok(())
}

/// C7: each of those who asked got at least the `share`-th part of the grants of a key.
///
/// # Errors
///
/// The first who did not.
pub fn nobody_starves(history: &[Record], share: u64) -> Checked {
    let mut counts = BTreeMap::<(&str, u64), u64>::new();
    for record in history.iter().filter(|record| asks(record)) {
        let count = counts.entry((&record.key, record.process)).or_default();
        *count += u64::from(record.result == Done::Ok);
    }
    for ((key, process), count) in &counts {
        let all: u64 = counts.iter().filter(|((k, _), _)| k == key).map(|(_, count)| count).sum();
        if count * share < all {
            return wrong("C7", format!("process {process} got {count} of {all} grants of {key}"));
        }
    }
    Ok(())
}

/// C7: those of each mode that asked got together at least the `share`-th part of the grants of a key.
///
/// # Errors
///
/// The first mode that did not.
pub fn no_mode_starves(history: &[Record], share: u64) -> Checked {
    for ((key, class), count) in grants_by_class(history) {
        let of_key = grants_by_class(history).into_iter().filter(|((other, _), _)| *other == key);
        let all: u64 = of_key.map(|(_, count)| count).sum();
        if count * share < all {
            return wrong("C7", format!("{class:?}s got {count} of {all} grants of {key}"));
        }
    }
    Ok(())
}

/// How many grants those of each mode got who asked for a key.
pub(crate) fn grants_by_class(history: &[Record]) -> BTreeMap<(&str, Class), u64> {
    let mut counts = BTreeMap::new();
    for record in history.iter().filter(|record| asks(record)) {
        let count = counts.entry((record.key.as_str(), Class::of(record.mode))).or_default();
        *count += u64::from(record.result == Done::Ok);
    }
    counts
}

/// C8: who asked clearly before another that it excludes, by `margin`, was served before.
///
/// # Errors
///
/// The first pair where it was not so.
pub fn grants_follow_arrival(history: &[Record], margin: Duration) -> Checked {
    let margin = u64::try_from(margin.as_nanos()).unwrap_or(u64::MAX);
    for grants in grants(history).into_values() {
        for (n, first) in grants.iter().enumerate() {
            let class = Class::of(first.mode);
            let clearly = |later: &&&Record| {
                let apart = later.invoke_ns >= first.invoke_ns + margin;
                apart && class.excludes(Class::of(later.mode))
            };
            let mut later = grants[n + 1..].iter().filter(clearly);
            if let Some(later) = later.find(|later| later.return_ns < first.return_ns) {
                return wrong("C8", format!("{later:?} was served before {first:?}"));
            }
        }
    }
    Ok(())
}

/// C9: at the end nobody holds or waits for anything.
///
/// # Errors
///
/// What is left.
pub fn nothing_is_left(left: &[KeyState]) -> Checked {
    if left.is_empty() { Ok(()) } else { wrong("C9", format!("left behind: {left:?}")) }
}

/// C10: a hold that was not released said that it was lost, at its last deadline and `slack` at the
/// latest.
///
/// # Errors
///
/// The first that did not.
pub fn losses_are_told(history: &[Record], slack: Duration) -> Checked {
    let slack = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX);
    let facts = facts(history);
    for grant in grants(history).into_values().flatten() {
        let facts = facts[&id(grant)];
        let Some(due) = facts.deadline.map(|deadline| deadline.saturating_add(slack)) else {
            continue;
        };
        if earlier(facts.lost, facts.release_called).is_none_or(|end| end > due) {
            return wrong("C10", format!("due at {due}, known is {facts:?}: {grant:?}"));
        }
    }
    Ok(())
}
