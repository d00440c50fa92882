//! Taking a lock, standing in its line, and leaving both.

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Release;
use lock_core::Result;

use crate::backend::Inner;
use crate::claims::Entry;
use crate::claims::Hanging;
use crate::claims::Mine;
use crate::error::Failure;
use crate::error::What;
use crate::keys;
use crate::lease::Granted;
use crate::line;
use crate::line::Line;
use crate::look::revision;
use crate::requests;

/// How often a line that admits a claim may change before it stands in line to get in.
const TRIES: usize = 8;

impl Inner {
    pub(crate) async fn attempt(&self, claim: &Claim, entry: &Entry) -> Result<Attempt> {
        let mut outcome = self.attempt_once(claim, entry).await;
        if outcome.as_ref().is_err_and(|failure| failure.what == What::NoLease) {
            // Nothing was done: the lease had ended. Once more, with a new one.
            outcome = self.attempt_once(claim, entry).await;
        }
        let mine = entry.mine();
        if mine.revision.is_none() && !mine.unsure {
            self.claims.forget(claim.token);
        }
        Ok(outcome?)
    }

    async fn attempt_once(&self, claim: &Claim, entry: &Entry) -> Result<Attempt, Failure> {
        let class = self.leases.class(claim.ttl);
        let granted = self.leases.fresh(&class).await?;
        entry.state().lease = Some(Hanging { class: class.clone(), id: granted.id });
        let outcome = self.attempt_on(claim, granted, entry).await;
        match outcome.as_ref().map_err(|failure| failure.what) {
            Err(What::Silence) => entry.state().unsure = true,
            Err(What::NoLease) => class.ended(granted.id),
            _ => {}
        }
        outcome
    }

    async fn attempt_on(
        &self,
        claim: &Claim,
        granted: Granted,
        entry: &Entry,
    ) -> Result<Attempt, Failure> {
        if !claim.queue
            && entry.mine().revision.is_none()
            && let Some(attempt) = self.try_once(claim, granted, entry).await?
        {
            return Ok(attempt);
        }
        let answer = self.txn(requests::join(claim, granted.id)).await?;
        let line = self.line_of(&claim.key, &answer).await?;
        self.placed(claim, granted, entry, line).await
    }

    /// Takes a lock that would be had at once, and leaves nothing in its line if it would not; `None` if
    /// it has to stand in line for a moment to find out.
    async fn try_once(
        &self,
        claim: &Claim,
        granted: Granted,
        entry: &Entry,
    ) -> Result<Option<Attempt>, Failure> {
        let mut txn = requests::take_free(claim, granted.id);
        for _ in 0..TRIES {
            let answer = self.txn(txn).await?;
            if answer.succeeded() {
                return self.acquired(revision(&answer), granted, &mut entry.state()).map(Some);
            }
            let line = self.line_of(&claim.key, &answer).await?;
            if line.place(&keys::own(claim)).is_some() {
                // An earlier attempt whose answer was lost has put it.
                return Ok(None);
            }
            line.check(claim, line.contenders.len())?;
            if !line.admits(claim.mode) {
                return Ok(Some(self.held(&line, None)));
            }
            txn = requests::take_unchanged(claim, granted.id, line.revision);
        }
        Ok(None)
    }

    /// Takes in where in the line the claim stands.
    async fn placed(
        &self,
        claim: &Claim,
        granted: Granted,
        entry: &Entry,
        line: Line,
    ) -> Result<Attempt, Failure> {
        let Some(place) = line.place(&keys::own(claim)) else {
            // Taken away between two steps: the next attempt stands in line afresh.
            entry.state().lost();
            return Ok(self.held(&line, None));
        };
        let revision = line.contenders[place].revision;
        entry.state().revision = Some(revision);
        let checked = line.check(claim, place + 1);
        if checked.is_ok() && place < line.holding() {
            return self.acquired(revision, granted, &mut entry.state());
        }
        if checked.is_err() || !claim.queue {
            self.txn(requests::delete(&keys::own(claim), revision)).await?;
            entry.state().lost();
            return checked.map_or_else(|error| Err(error.into()), |()| Ok(self.held(&line, None)));
        }
        entry.state().blocked = Some((line.blocker(place), line.revision));
        Ok(self.held(&line, Some(place as u64)))
    }

    fn acquired(&self, revision: i64, granted: Granted, mine: &mut Mine) -> Result<Attempt, Failure> {
        (mine.revision, mine.holds, mine.blocked) = (Some(revision), true, None);
        let fence = line::fence(revision, self.fence_base)?;
        Ok(Attempt::Acquired { fence, lease: granted.lease })
    }

    fn held(&self, line: &Line, ahead: Option<u64>) -> Attempt {
        Attempt::Held { holders: line.holders(self.fence_base), retry_in: None, ahead }
    }

    pub(crate) async fn release(&self, claim: &Claim, entry: &Entry) -> Result<Release> {
        let deleted = self.delete(claim, &entry.mine()).await?;
        self.claims.forget(claim.token);
        Ok(if deleted { Release::Released } else { Release::NotHeld })
    }

    /// Deletes the claim's key. If an attempt may still be under way, it is given up for good: closing
    /// its connection would not prove that the server has not got it.
    async fn delete(&self, claim: &Claim, mine: &Mine) -> Result<bool, Failure> {
        if let Some(lease) = mine.lease.as_ref().filter(|_| mine.unsure) {
            match self.txn(requests::delete_and_give_up(claim, lease.id)).await {
                // The attempt cannot be carried out either without its lease.
                Err(failure) if failure.what == What::NoLease => {}
                answer => return Ok(answer?.succeeded()),
            }
        }
        let delete = match mine.revision.filter(|_| !mine.unsure) {
            Some(revision) => requests::delete(&keys::own(claim), revision),
            None => requests::delete_any(claim),
        };
        Ok(self.txn(delete).await?.succeeded())
    }
}
