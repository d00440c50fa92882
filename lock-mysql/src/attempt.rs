//! One attempt: the short way for an exclusive claim that meets nobody, the long way for the rest.

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Fence;
use lock_core::Lease;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Scene;
use lock_core::Token;
use lock_core::Verdict;

use crate::client::Step;
use crate::error::Failure;
use crate::look::look;
use crate::row::Seen;
use crate::row::micros;
use crate::row::stored;
use crate::session::Session;
use crate::session::Values;

/// Tries to acquire. A free key takes one statement, and so does a repeat; a refusal reads the key with a
/// second one, and all else is decided in a transaction that holds the key's row.
pub(crate) struct Try {
    pub(crate) claim: Claim,
    pub(crate) lease: Lease,
}

impl Step for Try {
    type Output = Attempt;

    fn token(&self) -> Option<Token> {
        Some(self.claim.token)
    }

    async fn run(&self, session: &mut Session) -> Result<Attempt, Failure> {
        if self.claim.mode == Mode::Exclusive
            && let Some(fence) = self.take_free(session).await?
        {
            return Ok(Attempt::Acquired { fence, lease: self.lease });
        }
        // Who wants a place in line writes in any case, and the sooner the better its place.
        if !self.claim.queue {
            let rows = look(session, &[self.claim.key.as_str()]).await?;
            let verdict = Seen::of(&rows)?.scene.judge(&self.claim)?;
            if let Verdict::Refuse { answer, stands: false } = verdict {
                return Ok(answer);
            }
        }
        session.begin().await?;
        let outcome = self.settle(session).await;
        session.end(outcome).await
    }
}

impl Try {
    async fn take_free(&self, session: &mut Session) -> Result<Option<Fence>, Failure> {
        let floor = self.claim.fence_floor.map_or(0, stored);
        let values = Values { floor, ..self.values() };
        match session.execute(|sql| &sql.attempt, &values).await?.id {
            0 => Ok(None),
            id => self.granted(session, id).await.map(Some),
        }
    }

    /// Decides by what the key is like while its row is locked.
    async fn settle(&self, session: &mut Session) -> Result<Attempt, Failure> {
        let Seen { scene, .. } = enter(session, self.claim.key.as_str()).await?;
        let fence = match scene.judge(&self.claim)? {
            Verdict::Holds(fence) => self.grant_again(session, fence).await?,
            Verdict::Serve { .. } => self.grant(session, &scene).await?,
            Verdict::Refuse { answer, stands } => {
                if stands {
                    self.write_claim(session, None).await?;
                    leave(session, &[self.claim.key.as_str()]).await?;
                }
                return Ok(answer);
            }
        };
        leave(session, &[self.claim.key.as_str()]).await?;
        Ok(Attempt::Acquired { fence, lease: self.lease })
    }

    async fn grant(&self, session: &mut Session, scene: &Scene) -> Result<Fence, Failure> {
        let values = Values { floor: stored(scene.floor(&self.claim)?), ..self.values() };
        if self.claim.mode == Mode::Exclusive {
            session.execute(|sql| &sql.drop_claim, &values).await?;
            let id = session.execute(|sql| &sql.take, &values).await?.id;
            return self.fence(id);
        }
        let id = session.execute(|sql| &sql.draw, &values).await?.id;
        let fence = self.fence(id)?;
        self.write_claim(session, Some(fence)).await?;
        Ok(fence)
    }

    /// Re-arms the lease of a claim that holds, and raises its fence to a floor.
    async fn grant_again(&self, session: &mut Session, fence: Fence) -> Result<Fence, Failure> {
        let fence = self.claim.fence_floor.map_or(fence, |floor| fence.max(floor));
        if self.claim.mode == Mode::Exclusive {
            let values = Values { floor: stored(fence), ..self.values() };
            let id = session.execute(|sql| &sql.attempt, &values).await?.id;
            return self.fence(id);
        }
        let values = Values { fence: Some(stored(fence)), ..self.values() };
        session.execute(|sql| &sql.raise, &values).await?;
        self.write_claim(session, Some(fence)).await?;
        Ok(fence)
    }

    /// Writes the claim to the second table: as a holder, or without a fence as one in line.
    async fn write_claim(
        &self,
        session: &mut Session,
        fence: Option<Fence>,
    ) -> Result<(), Failure> {
        let ttl = if fence.is_some() { self.lease.ttl } else { self.claim.place_ttl() };
        let values = Values { fence: fence.map(stored), ttl: micros(ttl), ..self.values() };
        session.execute(|sql| &sql.claim, &values).await.map(drop)
    }

    fn values(&self) -> Values<'_> {
        Values { ttl: micros(self.lease.ttl), ..of(&self.claim) }
    }

    /// Checks a fence that was granted outside a transaction, and gives the key back if there can be no
    /// higher one.
    async fn granted(&self, session: &mut Session, id: u64) -> Result<Fence, Failure> {
        match self.fence(id) {
            Ok(fence) => Ok(fence),
            Err(failure) => {
                session.execute(|sql| &sql.release, &self.values()).await?;
                Err(failure)
            }
        }
    }

    fn fence(&self, id: u64) -> Result<Fence, Failure> {
        let fence = Fence::new(id).ok().filter(|fence| *fence < Fence::MAX);
        fence.ok_or_else(|| Scene::no_higher_fence(&self.claim.key).into())
    }
}

/// What statements ask of a claim.
pub(crate) fn of(claim: &Claim) -> Values<'_> {
    Values {
        key: claim.key.as_str(),
        token: claim.token.to_string(),
        owner: claim.owner.as_str(),
        mode: claim.mode.to_string(),
        ..Values::default()
    }
}

/// Locks the row of a key, reads all its rows, and clears away those that count no more.
pub(crate) async fn enter(session: &mut Session, key: &str) -> Result<Seen, Failure> {
    let values = Values { key, ..Values::default() };
    session.execute(|sql| &sql.lock, &values).await?;
    let seen = Seen::of(&look(session, &[key]).await?)?;
    if seen.has_void {
        session.execute(|sql| &sql.bury_holders, &values).await?;
    }
    if seen.has_dead {
        session.execute(|sql| &sql.bury, &values).await?;
    }
    Ok(seen)
}

/// Brings the locked rows of some keys in line with the second table.
pub(crate) async fn leave(session: &mut Session, keys: &[&str]) -> Result<(), Failure> {
    let values = Values { keys, ..Values::default() };
    session.execute(|sql| &sql.settle, &values).await.map(drop)
}
