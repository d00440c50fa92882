//! C5: is there an order of all calls on a key in which one lock could have carried them out, each at
//! an instant between its call and its return?
//!
//! A search in the manner of Wing and Gong with the memory of Lowe: go through the orders one call at a
//! time, and never twice through the same point. What makes it short for locks:
//!
//! - Keys are independent, and each is searched alone.
//! - Grants can only come in the order of their fences.
//! - A lease may end at any time from the guard's last deadline on, never before, and an unlock of which
//!   nobody knows may happen at any time from its call on, or never. Neither is a call to be put in
//!   order: a hold that may have gone is let go at the last moment, when something needs it gone.
//!   Earlier would help nothing.
//! - A call that finds what it needs and changes nothing is taken at once.
//!
//! Acquisitions of which nobody knows are left out: that one took effect can only stand in the way of
//! others, and an order without it is as good. Only a refusal may be owed to it.
//!
//! The search gives up at a bound and says so: an undecided history is no good one.

mod calls;
#[cfg(test)]
mod naive;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::Checked;
use super::wrong;
use crate::history::Record;

use calls::Calls;
use search::Search;
use search::Verdict;

/// How many points of one search are visited at most: one or two seconds, and some 100 MB.
const MOST_POINTS: usize = 400_000;

/// What a refused try proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store promises it or not")]
pub enum Refusals {
    /// Somebody was in the way at that instant.
    Exact,
    /// Nothing: those in line may have been in the way, or a part of the store.
    Free,
}

/// C5: all calls can be put into one order that a single lock could have carried out, with leases that
/// end at their deadlines or later.
///
/// # Errors
///
/// A key for which there is no such order, with the calls at which it ends; or one for which it could
/// not be decided, with its size.
pub fn is_linearizable(history: &[Record], refusals: Refusals) -> Checked {
    decide(history, refusals, MOST_POINTS)
}

fn decide(history: &[Record], refusals: Refusals, most: usize) -> Checked {
    let mut keys = BTreeMap::<&str, Vec<&Record>>::new();
    for record in history {
        keys.entry(&record.key).or_default().push(record);
    }
    for (key, records) in keys {
        let calls = Calls::read(&records, refusals)?;
        match Search::new(&calls, most).run() {
            Verdict::Ordered => {}
            Verdict::Stuck { done, next, held } => {
                let all = calls.count();
                let message = format!(
                    "{done} of {all} calls on {key} can be put in order, then none of {next:#?} \
                     can come while these hold: {held:#?}"
                );
                return wrong("C5", message);
            }
            Verdict::TooHard => {
                let (all, lanes) = (calls.count(), calls.lanes.len());
                let message = format!(
                    "undecided after {most} points: {all} calls on {key}, up to {lanes} at a time"
                );
                return wrong("C5", message);
            }
        }
    }
    Ok(())
}
