//! The waist over a store in memory, for both kinds of client.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Cursor;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Watch;
use lock_core::WatchFor;
use lock_core::async_trait;

use crate::client::Inner;
use crate::client::Memory;
use crate::controls::Call;
use crate::store::Anchor;
use crate::store::Store;

#[async_trait]
impl Backend for Memory {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        match &self.0.session {
            Some(session) => session.attempt(&self.0.wire, claim).await,
            None => self.0.attempt(claim).await,
        }
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        match &self.0.session {
            Some(session) => session.keep(&self.0.wire, claims).await,
            None => self.0.keep(claims).await,
        }
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        match &self.0.session {
            Some(session) => session.release(&self.0.wire, claim).await,
            None => {
                self.0.wire.call(Call::Release, |state, now| state.release(now, claim, None)).await
            }
        }
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let peek = self.0.wire.call(Call::Peek, |state, now| {
            claims.iter().map(|claim| state.peek(now, claim)).collect()
        });
        peek.await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        self.0.wire.call(Call::Inspect, |state, now| state.inspect(now, key)).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let after = cursor.as_ref();
        self.0.wire.call(Call::List, |state, now| state.list(now, prefix, after, limit)).await
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        self.0.wire.call(Call::Evict, |state, now| state.evict(now, key, how)).await
    }

    async fn purge(&self) -> Result<u64> {
        self.0.wire.call(Call::Purge, |state, now| state.purge(now)).await
    }

    async fn watch(&self, claim: &Claim, _reason: WatchFor, hint: Hint) -> Result<Watch> {
        let store = self.0.wire.store();
        let bell = self.0.wire.bell(hint);
        let armed = self.0.wire.call_timeless(Call::Watch, |state| {
            let id = state.arm(claim, bell);
            Armed { store: store.clone(), key: claim.key.clone(), id }
        });
        Ok(Watch::new(armed.await?))
    }

    async fn close(&self) -> Result<()> {
        if let Some(session) = &self.0.session {
            session.close(&self.0.wire);
        }
        self.0.wire.close();
        Ok(())
    }

    fn remembers_since(&self) -> Option<BootInstant> {
        self.0.wire.store().remembers_since()
    }
}

/// Locks that each have a TTL in the store.
impl Inner {
    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let (sent, ttl) = (self.wire.sent(), self.ttl(claim));
        let tried = self.wire.call(Call::Attempt, |state, now| {
            let lease = Lease { since: sent.unwrap_or(now.at), ttl };
            Ok(state.attempt(now, claim, Anchor::Until(now.at + ttl))?.with_lease(lease))
        });
        tried.await?
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let sent = self.wire.sent();
        let keep = self.wire.call(Call::Keep, |state, now| {
            let since = sent.unwrap_or(now.at);
            let fates = claims.iter().map(|claim| {
                let lease = Lease { since, ttl: self.ttl(claim) };
                state.keep(now, claim, Anchor::Until(now.at + lease.ttl)).with_lease(lease)
            });
            fates.collect()
        });
        keep.await
    }

    fn ttl(&self, claim: &Claim) -> Duration {
        claim.ttl.max(self.profile.ttl_min)
    }
}

/// Disarms a hint when it is dropped.
struct Armed {
    store: Store,
    key: LockKey,
    id: u64,
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.store.disarm(&self.key, self.id);
    }
}
