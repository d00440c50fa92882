//! What others use: the server's own lock, which its connection holds.

use sqlx::MySql;
use sqlx::MySqlPool;
use sqlx::pool::PoolConnection;

use super::MANY;
use super::pool;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::way::Way;

/// `GET_LOCK` and `RELEASE_LOCK`.
pub(super) struct GetLock(MySqlPool);

impl GetLock {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        pool(&post.url, MANY).await.map(Self)
    }
}

impl Way for GetLock {
    type Guard = (PoolConnection<MySql>, String);

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        let mut connection = self.0.acquire().await?;
        // On MariaDB there is no way to wait for ever.
        let lock = sqlx::query_scalar("SELECT GET_LOCK(?, 3600)").bind(key);
        let answer: Option<i64> = lock.fetch_one(&mut *connection).await?;
        answered(answer).map(|()| (connection, key.to_owned()))
    }

    async fn unlock(&self, (mut connection, key): Self::Guard) -> Outcome {
        let release = sqlx::query_scalar("SELECT RELEASE_LOCK(?)").bind(key);
        answered(release.fetch_one(&mut *connection).await?)
    }
}

fn answered(answer: Option<i64>) -> Outcome {
    if answer == Some(1) { Ok(()) } else { Err(Failure::new("the server refused a lock")) }
}
