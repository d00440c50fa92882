//! What happened, as each process saw it, on one clock.

use std::io::BufRead;
use std::sync::Mutex;
use std::sync::PoisonError;

use lock_core::LockGuard;
use serde::Deserialize;
use serde::Serialize;

use crate::Outcome;
use crate::cx::now;

/// One call, or one fact about a hold.
///
/// Instants are nanoseconds of CLOCK_BOOTTIME, so records of several processes of one host compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Who called: a number for each task or process.
    pub process: u64,
    /// The lock.
    pub key: String,
    /// What was called.
    pub op: Op,
    /// When it was called.
    pub invoke_ns: u64,
    /// When it returned.
    pub return_ns: u64,
    /// What came of it.
    pub result: Done,
    /// The fence, where there was a hold.
    pub fence: Option<u64>,
    /// Until when the guard said it was valid, at the time of the record.
    pub deadline_ns: Option<u64>,
    /// When the guard said that it was lost.
    pub lost_ns: Option<u64>,
}

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Op {
    /// A lock call.
    Acquire,
    /// A look at a hold, for its deadline.
    Look,
    /// A write to the protected resource with the fence.
    Write,
    /// An unlock, or a drop.
    Release,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a call happened, did not, or nobody knows")]
pub enum Done {
    /// It happened.
    Ok,
    /// It did not happen.
    Fail,
    /// Nobody knows.
    Info,
}

impl Record {
    /// Begins a record at this instant.
    pub fn begin(process: u64, key: &str, op: Op) -> Self {
        let at = now().as_nanos();
        let (fence, deadline_ns, lost_ns) = (None, None, None);
        let (invoke_ns, return_ns, result) = (at, at, Done::Info);
        let key = key.to_owned();
        Self { process, key, op, invoke_ns, return_ns, result, fence, deadline_ns, lost_ns }
    }

    /// Ends it at this instant.
    #[must_use]
    pub fn end(mut self, result: Done) -> Self {
        self.return_ns = now().as_nanos();
        self.result = result;
        self
    }

    /// Notes what `guard` says of itself.
    #[must_use]
    pub fn of(mut self, guard: &LockGuard) -> Self {
        self.fence = Some(guard.fence().get());
        self.deadline_ns = Some(guard.valid_until().as_nanos()).filter(|deadline| *deadline > 0);
        if !guard.is_valid() {
            self.lost_ns = Some(now().as_nanos());
        }
        self
    }
}

/// Collects records from several tasks.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Record>>);

impl Recorder {
    /// Adds a record.
    pub fn add(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Adds records from lines of JSON, as another process printed them; other lines are left out.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn add_lines(&self, lines: impl BufRead) -> Outcome {
        for line in lines.lines() {
            if let Ok(record) = serde_json::from_str(&line?) {
                self.add(record);
            }
        }
        Ok(())
    }

    /// Returns all records in the order in which they were called.
    pub fn history(&self) -> Vec<Record> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        records.sort_by_key(|record| (record.invoke_ns, record.return_ns));
        records
    }
}
