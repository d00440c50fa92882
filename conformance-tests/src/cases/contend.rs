//! Loops that contend for a lock and record what they see, for cases and for child processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use lock_core::BootInstant;
use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::Mode;
use lock_core::TryLock;
use serde::Deserialize;
use serde::Serialize;

use crate::Outcome;
use crate::cx::Provider;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::history::Recorder;
use crate::history::mode_text;

/// How a loop locks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Habit {
    pub(crate) key: String,
    #[serde(with = "mode_text")]
    pub(crate) mode: Mode,
    pub(crate) fair: bool,
    pub(crate) ttl: Duration,
    pub(crate) wait: Duration,
    /// How long it holds.
    pub(crate) hold: Duration,
}

impl Habit {
    /// Locks "a" exclusively for an instant.
    pub(crate) fn new() -> Self {
        let (mode, fair) = (Mode::Exclusive, false);
        let (ttl, wait, hold) = (ms(2000), ms(1000), Duration::ZERO);
        Self { key: "a".into(), mode, fair, ttl, wait, hold }
    }

    pub(crate) fn on(mut self, key: &str) -> Self {
        self.key = key.into();
        self
    }

    pub(crate) fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn for_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    pub(crate) fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub(crate) fn fairly(mut self) -> Self {
        self.fair = true;
        self
    }

    pub(crate) fn holding(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }
}

/// Locks and unlocks in a loop, as `process`, until `until`.
pub(crate) async fn contend(
    engine: &Provider,
    habit: &Habit,
    process: u64,
    until: BootInstant,
    recorder: &Recorder,
) -> Outcome {
    while now() < until {
        if let Some(guard) = acquire(engine, habit, process, recorder).await? {
            if !habit.hold.is_zero() {
                sleep(habit.hold).await;
            }
            release(guard, process, recorder).await;
        }
    }
    Ok(())
}

/// Locks, with some patience.
pub(crate) async fn acquire(
    engine: &Provider,
    habit: &Habit,
    process: u64,
    recorder: &Recorder,
) -> Outcome<Option<LockGuard>> {
    let mut options = opts().ttl(habit.ttl).wait(habit.wait).mode(habit.mode);
    options.fair = habit.fair;
    let record = Record::begin(process, &habit.key, Op::Acquire).in_mode(habit.mode);
    match engine.lock(&habit.key, &options).await {
        Ok(guard) => {
            recorder.add(record.end(Done::Ok).of(&guard));
            Ok(Some(guard))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable) => {
            // The engine releases what may have been granted; the end of the case checks that.
            recorder.add(record.end(Done::Fail));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Tries, and takes only a refusal for an answer.
pub(crate) async fn try_once(
    engine: &Provider,
    habit: &Habit,
    process: u64,
    recorder: &Recorder,
) -> Outcome<Option<LockGuard>> {
    let options = opts().ttl(habit.ttl).mode(habit.mode);
    let record = Record::begin(process, &habit.key, Op::Try).in_mode(habit.mode);
    match engine.try_lock(&habit.key, &options).await? {
        TryLock::Acquired(guard) => {
            recorder.add(record.end(Done::Ok).of(&guard));
            Ok(Some(guard))
        }
        TryLock::Held(_) => {
            recorder.add(record.end(Done::Fail));
            Ok(None)
        }
    }
}

pub(crate) async fn release(guard: LockGuard, process: u64, recorder: &Recorder) {
    let record = Record::begin(process, guard.key(), Op::Release).of(&guard);
    // Who is killed from here on may or may not have released.
    recorder.announce(&record);
    let done = match guard.unlock().await {
        Ok(()) => Done::Ok,
        Err(error) if error.kind() == ErrorKind::Lost => Done::Fail,
        Err(_) => Done::Info,
    };
    recorder.add(record.end(done));
}

/// The protected resource: it refuses a fence lower than it has seen of a key.
#[derive(Default)]
pub(crate) struct Register(Mutex<BTreeMap<String, u64>>);

impl Register {
    fn write(&self, guard: &LockGuard, process: u64, recorder: &Recorder) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record::begin(process, guard.key(), Op::Write).of(guard);
        let highest = seen.entry(guard.key().to_owned()).or_default();
        let taken = guard.fence().get() >= *highest;
        *highest = guard.fence().get().max(*highest);
        recorder.add(record.end(if taken { Done::Ok } else { Done::Fail }));
    }
}

/// Runs one loop of each habit over the engines; writers write under the lock. Returns what they
/// recorded.
pub(crate) async fn run_loops(
    engines: &[Provider],
    habits: Vec<Habit>,
    until: BootInstant,
    recorder: &Arc<Recorder>,
) -> Outcome<Vec<Record>> {
    let register = Arc::new(Register::default());
    let loops = habits.into_iter().enumerate().map(|(process, habit)| {
        let engine = engines[process % engines.len()].clone();
        let (recorder, register) = (recorder.clone(), register.clone());
        let process = process as u64;
        tokio::spawn(async move {
            while now() < until {
                if let Some(guard) = acquire(&engine, &habit, process, &recorder).await? {
                    if habit.mode == Mode::Exclusive {
                        register.write(&guard, process, &recorder);
                    }
                    sleep(habit.hold).await;
                    release(guard, process, &recorder).await;
                }
            }
            Outcome::Ok(())
        })
    });
    for ended in join_all(loops).await {
        ended??;
    }
    Ok(recorder.history())
}
