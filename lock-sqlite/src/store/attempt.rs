//! One attempt: the short way for an exclusive claim that meets nobody, the long way for the rest.

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Fence;
use lock_core::Lease;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Scene;
use lock_core::Verdict;
use rusqlite::params;

use super::Store;
use crate::boot::Moment;
use crate::row::Row;
use crate::scene::Seen;
use crate::scene::stored;

/// The column that tells how many in line are not among the rows.
const UNSEEN: usize = 10;

/// An attempt on its way.
struct Try<'a> {
    claim: &'a Claim,
    lease: Lease,
    /// Read once and before any wait for the write lock: late, it makes nobody dead who is not.
    at: Moment,
}

impl Store {
    /// Tries to acquire. A free key takes one statement, and so does a repeat; a refusal reads the key with
    /// a second one, and all else is decided in a transaction.
    pub(crate) fn attempt(&self, claim: &Claim, lease: Lease) -> Result<Attempt> {
        let this = Try { claim, lease, at: self.boot.moment() };
        if claim.mode == Mode::Exclusive {
            let floor = claim.fence_floor.map_or(0, stored);
            if let Some(fence) = self.take(&self.sql.attempt, &this, floor)? {
                return Ok(Attempt::Acquired { fence, lease });
            }
        }
        if let Verdict::Refuse { answer, stands: false } = self.see(&this)?.scene.judge(claim)? {
            return Ok(answer);
        }
        self.atomically(|| self.settle(&this))
    }

    /// Decides by what the key is like inside the transaction.
    fn settle(&self, this: &Try<'_>) -> Result<Attempt> {
        let Seen { scene, has_dead } = self.see(this)?;
        let verdict = scene.judge(this.claim)?;
        if has_dead {
            let (at, key) = (&this.at, this.claim.key.as_str());
            self.execute(&self.sql.bury, params![at.boot, at.now, at.booted, key])?;
        }
        let fence = match verdict {
            Verdict::Holds(fence) => self.grant_again(this, fence)?,
            Verdict::Serve { from_line } => self.grant(this, &scene, from_line)?,
            Verdict::Refuse { answer, stands } => {
                if stands {
                    self.write_claim(this, None)?;
                }
                return Ok(answer);
            }
        };
        Ok(Attempt::Acquired { fence, lease: this.lease })
    }

    fn grant(&self, this: &Try<'_>, scene: &Scene, from_line: bool) -> Result<Fence> {
        let claim = this.claim;
        let floor = stored(scene.floor(claim)?);
        if claim.mode == Mode::Exclusive {
            self.execute(
                &self.sql.drop_claim,
                params![claim.key.as_str(), claim.token.to_string()],
            )?;
            let fence = self.take(&self.sql.take, this, floor)?;
            return fence.ok_or_else(|| Scene::no_higher_fence(&claim.key));
        }
        let fence = self.draw(this, floor)?;
        self.write_claim(this, Some(fence))?;
        if from_line {
            // The line may have been all that kept others back.
            self.freed.set(true);
        }
        Ok(fence)
    }

    /// Re-arms the lease of a claim that holds, and raises its fence to a floor.
    fn grant_again(&self, this: &Try<'_>, fence: Fence) -> Result<Fence> {
        let claim = this.claim;
        let floor = claim.fence_floor.unwrap_or(fence);
        if claim.mode == Mode::Exclusive {
            let fence = self.take(&self.sql.take, this, stored(floor))?;
            return fence.ok_or_else(|| Scene::no_higher_fence(&claim.key));
        }
        let fence = fence.max(floor);
        self.execute(&self.sql.raise, params![claim.key.as_str(), stored(fence)])?;
        self.write_claim(this, Some(fence))?;
        Ok(fence)
    }

    /// Takes the key exclusively by `sql`, or does nothing.
    fn take(&self, sql: &str, this: &Try<'_>, floor: i64) -> Result<Option<Fence>> {
        let Try { claim, at, .. } = this;
        let values = params![
            at.boot,
            at.now,
            at.booted,
            claim.key.as_str(),
            claim.token.to_string(),
            claim.owner.as_str(),
            claim.mode.to_string(),
            self.boot.host_nanos_after(this.lease.since, this.lease.ttl),
            floor,
        ];
        self.query(sql, values, |row| row.get(0))?.map(read_fence).transpose()
    }

    fn draw(&self, this: &Try<'_>, floor: i64) -> Result<Fence> {
        let Try { claim, at, .. } = this;
        let (key, mode) = (claim.key.as_str(), claim.mode.to_string());
        let values = params![at.boot, at.now, at.booted, key, claim.owner.as_str(), mode, floor];
        let fence = self.query(&self.sql.draw, values, |row| row.get(0))?;
        fence.map_or_else(|| Err(Scene::no_higher_fence(&claim.key)), read_fence)
    }

    /// Writes the claim to the second table: as a holder, or without a fence as one in line.
    fn write_claim(&self, this: &Try<'_>, fence: Option<Fence>) -> Result<()> {
        let Try { claim, lease, at } = this;
        let ttl = if fence.is_some() { lease.ttl } else { claim.place_ttl() };
        let end = self.boot.host_nanos_after(lease.since, ttl);
        let (key, token) = (claim.key.as_str(), claim.token.to_string());
        let (owner, mode) = (claim.owner.as_str(), claim.mode.to_string());
        let values = params![at.boot, key, token, fence.map(stored), owner, mode, end];
        self.execute(&self.sql.claim, values).map(drop)
    }

    /// Reads the key. Whoever could hold beside others has to know all who stand before it; and who does not stand
    /// in line mostly meets none, which the plain statement reads in a fraction of the time.
    fn see(&self, this: &Try<'_>) -> Result<Seen> {
        let Try { claim, at, .. } = this;
        if claim.mode != Mode::Exclusive || !claim.queue {
            return Seen::of(&self.look(std::slice::from_ref(&claim.key))?, at);
        }
        let values = params![at.boot, at.now, claim.key.as_str(), claim.token.to_string()];
        let read = |row: &rusqlite::Row<'_>| Ok((Row::read(row)?, row.get(UNSEEN)?));
        let rows: Vec<(Row, u32)> = self.rows(&self.sql.see, values, read)?;
        let mut seen = Seen::of(rows.iter().map(|(row, _)| row), at)?;
        let unseen = rows.iter().map(|(_, unseen)| *unseen).max();
        seen.scene.leaves_out(unseen.unwrap_or(0).into());
        Ok(seen)
    }
}

fn read_fence(stored: i64) -> Result<Fence> {
    Fence::new(u64::try_from(stored).unwrap_or(0))
}
