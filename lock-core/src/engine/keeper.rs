//! The one task that keeps everything this provider holds or stands in line for.
//!
//! When anything is due, all that is at least half due rides along, in batches; so 10,000 locks cost a
//! few requests a cycle and one task. A batch that hangs delays no other.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Shared;
use super::held::Held;
use super::place::Place;
use crate::BootInstant;
use crate::Claim;
use crate::Kept;
use crate::LockKey;
use crate::sync::Notify;

/// Who is looked after.
#[derive(Clone)]
pub(crate) enum Kin {
    Hold(Arc<Held>),
    Place(Arc<Place>),
}

impl From<Arc<Held>> for Kin {
    fn from(held: Arc<Held>) -> Self {
        Self::Hold(held)
    }
}

impl From<Arc<Place>> for Kin {
    fn from(place: Arc<Place>) -> Self {
        Self::Place(place)
    }
}

impl Kin {
    pub(super) fn hold(&self) -> Option<&Arc<Held>> {
        match self {
            Self::Hold(held) => Some(held),
            Self::Place(_) => None,
        }
    }

    pub(super) fn keep_due(&self) -> Option<(BootInstant, BootInstant)> {
        match self {
            Self::Hold(held) => held.keep_due(),
            Self::Place(place) => place.keep_due(),
        }
    }

    pub(super) fn begin(&self) -> bool {
        match self {
            Self::Hold(held) => held.begin_keep(),
            Self::Place(place) => place.begin_keep(),
        }
    }

    fn key(&self) -> &LockKey {
        match self {
            Self::Hold(held) => &held.claim().key,
            Self::Place(place) => &place.claim().key,
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

    /// The magnitude of the time that a renewal may take, in steps of an eighth of a power of two. Those of
    /// different magnitude do not share a request, which is given up when the shortest time is over: a store
    /// that is too slow for the shorter would never get to answer for the longer.
    pub(super) fn pace(&self) -> u64 {
        let micros = u64::try_from(self.limit().as_micros()).unwrap_or(u64::MAX).max(8);
        let power = micros.ilog2();
        u64::from(power) * 8 + (micros >> (power - 3)) % 8
    }

    pub(super) fn urgency(&self) -> BootInstant {
        match self {
            Self::Hold(held) => held.valid_until(),
            Self::Place(place) => place.valid_until(),
        }
    }

    fn kept(&self, outcome: Option<Kept>, now: BootInstant) {
        match self {
            Self::Hold(held) => held.kept(outcome, now),
            Self::Place(place) => place.kept(outcome, now),
        }
    }
}

/// Keeps until the engine is gone.
pub(super) async fn run(shared: Weak<Shared>, alarm: Arc<Notify>) {
    let mut batches = FuturesUnordered::new();
    while let Some(strong) = shared.upgrade() {
        let clock = strong.clock().clone();
        let until = match strong.register.take_due(strong.now()) {
            Ok(mut ready) => {
                let part = |kin: &Kin| strong.backend.part(kin.key());
                ready.sort_by_cached_key(part);
                for peers in ready.chunk_by(|a, b| (part(a), a.pace()) == (part(b), b.pace())) {
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
        let kept = kept.as_ref().ok().and_then(|kept| kept.get(index)).copied();
        kin.kept(kept.filter(|kept| *kept != Kept::Unknown), now);
    }
    shared.register.expect_changes(&shared, kin.iter().filter_map(Kin::hold));
    shared.register.look_again();
}
