//! What the benchmark and its workers say to each other, a line of JSON each.

use std::env;
use std::ops::Add;
use std::ops::Sub;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::tally::Tally;

/// Carries the post to a worker: not on the command line, where others could read the URL.
pub(crate) const POST: &str = "LOCK_BENCH_POST";

/// What a worker is there for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Post {
    /// The name of the backend.
    pub(crate) subject: String,
    /// The name of the lane.
    pub(crate) lane: String,
    /// Where the store is.
    pub(crate) url: String,
    /// How many clients of the store this process has.
    pub(crate) seats: usize,
    /// The TTL of all locks.
    pub(crate) ttl: Duration,
    pub(crate) gauge: Gauge,
}

/// What is counted besides time; counting more costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Gauge {
    /// Nothing.
    Speed,
    /// The engine's calls to the backend.
    Requests,
    /// Those, allocations, and the engine's tasks, which run where they can be counted.
    Memory,
}

impl Post {
    /// Reads the post of this process, if it is a worker.
    pub(crate) fn of_this_process() -> Option<Outcome<Self>> {
        let post = env::var(POST).ok()?;
        Some(serde_json::from_str(&post).map_err(Failure::from))
    }
}

/// An order to one seat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Lock and unlock for so long, each task on a key of its own.
    Pairs { tasks: usize, time: Duration },
    /// Lock and unlock, a task for each of these keys, which may be the same; what counts begins when
    /// `warm` is over, and lasts for `time`.
    Contend { keys: Vec<String>, warm: Duration, time: Duration },
    /// Acquire a key and keep it.
    Lock { key: String },
    /// Release it.
    Unlock { key: String },
    /// Acquire so many keys and keep them.
    Hold { locks: usize },
    /// Begin to wait for so many keys, which another seat holds.
    Wait { locks: usize },
    /// Let time go by, and renew what nothing else renews once a cycle.
    Stay { time: Duration, cycle: Duration },
    /// Stop waiting and release all that is held.
    Leave,
    /// Tell what this process uses.
    Usage,
}

impl Order {
    /// How long it takes if all goes well.
    pub(crate) fn time(&self) -> Duration {
        match self {
            Self::Pairs { time, .. } | Self::Stay { time, .. } => *time,
            Self::Contend { warm, time, .. } => *warm + *time,
            _ => Duration::ZERO,
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The seat is connected.
    Ready {
        /// Whether the backend has what the lane asks for.
        able: bool,
    },
    Done,
    /// When a lock was granted, or when its release began, by the boot clock.
    At(Duration),
    /// What each task did.
    Tallies(Vec<Tally>),
    /// The same of tasks that contended, and what was asked of the store meanwhile.
    Contended {
        tallies: Vec<Tally>,
        requests: Option<Requests>,
    },
    Usage(Usage),
    Failed(String),
}

/// What a process uses. Threads, tasks and connections are those that came with its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) process: u32,
    pub(crate) cpu: Duration,
    pub(crate) resident: u64,
    pub(crate) allocated: Option<u64>,
    pub(crate) threads: u64,
    pub(crate) tasks: u64,
    pub(crate) connections: u64,
    pub(crate) requests: Option<Requests>,
}

/// Calls to a backend, or statements of a bare client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requests {
    /// All but watches.
    pub(crate) all: u64,
    /// Subscriptions of waiters, which cost some stores a request and others none.
    pub(crate) watches: u64,
    /// Batches of renewals.
    pub(crate) keeps: u64,
    /// Locks in those batches.
    pub(crate) kept: u64,
}

/// A line between the benchmark and a worker: who it is for or from, and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line<T> {
    pub(crate) seat: usize,
    pub(crate) says: T,
}

impl Add for Requests {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            watches: self.watches + other.watches,
            keeps: self.keeps + other.keeps,
            kept: self.kept + other.kept,
        }
    }
}

/// What came since an earlier reading.
impl Sub for Requests {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            all: self.all - earlier.all,
            watches: self.watches - earlier.watches,
            keeps: self.keeps - earlier.keeps,
            kept: self.kept - earlier.kept,
        }
    }
}
