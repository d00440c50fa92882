//! Other crates with locks on Redis.

use std::time::Duration;

use distkit::DistkitRedisKey;
use distkit::lock::LockGuardState;
use distkit::lock::LockOptions;
use distkit::lock::Mutex;
use distkit::lock::MutexGuard;
use futures_util::future::try_join_all;
use redis::aio::ConnectionManager;
use rslock::LockGuard;
use rslock::LockManager;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::way::Way;

/// How many renewals are under way at a time where each is a call.
const AT_ONCE: usize = 64;

/// Redlock, here over one server. It tells nobody whether a release did anything.
pub(super) struct RsLock {
    locks: LockManager,
    ttl: Duration,
}

impl RsLock {
    pub(super) fn open(post: &Post) -> Outcome<Self> {
        Ok(Self { locks: LockManager::new(vec![post.url.as_str()]), ttl: post.ttl })
    }
}

impl Way for RsLock {
    type Guard = LockGuard;

    async fn lock(&self, key: &str) -> Outcome<LockGuard> {
        Ok(self.locks.acquire(key, self.ttl).await?)
    }

    async fn unlock(&self, guard: LockGuard) -> Outcome {
        guard.release().await;
        Ok(())
    }

    async fn keep(&self, guards: &[LockGuard]) -> Outcome {
        for batch in guards.chunks(AT_ONCE) {
            let extends = batch.iter().map(|guard| self.locks.extend(&guard.lock, self.ttl));
            try_join_all(extends).await?;
        }
        Ok(())
    }
}

/// A lock on one server that is renewed by a task of its own.
pub(super) struct Distkit {
    connection: ConnectionManager,
    ttl: Duration,
}

impl Distkit {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let client = super::client(&post.url)?;
        Ok(Self { connection: client.get_connection_manager().await?, ttl: post.ttl })
    }
}

impl Way for Distkit {
    type Guard = MutexGuard;

    async fn lock(&self, key: &str) -> Outcome<MutexGuard> {
        let key = DistkitRedisKey::try_from(key.to_owned())?;
        let options = LockOptions::builder(key, self.connection.clone()).ttl(self.ttl).build();
        Ok(Mutex::new(options).lock().await?)
    }

    async fn unlock(&self, guard: MutexGuard) -> Outcome {
        match guard.release().await? {
            LockGuardState::Released => Ok(()),
            _ => Err(Failure::new("a lock of distkit was lost")),
        }
    }
}
