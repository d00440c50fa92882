//! Keeping what is held and what stands in line.

use std::sync::Arc;

use etcd_client::TxnOpResponse;
use lock_core::Claim;
use lock_core::Kept;
use lock_core::Result;

use crate::backend::Inner;
use crate::batch::Settled;
use crate::claims::Entry;
use crate::claims::Hanging;
use crate::claims::Mine;
use crate::error::Failure;
use crate::error::What;
use crate::lease::Granted;
use crate::look::Answer;
use crate::requests;

/// What is known of one claim of a batch, and the lease that it hangs on and that has just been renewed.
struct Living {
    entry: Arc<Entry>,
    mine: Mine,
    granted: Granted,
}

impl Inner {
    /// Renews each lease once, then looks whether the keys are still there: an old server may
    /// acknowledge a lease that it has revoked, and a watch is only a hint.
    pub(crate) async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>, Failure> {
        let mut living = Vec::with_capacity(claims.len());
        for claim in claims {
            living.push(self.renew(claim).await?);
        }
        let with = |holds: bool| {
            claims.iter().zip(&living).filter(move |(_, living)| {
                living.as_ref().is_some_and(|living| living.mine.holds == holds)
            })
        };
        let lines = self.lines(with(false).map(|(claim, _)| claim)).await?;
        let held = with(true).filter_map(|(_, living)| living.as_ref());
        let found =
            self.read(held.map(|living| requests::find(&living.entry.own)).collect()).await?;
        let mut found = found.iter();
        let kept = |(claim, living): (&Claim, &Option<Living>)| {
            let Some(Living { entry, mine, granted }) = living else { return Kept::Gone };
            if mine.holds {
                let Some(Answer { found, revision }) = found.next() else { return Kept::Unknown };
                let own = found.kvs().first().map(|kv| (Some(kv.create_revision()), kv.lease()));
                let Some((_, lease)) = own.filter(|(created, _)| *created == mine.revision) else {
                    return Kept::Gone;
                };
                entry.state().seen = *revision;
                // Somebody may have put it there anew: on another lease, or on none.
                let same = lease == granted.id;
                return if same { Kept::Renewed { lease: granted.lease } } else { Kept::Unknown };
            }
            let line = &lines[&claim.key];
            match line.place(&entry.own) {
                Some(place) if place < line.holding() => Kept::Queued { ahead: 0 },
                Some(place) => Kept::Queued { ahead: place as u64 },
                None => Kept::Gone,
            }
        };
        Ok(claims.iter().zip(&living).map(kept).collect())
    }

    /// Renews the lease of one claim, or moves it to that of another TTL; `None` if there is nothing left
    /// of it.
    async fn renew(&self, claim: &Claim) -> Result<Option<Living>, Failure> {
        let Some(entry) = self.claims.find(claim.token) else { return Ok(None) };
        let mine = entry.mine();
        let (Some(revision), Some(Hanging { class, id, .. })) = (mine.revision, mine.lease.clone())
        else {
            return Ok(None);
        };
        let Some(granted) = self.leases.keep(&class, id).await? else { return Ok(None) };
        let wanted = self.leases.class(claim.ttl);
        if !mine.holds || Arc::ptr_eq(&wanted, &class) {
            return Ok(Some(Living { entry, mine, granted }));
        }
        let granted = self.leases.fresh(&wanted).await?;
        let moved = self.moved(claim, &entry.own, revision, id, granted.id).await;
        if moved.as_ref().is_err_and(|failure| failure.what == What::NoLease) {
            wanted.ended(granted.id);
        }
        if !moved? {
            return Ok(None);
        }
        let lease = granted.lease;
        entry.state().lease = Some(Hanging { class: wanted, id: granted.id, lease });
        Ok(Some(Living { entry, mine, granted }))
    }

    /// Moves a key to another lease from wherever it is, as far as is known from `from`; false if it is gone.
    async fn moved(
        &self,
        claim: &Claim,
        own: &[u8],
        revision: i64,
        mut from: i64,
        to: i64,
    ) -> Result<bool, Failure> {
        while from != to {
            let Settled { answer, .. } =
                self.txn(requests::move_to(claim, own, from, to, revision)).await?;
            if answer.succeeded() {
                return Ok(true);
            }
            let Some(TxnOpResponse::Get(found)) = answer.op_responses().pop() else {
                return Err(Failure::nonsense());
            };
            match found.kvs().first() {
                // An earlier move whose answer was lost.
                Some(kv) if kv.create_revision() == revision => from = kv.lease(),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
