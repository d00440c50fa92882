//! The waist over ZooKeeper.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Cursor;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::FenceKind;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyRule;
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

use crate::claims::Mine;
use crate::client::Client;
use crate::names;

/// A client of an ensemble: the backend to build an engine on. Cloning shares the client and its
/// session.
#[derive(Clone)]
pub struct Zookeeper(Arc<Inner>);

struct Inner {
    profile: Profile,
    client: Arc<Client>,
}

impl Zookeeper {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self(Arc::new(Inner { profile: profile(client.timeout(), client.margin()), client }))
    }

    /// Carries a call to its end even if its caller is dropped: the servers may have it already (S7).
    async fn finish<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        Unattended::new(call, |rest| drop(self.0.client.runtime().spawn(rest))).await
    }
}

impl Inner {
    /// Forgets a claim that has nothing in the store.
    fn tidy(&self, claim: &Claim, mine: &Mine) {
        if matches!(mine, Mine::Nothing) {
            self.client.claims.forget(claim.token);
        }
    }
}

#[async_trait]
impl Backend for Zookeeper {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let mut mine = self.0.client.claims.get_or_new(claim.token).lock_owned().await;
        let (inner, claim) = (self.0.clone(), claim.clone());
        self.finish(async move {
            let attempt = inner.client.attempt(&claim, &mut mine).await;
            inner.tidy(&claim, &mine);
            attempt
        })
        .await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        self.0.client.keep(claims).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let Some(entry) = self.0.client.claims.get(claim.token) else {
            return Ok(Release::NotHeld);
        };
        let mut mine = entry.lock_owned().await;
        let (inner, claim) = (self.0.clone(), claim.clone());
        self.finish(async move {
            let release = inner.client.release(&claim, &mut mine).await;
            inner.tidy(&claim, &mine);
            release
        })
        .await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        self.0.client.peek(claims).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        self.0.client.inspect(key).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.client.list(prefix, cursor, limit).await
    }

    /// Takes the lock away at once. Nobody can end another's session, so asking for that does the same.
    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let session = self.0.client.session().await?;
        let line = self.0.client.line(&session, key).await?;
        let parent = names::path_of(key);
        let paths: Vec<_> =
            line.holders().iter().map(|it| format!("{parent}/{}", it.name)).collect();
        let mut holders = 0;
        for deleted in join_all(paths.iter().map(|path| session.delete(path))).await {
            holders += u64::from(deleted?);
        }
        Ok(Evicted::new(holders, 0))
    }

    /// Does nothing: the servers remove what the dead leave behind.
    async fn purge(&self) -> Result<u64> {
        Ok(0)
    }

    async fn watch(&self, claim: &Claim, _reason: WatchFor, hint: Hint) -> Result<Watch> {
        self.0.client.watch(claim, hint).await
    }

    async fn close(&self) -> Result<()> {
        self.0.client.close().await;
        Ok(())
    }
}

impl Debug for Zookeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zookeeper").finish_non_exhaustive()
    }
}

fn profile(timeout: Duration, margin: Duration) -> Profile {
    let mut profile = Profile::new("zookeeper");
    profile.lease = LeaseKind::Session;
    profile.fence = FenceKind::Native;
    profile.ttl_min = timeout;
    profile.granularity = margin;
    profile.native_queue = true;
    profile.fair = true;
    profile.shared = true;
    profile.permits = true;
    profile.wakeup = Wakeup::Push;
    // Watches are armed again after a broken connection; looking is for what nobody thought of.
    profile.poll = PollPlan {
        first: Duration::from_secs(1),
        eager: Duration::from_secs(1),
        max: Duration::from_secs(5),
    };
    profile.key_rule = KeyRule::new(names::check);
    profile
}

#[cfg(test)]
mod tests {
    use conformance_tests::assert_documented;

    use super::*;

    #[test]
    fn the_documentation_shows_the_profile() {
        assert_documented(
            &profile(Duration::from_secs(10), Duration::from_millis(2500)),
            include_str!("../docs.md"),
        );
    }
}
