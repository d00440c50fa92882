//! The backend: each call of the waist as one step of the store.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
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
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;
use lock_core::async_trait;

use crate::boot::Boot;
use crate::client::Client;
use crate::config::SqliteConfig;
use crate::core::Kind;
use crate::fs::Place;
use crate::statements;
use crate::store::PURGE_ROWS;

/// How often to look behind the hints, which reach every process of the host: rarely enough that an
/// idle waiter costs next to nothing, often enough that a missed hint is no outage.
const POLL_BEHIND_HINTS: PollPlan = PollPlan {
    first: Duration::from_millis(50),
    eager: Duration::from_secs(1),
    max: Duration::from_millis(250),
};

/// Locks in a SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    client: Client,
    profile: Profile,
}

/// Opens the database and returns the backend.
///
/// # Errors
///
/// `Config` if the file, its directory, its file system or its table cannot be used; `Unavailable`
/// if other processes keep it busy for too long.
///
/// # Cancel safety
///
/// Dropping the future closes the database again; file and table may have been created.
pub async fn connect(config: SqliteConfig) -> Result<Sqlite> {
    config.check()?;
    let place = Place::find(&config.path, config.any_filesystem)?;
    let local = place.local;
    let client = Client::open(config, place, Boot::read()?).await?;
    let hints = local && client.wake().descriptor().is_some();
    Ok(Sqlite { client, profile: profile(hints) })
}

/// Returns the statements that create the tables that `config` names.
///
/// # Errors
///
/// `Config` if the name cannot be a table's.
pub fn schema(config: &SqliteConfig) -> Result<String> {
    config.check()?;
    Ok(statements::schema(&config.table))
}

/// Without hints, or where those of other machines do not come, the default plan polls eagerly.
pub(crate) fn profile(hints: bool) -> Profile {
    let mut profile = Profile::new("sqlite");
    profile.shared = true;
    profile.permits = true;
    profile.fair = true;
    if hints {
        profile.wakeup = Wakeup::Push;
        profile.poll = POLL_BEHIND_HINTS;
    }
    profile
}

impl Sqlite {
    /// Returns `claim` with a TTL that the table can keep.
    fn fit(&self, claim: &Claim) -> Claim {
        let mut claim = claim.clone();
        claim.ttl = claim.ttl.clamp(self.profile.ttl_min, self.profile.ttl_max);
        claim
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let claim = self.fit(claim);
        let lease = Lease { since: self.client.boot().instant(), ttl: claim.ttl };
        self.client.step(move |store| store.attempt(&claim, lease)).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let since = self.client.boot().instant();
        let claims: Vec<Claim> = claims.iter().map(|claim| self.fit(claim)).collect();
        self.client.call(Kind::Steps, move |store| store.keep(&claims, since)).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let claim = claim.clone();
        self.client.step(move |store| store.release(&claim)).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let claims = claims.to_vec();
        self.client.call(Kind::Read, move |store| store.peek(&claims)).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let key = key.clone();
        self.client.call(Kind::Read, move |store| store.inspect(&key)).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let prefix = prefix.to_owned();
        let list = move |store: &crate::store::Store| store.list(&prefix, cursor.as_ref(), limit);
        self.client.call(Kind::Read, list).await
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let key = key.clone();
        self.client.call(Kind::Step, move |store| store.evict(&key)).await
    }

    async fn purge(&self) -> Result<u64> {
        let mut total = 0;
        loop {
            let gone = self.client.call(Kind::Steps, |store| store.purge()).await?;
            total += gone as u64;
            if gone < PURGE_ROWS {
                return Ok(total);
            }
        }
    }

    async fn watch(&self, claim: &Claim, _reason: WatchFor, hint: Hint) -> Result<Watch> {
        Ok(self.client.wake().watch(claim, hint))
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use conformance_tests::assert_documented;

    use super::*;

    #[test]
    fn the_documents_show_the_profile() {
        assert_documented(&profile(true), include_str!("docs.md"));
    }
}
