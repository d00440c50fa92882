//! What a store may have forgotten, and which overlaps that excuses.

use std::collections::BTreeMap;

use crate::history::Op;
use crate::history::Record;

/// The times in which a store may have forgotten what it had granted, by key.
#[derive(Debug)]
pub(super) struct Forgotten<'a>(BTreeMap<&'a str, Vec<&'a Record>>);

impl<'a> Forgotten<'a> {
    pub(super) fn of(history: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut times = BTreeMap::<_, Vec<_>>::new();
        for record in history.into_iter().filter(|record| record.op == Op::Forget) {
            times.entry(record.key.as_str()).or_default().push(record);
        }
        Self(times)
    }

    /// Returns the time that excuses that both holds of a key were valid until `until`: one was
    /// granted before it ended, the other came after it began, and it was over in time for whoever
    /// was forgotten.
    pub(super) fn excuse(&self, one: &Record, other: &Record, until: u64) -> Option<&'a Record> {
        let asked = one.invoke_ns.min(other.invoke_ns);
        let came = one.return_ns.max(other.return_ns);
        self.of_key(&one.key).find(|time| {
            let between = asked <= time.return_ns && came >= time.invoke_ns;
            between && time.deadline_ns.is_none_or(|deadline| until <= deadline)
        })
    }

    /// Whether two stores may have granted both holds, each for itself: both were asked for while some of
    /// what was granted was forgotten.
    pub(super) fn splits(&self, one: &Record, other: &Record) -> bool {
        let within = |time: &Record, grant: &Record| {
            grant.invoke_ns <= time.return_ns && grant.return_ns >= time.invoke_ns
        };
        self.of_key(&one.key).any(|time| within(time, one) && within(time, other))
    }

    pub(super) fn of_key(&self, key: &str) -> impl Iterator<Item = &'a Record> + use<'_, 'a> {
        self.0.get(key).into_iter().flatten().copied()
    }
}
