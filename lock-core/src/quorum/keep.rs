//! Renewing and releasing.

use std::sync::Arc;
use std::time::Duration;

use super::group::Group;
use super::round::Round;
use super::undo::Undo;
use crate::BootInstant;
use crate::Claim;
use crate::Kept;
use crate::Lease;
use crate::Release;
use crate::Result;

impl Group {
    /// Renews everywhere. What enough members renewed is renewed; what so many have lost that the others
    /// are too few is gone; of the rest nothing can be said. Nothing is acquired anew: a member that has
    /// lost a claim, or never had it, stays without.
    pub(crate) async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let claims: Vec<Claim> = claims.iter().map(|claim| self.raised(claim)).collect();
        let Some(shortest) = claims.iter().map(|claim| claim.ttl).min() else {
            return Ok(Vec::new());
        };
        let longest = claims.iter().map(|claim| claim.ttl).fold(shortest, Duration::max);
        let (since, budget) = (self.now(), self.budget(shortest));
        let (all, claims): (_, Arc<[Claim]>) = (0..claims.len(), claims.into());
        let mut round = self.ask(self.patience(longest), |node| node.keep(claims.clone()));
        let decided = |round: &Round<'_, Vec<Kept>>| {
            all.clone().all(|at| self.fate(round, at, since).is_some())
        };
        round.until(budget, decided).await;
        let fates: Vec<Option<Kept>> = all.map(|at| self.fate(&round, at, since)).collect();
        if fates.iter().all(Option::is_none) {
            return Err(self.failure(&round, budget));
        }
        Ok(fates.into_iter().map(|fate| fate.unwrap_or(Kept::Unknown)).collect())
    }

    /// What has become of one claim, once that is clear.
    fn fate(&self, round: &Round<'_, Vec<Kept>>, at: usize, since: BootInstant) -> Option<Kept> {
        let leases = || {
            round.good().filter_map(|(_, kept)| match kept[at] {
                Kept::Renewed { lease } => Some(lease),
                _ => None,
            })
        };
        if leases().count() >= self.need() {
            let since = leases().map(|lease| lease.since).fold(since, BootInstant::min);
            let ttl = leases().map(|lease| lease.ttl).min().unwrap_or_default();
            return Some(Kept::Renewed { lease: Lease { since, ttl } });
        }
        let gone = round.count(|kept| matches!(kept[at], Kept::Gone | Kept::Queued { .. }));
        (gone >= self.block()).then_some(Kept::Gone)
    }

    /// Releases everywhere. Released, if as many held it as it takes to hold; not held, if so many did not
    /// that the others were too few. Whoever has not confirmed is asked again in the background until the
    /// lease is over.
    pub(crate) async fn release(&self, claim: &Claim) -> Result<Release> {
        let budget = self.budget(claim.ttl);
        let mut undo = Undo::new(self, claim);
        let mut round = self.ask(self.patience(claim.ttl), |node| node.release(claim));
        round.until(budget, |round| self.found(round).is_some()).await;
        // A repetition would not find what this one has released: whoever repeats has to know.
        let doubt = || self.failure(&round, budget).ambiguous();
        let found = self.found(&round).ok_or_else(doubt);
        undo.released(&mut round);
        found
    }

    fn found(&self, round: &Round<'_, Release>) -> Option<Release> {
        let count = |release| round.count(|found| *found == release);
        if count(Release::Released) >= self.need() {
            return Some(Release::Released);
        }
        (count(Release::NotHeld) >= self.block()).then_some(Release::NotHeld)
    }
}
