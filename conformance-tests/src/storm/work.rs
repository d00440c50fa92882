//! The part of a storm that runs as another process: it locks in every way there is, and records what it
//! sees as it comes, for it may be killed at any time.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::LockOptions;
use lock_core::Mode;
use lock_core::Profile;
use lock_core::TryLock;
use lock_core::Wait;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Cx;
use crate::Outcome;
use crate::cases::contend::release;
use crate::child::say;
use crate::cx::Provider;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::permits;
use crate::cx::sleep;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::history::Recorder;

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(super) seed: u64,
    /// By what number its first task goes in the history; the others follow.
    pub(super) first: u64,
    pub(super) tasks: u64,
    pub(super) keys: Vec<String>,
    pub(super) ttl: Duration,
    /// How long the most patient wait. Who waits for so long in a calm starves.
    pub(super) patience: Duration,
}

/// How it behaves, as the parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mood {
    /// Holds for long at times, waits briefly, gives up, forgets to unlock.
    Wild,
    /// Holds briefly and waits patiently.
    Mild,
    /// Ends what it has begun and says [`RESTING`].
    Rest,
}

/// What a process says that has come to rest.
pub(super) const RESTING: &str = "resting";

/// Works as the parent says, until it says no more.
pub(crate) async fn work(
    cx: &Cx,
    part: Part,
    mut said: mpsc::UnboundedReceiver<String>,
) -> Outcome {
    let worker = Arc::new(Worker::new(cx, part).await?);
    let (mood, mut tasks) = (watch::Sender::new(Mood::Rest), JoinSet::new());
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => ended??,
            line = said.recv() => {
                let Some(line) = line else { return Ok(()) };
                mood.send_replace(serde_json::from_str(&line)?);
                if *mood.borrow() == Mood::Rest {
                    while let Some(ended) = tasks.join_next().await {
                        ended??;
                    }
                    say(&RESTING)?;
                } else if tasks.is_empty() {
                    for task in 0..worker.part.tasks {
                        tasks.spawn(worker.clone().turns(task, mood.subscribe()));
                    }
                }
            }
        }
    }
}

struct Worker {
    part: Part,
    locks: Provider,
    modes: Vec<Mode>,
    recorder: Recorder,
}

/// One acquisition, drawn by lot.
struct Turn {
    key: String,
    ask: Ask,
    options: LockOptions,
    hold: Duration,
    /// Whether it renews by itself, too.
    extends: bool,
    /// Whether it is dropped instead of unlocked.
    drops: bool,
}

#[derive(Clone, Copy)]
enum Ask {
    Try,
    Wait,
    /// Drops the call after so long.
    GiveUp(Duration),
}

impl Worker {
    /// Connects, though the store may be down at the moment.
    async fn new(cx: &Cx, part: Part) -> Outcome<Self> {
        let until = now() + part.patience;
        let locks = loop {
            match cx.connected().await {
                Ok(locks) => break locks,
                Err(failure) if now() > until => return Err(failure),
                Err(_) => sleep(ms(100)).await,
            }
        };
        let modes = modes(locks.profile());
        Ok(Self { part, locks, modes, recorder: Recorder::aloud() })
    }

    async fn turns(self: Arc<Self>, task: u64, mut mood: watch::Receiver<Mood>) -> Outcome {
        let process = self.part.first + task;
        let mut random = StdRng::seed_from_u64(self.part.seed.wrapping_add(process));
        loop {
            let now = *mood.borrow_and_update();
            if now == Mood::Rest {
                return Ok(());
            }
            let turn = self.draw(now, &mut random);
            if let Some(guard) = self.ask(process, &turn).await? {
                self.hold(process, &guard, &turn, &mut mood).await?;
                self.end(process, guard, turn.drops).await;
            }
            sleep(ms(random.random_range(0..15))).await;
        }
    }

    fn draw(&self, mood: Mood, random: &mut StdRng) -> Turn {
        let (ttl, wild) = (self.part.ttl, mood == Mood::Wild);
        let mut options = opts().ttl(ttl).wait(self.part.patience);
        options.mode = *self.modes.choose(random).unwrap_or(&Mode::Exclusive);
        options.fair = self.locks.profile().fair && random.random_bool(0.4);
        let mut hold = random.random_range(0..8);
        let (mut ask, rare) = (Ask::Wait, |random: &mut StdRng| wild && random.random_bool(0.1));
        if rare(random) {
            hold = random.random_range(0..200);
        }
        if rare(random) && random.random_bool(0.3) {
            hold = random.random_range(0..ttl.as_millis() as u64 * 5 / 2);
            options = if random.random_bool(0.3) { options.without_renewal() } else { options };
        }
        if wild && random.random_bool(0.3) {
            options.wait = Some(Wait::For(ms(random.random_range(1..ttl.as_millis() as u64))));
        }
        if random.random_bool(0.2) {
            ask = Ask::Try;
        } else if rare(random) {
            ask = Ask::GiveUp(ms(random.random_range(0..100)));
        }
        let key = self.part.keys.choose(random).cloned().unwrap_or_default();
        Turn { key, ask, options, hold: ms(hold), extends: rare(random), drops: rare(random) }
    }

    /// Asks for the lock. An outage and contention are no failures; all else is.
    async fn ask(&self, process: u64, turn: &Turn) -> Outcome<Option<LockGuard>> {
        let (locks, key, options) = (&self.locks, turn.key.as_str(), &turn.options);
        let op = if matches!(turn.ask, Ask::Try) { Op::Try } else { Op::Acquire };
        let record = Record::begin(process, key, op).in_mode(options.mode);
        let asked = match turn.ask {
            Ask::Try => locks.try_lock(key, options).await.map(TryLock::acquired),
            Ask::Wait => locks.lock(key, options).await.map(Some),
            Ask::GiveUp(after) => {
                match tokio::time::timeout(after, locks.lock(key, options)).await {
                    Ok(asked) => asked.map(Some),
                    // Given up: whatever was granted is taken back.
                    Err(_) => Ok(None),
                }
            }
        };
        match asked {
            Ok(Some(guard)) => {
                self.recorder.add(known(record.end(Done::Ok).of(&guard)));
                Ok(Some(guard))
            }
            Ok(None) => self.failed(record, Done::Fail),
            Err(error) if error.kind() == ErrorKind::Timeout => self.failed(record, Done::Fail),
            Err(error) if is_outage(&error) => self.failed(record, Done::Info),
            Err(error) => Err(error.into()),
        }
    }

    fn failed(&self, record: Record, done: Done) -> Outcome<Option<LockGuard>> {
        self.recorder.add(record.end(done));
        Ok(None)
    }

    /// Holds until the time is over, the lock is lost, or the mood changes.
    async fn hold(
        &self,
        process: u64,
        guard: &LockGuard,
        turn: &Turn,
        mood: &mut watch::Receiver<Mood>,
    ) -> Outcome {
        if turn.extends {
            let record = Record::begin(process, &turn.key, Op::Renew);
            let done = match guard.extend(self.part.ttl).await {
                Ok(()) => Done::Ok,
                Err(error) if error.kind() == ErrorKind::Lost => Done::Fail,
                Err(error) if is_outage(&error) => Done::Info,
                Err(error) => return Err(error.into()),
            };
            self.recorder.add(record.end(done).of(guard));
        }
        tokio::select! {
            () = self.watch(process, guard) => {}
            () = sleep(turn.hold) => {}
            _ = mood.changed() => {}
        }
        Ok(())
    }

    /// Records each new deadline, and the loss.
    async fn watch(&self, process: u64, guard: &LockGuard) {
        let mut known = guard.valid_until();
        while let Some(until) = guard.renewed(known).await {
            known = until;
            self.look(process, guard);
        }
        self.look(process, guard);
    }

    fn look(&self, process: u64, guard: &LockGuard) {
        let record = Record::begin(process, guard.key(), Op::Look);
        self.recorder.add(record.end(Done::Ok).of(guard));
    }

    async fn end(&self, process: u64, guard: LockGuard, drops: bool) {
        if drops {
            let record = Record::begin(process, guard.key(), Op::Release);
            self.recorder.add(record.end(Done::Info).of(&guard));
            drop(guard);
        } else {
            release(guard, process, &self.recorder).await;
        }
    }
}

fn modes(profile: &Profile) -> Vec<Mode> {
    let mut modes = vec![Mode::Exclusive];
    modes.extend(profile.shared.then_some(Mode::Shared));
    modes.extend(profile.permits.then_some(permits(2)));
    modes
}

fn is_outage(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// A guard that was over before it could be looked at was never seen valid.
fn known(record: Record) -> Record {
    let deadline_ns = record.deadline_ns.or(Some(record.invoke_ns));
    Record { deadline_ns, ..record }
}
