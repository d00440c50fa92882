//! The life of one hold as a pure state machine: what is true at an instant, and what is due next.

use std::time::Duration;

use crate::BootInstant;
use crate::Kept;
use crate::Lease;
use crate::Loss;

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Held,
    AtRisk,
    Lost(Loss),
    Released,
}

/// What a caller asked for one hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The TTL to ask for at each renewal.
    pub(crate) ttl: Duration,
    pub(crate) granularity: Duration,
    /// Before the deadline; a fifth of the lease if `None`.
    pub(crate) grace: Option<Duration>,
    /// Whether the store is asked to keep it at all.
    pub(crate) keeps: bool,
    /// When it ends whatever the store says: the TTL of a hold that is not renewed on a session that
    /// would go on for ever.
    pub(crate) end: BootInstant,
    /// When it ends whatever is asked for: `max_hold`.
    pub(crate) last: BootInstant,
}

/// The state of one hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    phase: Phase,
    lease: Lease,
    terms: Terms,
    /// Until when it is valid and from when on at risk, unless it is over: what follows from the lease
    /// and the terms, worked out once.
    until: BootInstant,
    risk_at: BootInstant,
    keep_at: BootInstant,
    /// A renewal is on its way; there is never a second one.
    keeping: bool,
    /// Another renewal was asked for while one was on its way.
    keep_again: bool,
    /// The longest TTL that was ever asked for: the store may still run it.
    longest: Duration,
}

/// The share of its interval after which a renewal may be brought forward to ride with another's.
const EARLY: u32 = 2;

/// Between two tries of a renewal that failed: a fifteenth of the lease, within these bounds.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

impl Term {
    pub(crate) fn new(lease: Lease, terms: Terms) -> Self {
        let (phase, keep_at, longest) = (Phase::Held, lease.keep_at(), terms.ttl);
        let (until, risk_at) = deadlines(lease, &terms);
        let (keeping, keep_again) = (false, false);
        Self { phase, lease, terms, until, risk_at, keep_at, keeping, keep_again, longest }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn longest_ttl(&self) -> Duration {
        self.longest
    }

    pub(crate) fn granted(&self) -> Duration {
        self.lease.ttl
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Lost(_) | Phase::Released)
    }

    /// The instant from which nobody may rely on the hold; boot once it is over.
    pub(crate) fn valid_until(&self) -> BootInstant {
        if self.is_over() { BootInstant::from_nanos(0) } else { self.until }
    }

    pub(crate) fn at_risk_at(&self) -> BootInstant {
        if self.is_over() { BootInstant::from_nanos(0) } else { self.risk_at }
    }

    /// Brings the phase up to `now` and tells whether it changed.
    pub(crate) fn tick(&mut self, now: BootInstant) -> bool {
        let before = self.phase;
        if !self.is_over() {
            if now >= self.until {
                self.phase = Phase::Lost(Loss::Expired);
            } else if now >= self.risk_at {
                self.phase = Phase::AtRisk;
            } else {
                self.phase = Phase::Held;
            }
        }
        before != self.phase
    }

    /// When time alone changes the phase.
    pub(crate) fn changes_at(&self) -> BootInstant {
        match self.phase {
            Phase::Held => self.risk_at,
            Phase::AtRisk => self.until,
            Phase::Lost(_) | Phase::Released => BootInstant::FAR,
        }
    }

    /// When the next renewal is due and from when on it may be brought forward; `None` if none is.
    pub(crate) fn keep_due(&self) -> Option<(BootInstant, BootInstant)> {
        if self.is_over() || self.keeping || !self.terms.keeps {
            return None;
        }
        let slack = self.keep_at.saturating_since(self.lease.since) / EARLY;
        Some((self.keep_at, self.keep_at - slack.min(self.lease.ttl / 3 / EARLY)))
    }

    /// Makes the next renewal due at once; one on its way may have come before what was hinted at.
    pub(crate) fn keep_now(&mut self, now: BootInstant) {
        self.keep_again |= self.keeping;
        self.keep_at = self.keep_at.min(now);
    }

    /// Marks a renewal as sent; false if one is on its way already or the hold is over.
    pub(crate) fn begin_keep(&mut self) -> bool {
        let begins = !self.keeping && !self.is_over();
        self.keeping |= begins;
        begins
    }

    pub(crate) fn is_keeping(&self) -> bool {
        self.keeping
    }

    /// Takes in what a renewal said; after a failure, `None`, it is tried again while the lease lasts.
    pub(crate) fn kept(&mut self, outcome: Option<Kept>, now: BootInstant) {
        self.keeping = false;
        // What has been seen as invalid stays so, also if the clock's thread is late.
        self.tick(now);
        if self.is_over() {
            return;
        }
        match outcome {
            Some(Kept::Renewed { lease }) => {
                self.run(lease);
                // A lease that is honestly old must not be renewed in a tight loop.
                let pause = now + self.retry_after();
                let again = std::mem::take(&mut self.keep_again);
                self.keep_at = if again { pause } else { lease.keep_at().max(pause) };
            }
            Some(Kept::Gone | Kept::Queued { .. }) => self.phase = Phase::Lost(Loss::Evicted),
            Some(Kept::Unknown) | None => self.keep_at = now + self.retry_after(),
        }
    }

    /// How long a renewal may take before it is given up and sent again.
    pub(crate) fn keep_limit(&self) -> Duration {
        (self.lease.ttl / 3).max(RETRY_MIN)
    }

    fn retry_after(&self) -> Duration {
        (self.lease.ttl / 15).clamp(RETRY_MIN, RETRY_MAX)
    }

    /// Prepares for another TTL: what may get shorter is believed shorter before it is asked for.
    pub(crate) fn change_ttl(&mut self, ttl: Duration, now: BootInstant) {
        let shorter = Lease { since: now, ttl };
        if shorter.valid_until(self.terms.granularity) < self.valid_until() {
            self.run(shorter);
        }
        self.terms.ttl = ttl;
        self.longest = self.longest.max(ttl);
    }

    /// Moves the end that does not depend on the store.
    pub(crate) fn set_end(&mut self, end: BootInstant) {
        self.terms.end = end;
        self.run(self.lease);
    }

    fn run(&mut self, lease: Lease) {
        self.lease = lease;
        (self.until, self.risk_at) = deadlines(lease, &self.terms);
    }

    /// Lifts the ends that were set for its guards: a minimum hold outlasts them.
    pub(crate) fn outlive_its_guards(&mut self) {
        self.terms.end = BootInstant::FAR;
        self.terms.last = BootInstant::FAR;
        self.run(self.lease);
    }

    /// Ends the hold; false if it had ended before.
    pub(crate) fn finish(&mut self, phase: Phase) -> bool {
        let ends = !self.is_over();
        if ends {
            self.phase = phase;
        }
        ends
    }
}

/// Until when a hold is valid, and from when on at risk.
fn deadlines(lease: Lease, terms: &Terms) -> (BootInstant, BootInstant) {
    let until = lease.valid_until(terms.granularity).min(terms.end).min(terms.last);
    (until, until - terms.grace.unwrap_or(lease.ttl / 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> BootInstant {
        BootInstant::from_nanos(0) + SECOND * u32::try_from(1000 + seconds).unwrap()
    }

    fn term() -> Term {
        let terms = Terms {
            ttl: SECOND * 10,
            granularity: Duration::ZERO,
            grace: Some(SECOND * 3),
            keeps: true,
            end: BootInstant::FAR,
            last: BootInstant::FAR,
        };
        Term::new(Lease { since: at(0), ttl: SECOND * 10 }, terms)
    }

    #[test]
    fn is_held_then_at_risk_then_lost() {
        let mut term = term();
        assert!(!term.tick(at(6)));
        assert!(term.changes_at() < at(7));
        assert!(term.tick(at(7)));
        assert_eq!(term.phase(), Phase::AtRisk);
        assert_eq!(term.changes_at(), term.valid_until());
        assert!(term.tick(at(10)));
        assert_eq!(term.changes_at(), BootInstant::FAR);
        assert_eq!(term.phase(), Phase::Lost(Loss::Expired));
        assert_eq!(term.valid_until(), BootInstant::from_nanos(0));
    }

    #[test]
    fn a_renewal_counts_from_its_own_lease_and_ends_the_risk() {
        let mut term = term();
        term.tick(at(8));
        assert!(term.begin_keep());
        assert!(!term.begin_keep(), "never two at once");
        term.kept(Some(Kept::Renewed { lease: Lease { since: at(8), ttl: SECOND * 10 } }), at(9));
        assert!(term.tick(at(9)));
        assert_eq!(term.phase(), Phase::Held);
        assert_eq!(term.valid_until(), at(18) - Duration::from_millis(102));
    }

    #[test]
    fn a_renewal_never_revives_a_lost_hold() {
        let mut term = term();
        assert!(term.begin_keep());
        term.tick(at(10));
        term.kept(Some(Kept::Renewed { lease: Lease { since: at(9), ttl: SECOND * 10 } }), at(11));
        term.tick(at(11));
        assert_eq!(term.phase(), Phase::Lost(Loss::Expired));
    }

    #[test]
    fn a_renewal_that_comes_before_the_clock_but_after_the_deadline_revives_nothing() {
        let mut term = term();
        assert!(term.begin_keep());
        term.kept(Some(Kept::Renewed { lease: Lease { since: at(9), ttl: SECOND * 10 } }), at(11));
        assert_eq!(term.phase(), Phase::Lost(Loss::Expired));
    }

    #[test]
    fn a_failed_renewal_is_repeated_while_the_lease_lasts() {
        let mut term = term();
        assert!(term.begin_keep());
        term.kept(None, at(4));
        assert_eq!(term.phase(), Phase::Held);
        let (due, _) = term.keep_due().unwrap();
        assert!(due > at(4) && due < at(5), "{due:?}");
    }

    #[test]
    fn what_is_gone_is_lost_at_once() {
        let mut term = term();
        term.begin_keep();
        term.kept(Some(Kept::Gone), at(2));
        assert_eq!(term.phase(), Phase::Lost(Loss::Evicted));
    }

    #[test]
    fn a_renewal_is_due_at_a_third_and_may_ride_along_at_a_sixth() {
        let (due, early) = term().keep_due().unwrap();
        assert_eq!(due, at(0) + SECOND * 10 / 3);
        assert_eq!(early, due - (SECOND * 10 / 3) / 2);
    }

    #[test]
    fn a_shorter_ttl_is_believed_before_it_is_asked_for() {
        let mut term = term();
        term.change_ttl(SECOND * 2, at(1));
        assert!(term.valid_until() < at(3));
        let mut term = self::term();
        let before = term.valid_until();
        term.change_ttl(SECOND * 60, at(1));
        assert_eq!(term.valid_until(), before, "longer is believed only when confirmed");
    }

    #[test]
    fn the_end_cuts_the_lease() {
        let mut term = term();
        term.set_end(at(5));
        assert_eq!(term.valid_until(), at(5));
        assert!(term.tick(at(5)));
    }
}
