//! Taking a lock, standing in its line, and leaving both.

use std::sync::Arc;

use etcd_client::Txn;
use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Release;
use lock_core::Result;

use crate::backend::Inner;
use crate::batch::Settled;
use crate::claims::Entry;
use crate::claims::Hanging;
use crate::error::Failure;
use crate::error::What;
use crate::lease::Class;
use crate::line;
use crate::line::Contender;
use crate::line::Line;
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
        if mine.revision.is_none() && mine.unsure.is_empty() {
            self.claims.forget(claim, entry);
        }
        Ok(outcome?)
    }

    async fn attempt_once(&self, claim: &Claim, entry: &Entry) -> Result<Attempt, Failure> {
        let full = self.hanging(self.leases.class(claim.ttl)).await?;
        let mine = entry.mine();
        if let (Some(revision), Some(mode)) = (mine.revision, mine.mode) {
            claim.check_beside(claim.token, mode)?;
            let from = mine.lease.as_ref().map_or(0, |lease| lease.id);
            let turn = requests::turn(claim, &entry.own, from, full.id, revision);
            let answer = self.put(claim, turn, &[&full], entry).await?;
            if answer.succeeded() {
                return self.acquired(claim, revision, &full, entry);
            }
            let line = self.line_of(&claim.key, &answer).await?;
            if let Some(attempt) = self.placed(claim, &full, entry, &line).await? {
                return Ok(attempt);
            }
            // Its key is gone: it begins afresh.
        }
        // Those who wait hang on a shorter lease, so that the dead are skipped within seconds.
        let class = self.leases.class(claim.place_ttl());
        if claim.queue
            && let Some(granted) = self.leases.at_hand(&class)
        {
            let short = Hanging { class, id: granted.id, lease: granted.lease };
            let take = requests::take_or_join(claim, &entry.own, full.id, short.id);
            let answer = self.put(claim, take, &[&full, &short], entry).await?;
            return self.joined(claim, &full, short, entry, answer).await;
        }
        let held = self.try_once(claim, &full, entry).await?;
        if let Some(attempt) =
            held.filter(|it| !claim.queue || matches!(it, Attempt::Acquired { .. }))
        {
            return Ok(attempt);
        }
        let short = self.hanging(class).await?;
        let join = requests::take_or_join(claim, &entry.own, full.id, short.id);
        let answer = self.put(claim, join, &[&full, &short], entry).await?;
        self.joined(claim, &full, short, entry, answer).await
    }

    /// Takes in what came of taking the lock or standing in its line.
    async fn joined(
        &self,
        claim: &Claim,
        full: &Hanging,
        short: Hanging,
        entry: &Entry,
        answer: Settled,
    ) -> Result<Attempt, Failure> {
        if answer.succeeded() {
            return self.acquired(claim, answer.revision, full, entry);
        }
        let line = self.line_of(&claim.key, &answer).await?;
        let lease = line.place(&entry.own).map(|place| line.contenders[place].lease);
        // An earlier attempt whose answer was lost may have found the lock free.
        let is_full = lease == Some(full.id);
        entry.state().lease = Some(if is_full { full.clone() } else { short });
        let placed = self.placed(claim, full, entry, &line).await?;
        Ok(placed.unwrap_or_else(|| self.held(&line, None)))
    }

    /// Takes a lock that would be had at once, and leaves nothing in its line if it would not; `None` if
    /// it has to stand in line for a moment to find out.
    async fn try_once(
        &self,
        claim: &Claim,
        full: &Hanging,
        entry: &Entry,
    ) -> Result<Option<Attempt>, Failure> {
        let mut txn = requests::take_free(claim, &entry.own, full.id);
        for _ in 0..TRIES {
            let answer = self.put(claim, txn, &[full], entry).await?;
            if answer.succeeded() {
                return self.acquired(claim, answer.revision, full, entry).map(Some);
            }
            let line = self.line_of(&claim.key, &answer).await?;
            if line.place(&entry.own).is_some() {
                // An earlier attempt whose answer was lost has put it.
                return Ok(None);
            }
            line.check(claim, line.contenders.len())?;
            if !line.admits(claim.mode) {
                return Ok(Some(self.held(&line, None)));
            }
            txn = requests::take_unchanged(claim, &entry.own, full.id, line.revision);
        }
        Ok(None)
    }

    /// Takes in where in the line the claim stands; `None` if it does not.
    async fn placed(
        &self,
        claim: &Claim,
        full: &Hanging,
        entry: &Entry,
        line: &Line,
    ) -> Result<Option<Attempt>, Failure> {
        let Some(place) = line.place(&entry.own) else {
            entry.state().lost();
            return Ok(None);
        };
        let Contender { revision, mode, lease, .. } = line.contenders[place];
        entry.state().stands(revision, mode);
        claim.check_beside(claim.token, mode)?;
        let checked = line.check(claim, place);
        if checked.is_ok() && place < line.holding() {
            if lease != full.id {
                let move_to = requests::move_to(claim, &entry.own, lease, full.id, revision);
                let moved = self.put(claim, move_to, &[full], entry).await?;
                if !moved.succeeded() {
                    entry.state().lost();
                    return Ok(None);
                }
            }
            return self.acquired(claim, revision, full, entry).map(Some);
        }
        if checked.is_err() || !claim.queue {
            let delete = requests::delete(&entry.own, revision);
            self.batches.settle(&claim.key, delete).await?;
            entry.state().lost();
            checked?;
            return Ok(Some(self.held(line, None)));
        }
        entry.state().blocked = Some((line.blocker(place), line.revision));
        Ok(Some(self.held(line, Some(place as u64))))
    }

    /// A lease of `class` with a good part of its time left.
    async fn hanging(&self, class: Arc<Class>) -> Result<Hanging, Failure> {
        let granted = self.leases.fresh(&class).await?;
        Ok(Hanging { class, id: granted.id, lease: granted.lease })
    }

    /// Sends a transaction that may hang the claim's key on one of `leases`, and notes what it means if
    /// there is no answer.
    async fn put(
        &self,
        claim: &Claim,
        txn: Txn,
        leases: &[&Hanging],
        entry: &Entry,
    ) -> Result<Settled, Failure> {
        let answer = self.batches.settle(&claim.key, txn).await;
        if answer.is_err() {
            entry.state().doubtful = true;
        }
        match answer.as_ref().map_err(|failure| failure.what) {
            Ok(settled) => entry.state().seen = settled.revision,
            Err(What::Silence) => leases.iter().for_each(|lease| entry.state().unsure(lease)),
            Err(What::NoLease) => {
                for lease in leases {
                    self.leases.verify(&lease.class, lease.id).await?;
                }
            }
            Err(_) => {}
        }
        answer
    }

    fn acquired(
        &self,
        claim: &Claim,
        revision: i64,
        full: &Hanging,
        entry: &Entry,
    ) -> Result<Attempt, Failure> {
        let mut mine = entry.state();
        mine.stands(revision, claim.mode);
        (mine.holds, mine.blocked) = (true, None);
        mine.lease = Some(full.clone());
        let renewed = full.class.latest().filter(|granted| granted.id == full.id);
        let lease = renewed.map_or(full.lease, |granted| granted.lease);
        Ok(Attempt::Acquired { fence: line::fence(revision, self.fence_base)?, lease })
    }

    fn held(&self, line: &Line, ahead: Option<u64>) -> Attempt {
        Attempt::Held { holders: line.holders(self.fence_base), retry_in: None, ahead }
    }

    pub(crate) async fn release(&self, claim: &Claim, entry: &Entry) -> Result<Release> {
        let deleted = self.delete(claim, entry).await;
        if !matches!(deleted, Ok(true)) {
            entry.state().doubtful = true;
        }
        let deleted = deleted?;
        self.claims.forget(claim, entry);
        Ok(if deleted { Release::Released } else { Release::NotHeld })
    }

    /// Deletes the claim's key. If an attempt may still be under way, it is given up for good: closing
    /// its connection would not prove that the server has not got it.
    async fn delete(&self, claim: &Claim, entry: &Entry) -> Result<bool, Failure> {
        let mine = entry.mine();
        let mut deleted = false;
        for lease in &mine.unsure {
            match self.txn(requests::delete_and_give_up(claim, &entry.own, *lease)).await {
                // The attempt cannot be carried out either without its lease.
                Err(failure) if failure.what == What::NoLease => {}
                answer => deleted |= answer?.succeeded(),
            }
        }
        let delete = match mine.revision.filter(|_| mine.unsure.is_empty()) {
            Some(revision) => requests::delete(&entry.own, revision),
            None if deleted => return Ok(true),
            None => requests::delete_any(&entry.own),
        };
        Ok(self.batches.settle(&claim.key, delete).await?.succeeded())
    }
}
