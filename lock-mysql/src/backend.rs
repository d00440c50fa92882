//! The backend: each call of the waist as one step of the store.

use std::fmt;
use std::fmt::Debug;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Clock;
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

use crate::attempt::Try;
use crate::client::Client;
use crate::config::Config;
use crate::hold::GiveBack;
use crate::hold::Keep;
use crate::look::Inspect;
use crate::look::List;
use crate::look::Look;
use crate::statements::BATCH;
use crate::tend::Evict;
use crate::tend::Purge;
use crate::tend::PurgeClaims;

/// Locks in a table of MySQL or MariaDB.
pub struct MySql {
    client: Client,
    profile: Profile,
}

impl MySql {
    pub(crate) async fn connect(config: Config) -> Result<Self> {
        Ok(Self { client: Client::open(config).await?, profile: profile() })
    }

    /// Returns `claim` with a TTL that the table can keep.
    fn fit(&self, claim: &Claim) -> Claim {
        let mut claim = claim.clone();
        claim.ttl = claim.ttl.clamp(self.profile.ttl_min, self.profile.ttl_max);
        claim
    }
}

#[async_trait]
impl Backend for MySql {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let claim = self.fit(claim);
        let lease = Lease { since: self.client.now(), ttl: claim.ttl };
        self.client.run(Try { claim, lease }).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let claims = claims.iter().map(|claim| self.fit(claim)).collect();
        self.client.run(Keep { claims, clock: Clock::system() }).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        self.client.settled(claim.token).await;
        self.client.run(GiveBack(claim.clone())).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        self.client.run(Look(claims.to_vec())).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        self.client.run(Inspect(key.clone())).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.client.run(List { prefix: prefix.to_owned(), after: cursor, limit }).await
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        self.client.run(Evict(key.clone())).await
    }

    async fn purge(&self) -> Result<u64> {
        let mut total = 0;
        loop {
            let gone = self.client.run(PurgeClaims).await?;
            total += gone;
            if gone < BATCH as u64 {
                break;
            }
        }
        let mut next = Some(String::new());
        while let Some(after) = next {
            let purged = self.client.run(Purge { after }).await?;
            total += purged.gone;
            next = purged.next;
        }
        Ok(total)
    }

    async fn watch(&self, _claim: &Claim, _reason: WatchFor, _hint: Hint) -> Result<Watch> {
        Ok(Watch::none())
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await;
        Ok(())
    }
}

impl Debug for MySql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySql").finish_non_exhaustive()
    }
}

/// Nobody tells of a release: the default plan polls eagerly at first.
fn profile() -> Profile {
    let mut profile = Profile::new("mysql");
    profile.shared = true;
    profile.permits = true;
    profile.fair = true;
    profile.batch = BATCH;
    profile
}

#[cfg(test)]
mod tests {
    use conformance_tests::assert_documented;

    use super::*;

    #[test]
    fn the_documents_show_the_profile() {
        assert_documented(&profile(), include_str!("docs.md"));
    }
}
