//! The one scheduler that keeps everything this provider holds or stands in line for.
//!
//! When anything is due, all that is at least half due rides along, in batches; so 10,000 locks cost a
//! few requests a cycle and one task. A batch that hangs delays no other.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use slab::Slab;

use super::Shared;
use super::held::Held;
use super::place::Place;
use crate::BootInstant;
use crate::Claim;
use crate::Kept;
use crate::Result;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering;

/// Who is looked after.
#[derive(Clone)]
pub(crate) enum Kin {
    Hold(Arc<Held>),
    Place(Arc<Place>),
}

impl Kin {
    fn keep_due(&self) -> Option<(BootInstant, BootInstant)> {
        match self {
            Self::Hold(held) => held.keep_due(),
            Self::Place(place) => place.keep_due(),
        }
    }

    fn begin(&self) -> bool {
        match self {
            Self::Hold(held) => held.begin_keep(),
            Self::Place(place) => place.begin_keep(),
        }
    }

    fn claim(&self) -> Claim {
        match self {
            Self::Hold(held) => held.keep_claim(),
            Self::Place(place) => place.claim().clone(),
        }
    }

    fn limit(&self) -> Duration {
        match self {
            Self::Hold(held) => held.keep_limit(),
            Self::Place(place) => place.keep_limit(),
        }
    }

    /// The magnitude of the time that a renewal may take, in powers of four. Those of different
    /// magnitude do not share a request: a slow store would never get to answer for the longer.
    fn pace(&self) -> u32 {
        self.limit().as_millis().max(1).ilog2() / 2
    }

    fn urgency(&self) -> BootInstant {
        match self {
            Self::Hold(held) => held.valid_until(),
            Self::Place(place) => place.valid_until(),
        }
    }

    fn kept(&self, outcome: Option<Kept>, now: BootInstant) {
        match self {
            Self::Hold(held) => held.kept(outcome),
            Self::Place(place) => place.kept(outcome, now),
        }
    }
}

/// Where the keeper knows one hold or place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(usize);

/// The register of all that is looked after, and the alarm of the task that does it.
pub(crate) struct Keeper {
    register: Mutex<Slab<Kin>>,
    /// When the task looks next, in nanoseconds: what is due later need not wake it.
    looks_at: AtomicU64,
    started: AtomicBool,
    alarm: Arc<Notify>,
}

impl Keeper {
    pub(crate) fn new() -> Self {
        Self {
            register: Mutex::default(),
            looks_at: AtomicU64::new(u64::MAX),
            started: AtomicBool::new(false),
            alarm: Arc::new(Notify::new()),
        }
    }

    fn register(&self) -> MutexGuard<'_, Slab<Kin>> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_hold(&self, shared: &Arc<Shared>, held: &Arc<Held>) -> Seat {
        self.add(shared, Kin::Hold(held.clone()))
    }

    pub(crate) fn add_place(&self, shared: &Arc<Shared>, place: &Arc<Place>) -> Seat {
        self.add(shared, Kin::Place(place.clone()))
    }

    fn add(&self, shared: &Arc<Shared>, kin: Kin) -> Seat {
        let due = kin.keep_due();
        let mut register = self.register();
        let seat = Seat(register.insert(kin));
        // Read under the mutex: a look that misses the newcomer has not stored its plan yet.
        let looks_at = BootInstant::from_nanos(self.looks_at.load(Ordering::Relaxed));
        drop(register);
        if due.is_some_and(|(at, _)| at < looks_at) {
            self.alarm.notify_one();
        }
        if due.is_some() && !self.started.swap(true, Ordering::AcqRel) {
            shared.executor.spawn(run(Arc::downgrade(shared), self.alarm.clone()));
        }
        seat
    }

    pub(crate) fn remove(&self, seat: Seat) {
        let kin = self.register().try_remove(seat.0);
        // Dropped outside the mutex: the last reference cleans up after itself.
        drop(kin);
    }

    /// Makes the task look at once; or end, when the engine is gone.
    pub(crate) fn look_again(&self) {
        self.alarm.notify_one();
    }

    /// Everything that is held now.
    pub(crate) fn holds(&self) -> Vec<Arc<Held>> {
        let hold = |kin: &Kin| if let Kin::Hold(held) = kin { Some(held.clone()) } else { None };
        self.register().iter().filter_map(|(_, kin)| hold(kin)).collect()
    }

    /// Takes what is due with all that may ride along, the shortest and most urgent first, or tells when to look next.
    fn take_due(&self, now: BootInstant) -> Result<Vec<Kin>, BootInstant> {
        let mut any_due = false;
        let mut next = BootInstant::FAR;
        let mut ready = Vec::new();
        let register = self.register();
        for (_, kin) in register.iter() {
            let Some((at, early)) = kin.keep_due() else { continue };
            any_due |= at <= now;
            next = next.min(at);
            if early <= now {
                ready.push(kin.clone());
            }
        }
        if !any_due {
            self.looks_at.store(next.as_nanos(), Ordering::Relaxed);
            return Err(next);
        }
        drop(register);
        ready.retain(Kin::begin);
        ready.sort_by_cached_key(|kin| (kin.pace(), kin.urgency()));
        Ok(ready)
    }
}

/// Keeps until the engine is gone.
async fn run(shared: Weak<Shared>, alarm: Arc<Notify>) {
    let mut batches = FuturesUnordered::new();
    while let Some(strong) = shared.upgrade() {
        let clock = strong.clock().clone();
        let until = match strong.keeper.take_due(strong.now()) {
            Ok(ready) => {
                for peers in ready.chunk_by(|a, b| a.pace() == b.pace()) {
                    for batch in peers.chunks(strong.profile.batch) {
                        batches.push(keep(strong.clone(), batch.to_vec()));
                    }
                }
                continue;
            }
            Err(next) => next,
        };
        drop(strong);
        tokio::select! {
            () = clock.sleep_until(until) => {}
            () = alarm.notified() => {}
            Some(()) = batches.next() => {}
        }
    }
}

async fn keep(shared: Arc<Shared>, kin: Vec<Kin>) {
    let claims: Vec<Claim> = kin.iter().map(Kin::claim).collect();
    let limit = kin.iter().map(Kin::limit).min().unwrap_or_default();
    let kept = shared.limited_to(limit, "keep", shared.backend.keep(&claims)).await;
    let kept = kept.and_then(|kept| shared.expect_answers(kept, kin.len()));
    let now = shared.now();
    if let Err(error) = &kept {
        shared.metrics.keep_failed();
        tracing::warn!(backend = shared.profile.name, locks = kin.len(), %error, "renewal failed");
    }
    for (index, kin) in kin.iter().enumerate() {
        kin.kept(kept.as_ref().ok().and_then(|kept| kept.get(index)).copied(), now);
    }
    shared.keeper.look_again();
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeper({} kept)", self.register().len())
    }
}
