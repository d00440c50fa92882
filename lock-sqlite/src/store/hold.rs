//! Keeping what is held or in line, and giving it back.

use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Kept;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Release;
use lock_core::Result;
use rusqlite::params;

use super::Store;
use crate::boot::Moment;

impl Store {
    /// Renews and refreshes, inside the transaction that the caller has begun.
    pub(crate) fn keep(&self, claims: &[Claim], since: BootInstant) -> Result<Vec<Kept>> {
        let at = self.boot.moment();
        let keep = |claim| self.keep_one(&at, claim, since);
        let mut kept = claims.iter().map(keep).collect::<Result<Vec<_>>>()?;
        let waiting = || claims.iter().zip(&kept).filter(|(_, kept)| is_queued(kept));
        if waiting().next().is_some() {
            let keys: Vec<LockKey> = waiting().map(|(claim, _)| claim.key.clone()).collect();
            let scenes = self.scenes(&keys, &at)?;
            for (claim, kept) in claims.iter().zip(&mut kept).filter(|(_, kept)| is_queued(kept)) {
                // Where a row makes no sense, the waiter's own attempt is to tell it.
                let scene = scenes.get(claim.key.as_str()).and_then(|scene| scene.as_ref().ok());
                *kept = Kept::Queued { ahead: scene.map_or(0, |scene| scene.ahead(claim)) };
            }
        }
        Ok(kept)
    }

    /// Renews or refreshes one; how many are ahead of it is not looked at.
    fn keep_one(&self, at: &Moment, claim: &Claim, since: BootInstant) -> Result<Kept> {
        let (key, token) = (claim.key.as_str(), claim.token.to_string());
        let end = self.boot.host_nanos_after(since, claim.ttl);
        let renewed = Kept::Renewed { lease: Lease { since, ttl: claim.ttl } };
        if claim.mode == Mode::Exclusive
            && self.execute(&self.sql.keep, params![at.boot, at.now, key, token, end])? > 0
        {
            return Ok(renewed);
        }
        let place_end = self.boot.host_nanos_after(since, claim.place_ttl());
        let values = params![at.boot, at.now, key, token, end, place_end];
        let holds = self.query(&self.sql.keep_claim, values, |row| row.get(0))?;
        Ok(match holds {
            Some(true) => renewed,
            Some(false) => Kept::Queued { ahead: 0 },
            None => Kept::Gone,
        })
    }

    /// Gives a claim back. An exclusive hold takes one statement; an exclusive claim that does not hold
    /// may be in line, and is looked for in both tables at once, so that it cannot move meanwhile.
    pub(crate) fn release(&self, claim: &Claim) -> Result<Release> {
        let at = self.boot.moment();
        let both = || Ok(self.release_exclusive(&at, claim)? || self.release_claim(&at, claim)?);
        let gone = match claim.mode {
            Mode::Exclusive => self.release_exclusive(&at, claim)? || self.atomically(both)?,
            Mode::Shared | Mode::Permits { .. } => self.release_claim(&at, claim)?,
        };
        if !gone {
            return Ok(Release::NotHeld);
        }
        self.freed.set(true);
        Ok(Release::Released)
    }

    fn release_exclusive(&self, at: &Moment, claim: &Claim) -> Result<bool> {
        let (key, token) = (claim.key.as_str(), claim.token.to_string());
        let freed = self.execute(&self.sql.release, params![at.boot, at.now, key, token])?;
        Ok(freed > 0)
    }

    fn release_claim(&self, at: &Moment, claim: &Claim) -> Result<bool> {
        let (key, token) = (claim.key.as_str(), claim.token.to_string());
        let values = params![at.boot, at.now, key, token];
        let counted = self.query(&self.sql.release_claim, values, |row| row.get(0))?;
        Ok(counted == Some(true))
    }
}

fn is_queued(kept: &Kept) -> bool {
    matches!(kept, Kept::Queued { .. })
}
