//! The waist over etcd.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::Txn;
use etcd_client::TxnOp;
use etcd_client::TxnOpResponse;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::FenceKind;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::LeaseKind;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Unattended;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;
use lock_core::async_trait;

use crate::batch::Batches;
use crate::claims::Claims;
use crate::client::Route;
use crate::error::Failure;
use crate::hub::Hub;
use crate::hub::Target;
use crate::keys;
use crate::lease::Leases;
use crate::line::Blocker;

/// A client of an etcd cluster: the backend to build an engine on. Cloning shares the client.
#[derive(Clone)]
pub struct Etcd(Arc<Inner>);

pub(crate) struct Inner {
    profile: Profile,
    pub(crate) route: Arc<Route>,
    pub(crate) leases: Leases,
    pub(crate) batches: Batches,
    pub(crate) claims: Claims,
    hub: Hub,
    /// Added to every create revision.
    pub(crate) fence_base: u64,
}

impl Etcd {
    /// Learns what the cluster can do; `base` is what is to be added to every fence.
    pub(crate) async fn open(route: Route, base: Option<u64>) -> Result<Self> {
        let route = Arc::new(route);
        let fence_base = fence_base(&route, base).await?;
        let leases = Leases::new(route.clone()).await?;
        let profile = profile(leases.least);
        let (hub, claims) = (Hub::start(&route), Claims::default());
        let batches = Batches::new(route.clone());
        Ok(Self(Arc::new(Inner { profile, route, leases, batches, claims, hub, fence_base })))
    }

    /// Carries a step out to its end also if its caller goes away: the server may have it already.
    async fn finish<T: Send + 'static>(
        &self,
        step: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        Unattended::new(step, |rest| drop(self.0.route.runtime().spawn(rest))).await
    }
}

/// Reads what is added to every fence; the first who names it sets it.
async fn fence_base(route: &Route, base: Option<u64>) -> Result<u64> {
    let read = TxnOp::get(keys::FENCE_BASE, None);
    let txn = match base {
        Some(base) => Txn::new()
            .when([Compare::create_revision(keys::FENCE_BASE, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(keys::FENCE_BASE, base.to_string(), None), read.clone()])
            .or_else([read]),
        None => Txn::new().and_then([read]),
    };
    let answer = route.settle(txn).await?.answer;
    let Some(TxnOpResponse::Get(found)) = answer.op_responses().pop() else {
        return Err(Failure::corrupt("the store did not say what to add to fences").into());
    };
    let Some(kv) = found.kvs().first() else { return Ok(0) };
    let stored = kv.value_str().ok().and_then(|text| text.parse().ok());
    match (stored, base) {
        (None, _) => Err(Failure::corrupt("the store's fence_base is no number").into()),
        (Some(stored), Some(base)) if stored != base => Err(Error::new(
            ErrorKind::Config,
            format!("the store has fence_base={stored} already, which cannot be changed to {base}"),
        )),
        (Some(stored), _) => Ok(stored),
    }
}

fn profile(least: Duration) -> Profile {
    let mut profile = Profile::new("etcd");
    profile.lease = LeaseKind::Session;
    profile.fence = FenceKind::Native;
    profile.ttl_min = least;
    profile.native_queue = true;
    profile.fair = true;
    profile.shared = true;
    profile.permits = true;
    profile.wakeup = Wakeup::Push;
    profile.watches_holders = true;
    let second = Duration::from_secs(1);
    profile.poll = PollPlan { first: second, eager: second, max: second * 5 };
    profile
}

#[async_trait]
impl Backend for Etcd {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let (entry, turn) = self.0.claims.enter(claim).await;
        let (inner, claim) = (self.0.clone(), claim.clone());
        self.finish(async move {
            let _turn = turn;
            inner.attempt(&claim, &entry).await
        })
        .await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        Ok(self.0.keep(claims).await?)
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let Some((entry, turn)) = self.0.claims.enter_known(claim.token).await else {
            return Ok(Release::NotHeld);
        };
        let (inner, claim) = (self.0.clone(), claim.clone());
        self.finish(async move {
            let _turn = turn;
            inner.release(&claim, &entry).await
        })
        .await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        Ok(self.0.peek(claims).await?)
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        Ok(self.0.state(key.as_str(), &self.0.line(key).await?))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        Ok(self.0.list(prefix, cursor, limit).await?)
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        Ok(self.0.evict(key, how).await?)
    }

    async fn purge(&self) -> Result<u64> {
        // What hung on an ended lease is gone with it.
        Ok(0)
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        let entry = self.0.claims.find(claim.token);
        let mine = entry.as_ref().map(|entry| entry.mine()).unwrap_or_default();
        let own = |after| {
            let key = entry.as_ref().map(|entry| entry.own.clone()).unwrap_or_default();
            Target::Key { key, after }
        };
        match (reason, mine.revision, mine.blocked) {
            // Not since it came: the store may have forgotten what happened then.
            (WatchFor::Eviction, Some(_), _) => Ok(self.0.hub.hold(own(mine.seen), &hint)),
            (WatchFor::Eviction, None, _) => Ok(Watch::none()),
            (WatchFor::Release, Some(_), Some((blocker, after))) => {
                let target = match blocker {
                    Blocker::One(key) => Target::Key { key, after },
                    Blocker::Any => any(&claim.key, after),
                };
                // Its own key too: who loses its place must take another.
                Ok(self.0.hub.wait_for([target, own(after)], &hint))
            }
            (WatchFor::Release, ..) => {
                let line = self.0.line(&claim.key).await?;
                Ok(self.0.hub.wait_for([any(&claim.key, line.revision)], &hint))
            }
        }
    }

    async fn close(&self) -> Result<()> {
        self.0.hub.close();
        Ok(self.0.leases.close().await?)
    }
}

fn any(key: &LockKey, after: i64) -> Target {
    let (from, to) = keys::range(key);
    Target::Range { from, to, after }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("route", &self.0.route).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use conformance_tests::assert_documented;

    use super::*;

    #[test]
    fn the_documents_show_the_profile() {
        assert_documented(&profile(Duration::from_secs(2)), include_str!("../docs.md"));
    }
}
