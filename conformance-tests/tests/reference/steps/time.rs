//! Leases and their end.

use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Lease;

use super::Steps;
use crate::reference::Flaw;
use crate::reference::store::Slot;

/// How long a place in line lives without being refreshed, if its TTL is not shorter.
const PLACE: Duration = Duration::from_secs(5);

pub(super) fn now() -> BootInstant {
    Clock::system().now()
}

/// When a place in line ends that was refreshed now.
pub(super) fn end_of_place(lease: Lease) -> BootInstant {
    now() + PLACE.min(lease.ttl)
}

impl Steps {
    pub(super) fn lease(&self, claim: &Claim) -> Lease {
        let untold = self.has(Flaw::SmallTtlUntold);
        let least = if untold { Duration::ZERO } else { self.profile.ttl_min };
        let asked = if self.has(Flaw::TtlIgnored) { Duration::from_secs(60) } else { claim.ttl };
        Lease { since: now(), ttl: asked.max(least) }
    }

    pub(super) fn end(&self, lease: Lease) -> BootInstant {
        match self.flaw {
            Some(Flaw::ExpiryIgnored) => BootInstant::FAR,
            Some(Flaw::LongTtlCut) => lease.since + lease.ttl.min(Duration::from_secs(3600)),
            Some(Flaw::FreesEarly) => lease.since + lease.ttl * 4 / 5,
            _ => lease.since + lease.ttl,
        }
    }

    /// Lets go whose lease has ended.
    pub(super) fn expire(&self, slot: &mut Slot) {
        let now = now();
        let dead = slot.holders.iter().filter(|held| held.until <= now).count();
        if dead > 0 {
            self.end_holds(slot, now, dead == slot.holders.len());
        }
        if !self.has(Flaw::LineKeepsDead) {
            self.end_places(slot, now);
        }
    }

    fn end_holds(&self, slot: &mut Slot, now: BootInstant, all: bool) {
        if self.has(Flaw::ExpiryWithLast) && !all {
            return;
        }
        let takes_all = self.has(Flaw::ExpiryTakesAll);
        let gone = slot.holders.extract_if(.., |held| held.until <= now || takes_all);
        let gone = gone.last();
        slot.dead = true;
        slot.forgot |= self.has(Flaw::FenceResetsOnExpiry);
        if self.has(Flaw::ExpiryLeavesFenceToClock) {
            slot.fence = 0;
        }
        if self.revives() || self.has(Flaw::RepeatAfterExpiry) {
            slot.released = gone.map(|held| (held.token, held.fence));
        }
    }

    fn end_places(&self, slot: &mut Slot, now: BootInstant) {
        let mut alive = false;
        let front_only = self.has(Flaw::DeadBlocksInMiddle);
        let gone = slot.line.extract_if(.., |place| {
            alive |= place.until > now;
            place.until <= now && !(front_only && alive)
        });
        slot.dropped.extend(gone.map(|place| place.token));
    }

    pub(super) fn revives(&self) -> bool {
        self.has(Flaw::KeepRevives) || self.has(Flaw::KeepLingers)
    }
}
