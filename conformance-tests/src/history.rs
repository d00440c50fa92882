//! What happened, as each process saw it, on one clock.

use std::io::BufRead;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use lock_core::Fence;
use lock_core::Lease;
use lock_core::LockGuard;
use lock_core::Mode;
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
    /// How the lock was to be held.
    #[serde(with = "mode_text")]
    pub mode: Mode,
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
    /// A lock call that waits.
    Acquire,
    /// A lock call that does not wait; it fails only because others were in the way.
    Try,
    /// A renewal that the holder asked for; it fails only because the lock was lost.
    Renew,
    /// A look at a hold, for its deadline.
    Look,
    /// A write to the protected resource with the fence.
    Write,
    /// An unlock, or a drop; it fails only because the lock was lost.
    Release,
    /// A force unlock.
    Evict,
    /// No call: between these instants the store may have forgotten what it had granted of the key,
    /// as its guarantees say. Until the deadline the holders may still believe in it.
    Forget,
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
        let (key, mode) = (key.to_owned(), Mode::Exclusive);
        Self { process, key, op, mode, invoke_ns, return_ns, result, fence, deadline_ns, lost_ns }
    }

    /// Says how the lock is to be held.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
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
        self.mode = guard.mode();
        self.fence = Some(guard.fence().get());
        self.deadline_ns = Some(guard.valid_until().as_nanos()).filter(|deadline| *deadline > 0);
        if !guard.is_valid() {
            self.lost_ns = Some(now().as_nanos());
        }
        self
    }

    /// Notes what a store itself granted, to a claim that nobody will renew.
    #[must_use]
    pub fn granted(mut self, fence: Fence, lease: Lease, granularity: Duration) -> Self {
        self.fence = Some(fence.get());
        self.deadline_ns = Some(lease.valid_until(granularity).as_nanos());
        self
    }
}

/// The text form of a mode, for processes that print their records.
pub(crate) mod mode_text {
    use lock_core::Mode;
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(mode: &Mode, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mode)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Collects records from several tasks.
#[derive(Debug, Default)]
pub struct Recorder {
    records: Mutex<Vec<Record>>,
    aloud: bool,
}

impl Recorder {
    /// Makes a recorder that also prints each record at once: for a process that may be killed.
    pub fn aloud() -> Self {
        Self { aloud: true, ..Self::default() }
    }

    /// Adds a record.
    pub fn add(&self, record: Record) {
        self.announce(&record);
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Prints what is about to be called, if each record is printed at once.
    pub fn announce(&self, record: &Record) {
        if let (true, Ok(line)) = (self.aloud, serde_json::to_string(record)) {
            println!("{line}");
        }
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
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        records.sort_by_key(|record| (record.invoke_ns, record.return_ns));
        records
    }
}
