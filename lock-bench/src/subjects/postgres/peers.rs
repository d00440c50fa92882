//! What others use: a connection for each lock.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgAdvisoryLock;
use sqlx::postgres::PgAdvisoryLockGuard;
use tokio::time::sleep;

use super::pool;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::way::Way;

/// How often who polls tries again.
const EVERY: Duration = Duration::from_millis(10);

/// The lock of the driver, which waits in the server.
pub(super) struct Sqlx(PgPool);

impl Sqlx {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        pool(&post.url).await.map(Self)
    }
}

impl Way for Sqlx {
    type Guard = PgAdvisoryLockGuard<PoolConnection<Postgres>>;

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        let connection = self.0.acquire().await?;
        Ok(PgAdvisoryLock::new(key).acquire(connection).await?)
    }

    async fn unlock(&self, guard: Self::Guard) -> Outcome {
        guard.release_now().await?;
        Ok(())
    }
}

/// A lock as most people write it: no fence, nobody is woken.
pub(super) struct Polling(PgPool);

impl Polling {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        pool(&post.url).await.map(Self)
    }
}

impl Way for Polling {
    type Guard = (PoolConnection<Postgres>, String);

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        loop {
            let mut connection = self.0.acquire().await?;
            let attempt =
                sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))");
            if attempt.bind(key).fetch_one(&mut *connection).await? {
                return Ok((connection, key.to_owned()));
            }
            drop(connection);
            sleep(EVERY).await;
        }
    }

    async fn unlock(&self, (mut connection, key): Self::Guard) -> Outcome {
        let release = sqlx::query_scalar("SELECT pg_advisory_unlock(hashtextextended($1, 0))");
        let released = release.bind(key).fetch_one(&mut *connection).await?;
        if released { Ok(()) } else { Err(Failure::new("a polled lock was lost")) }
    }
}
