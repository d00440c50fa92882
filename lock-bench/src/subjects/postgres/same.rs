//! The backend's own two statements of a free key, with nothing around them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use lock::LockOptions;
use lock::Token;
use lock_postgres::DEFAULT_SCHEMA;
use lock_postgres::of_a_free_key;
use sqlx::AssertSqlSafe;
use sqlx::PgConnection;
use sqlx::Row as _;

use super::connect;
use super::pause;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::way::Way;

/// As the backend sets its session.
const GREET: &str = "\
SET synchronous_commit = off; SET search_path = pg_catalog; SET plan_cache_mode = force_generic_plan; SET jit = off";

/// One connection, which the tasks share.
pub(super) struct Same {
    connection: tokio::sync::Mutex<PgConnection>,
    statements: [String; 2],
    pid: i32,
    /// A session may lock again what it has locked.
    held: Mutex<HashSet<String>>,
}

impl Same {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        // The first lock creates the tables.
        let locks = lock::connect(&post.url).await?;
        locks.lock("first", &LockOptions::new()).await?.unlock().await?;
        locks.shutdown(Duration::from_secs(5)).await?;
        let mut connection = connect(&post.url).await?;
        sqlx::raw_sql(GREET).execute(&mut connection).await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        let (connection, statements) =
            (tokio::sync::Mutex::new(connection), of_a_free_key(DEFAULT_SCHEMA)?);
        Ok(Self { connection, statements, pid, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how many are held with this key; `None` if it is held in this process.
    fn enter(&self, key: &str) -> Option<usize> {
        let mut held = self.held();
        held.insert(key.to_owned()).then_some(held.len())
    }

    fn leave(&self, key: &str) {
        self.held().remove(key);
    }

    /// Tries to take a key; the session's time-out begins with the first that it holds.
    async fn attempt(&self, key: &str, is_first: bool) -> Outcome<Option<i64>> {
        let [acquire, _] = &self.statements;
        let acquire = sqlx::query(AssertSqlSafe(acquire.as_str())).bind(key);
        let acquire = acquire.bind(Token::random().to_string()).bind("bench:1").bind(0_i64);
        let acquire = acquire.bind(self.pid).bind(1_i32).bind(if is_first { "30000" } else { "" });
        let row = acquire.fetch_one(&mut *self.connection.lock().await).await?;
        let fence: Option<i64> = row.try_get(3)?;
        Ok(fence.map(|_| row.try_get(1)).transpose()?)
    }
}

impl Way for Same {
    type Guard = (i64, String);

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        loop {
            if let Some(held) = self.enter(key) {
                if let Some(num) = self.attempt(key, held == 1).await? {
                    return Ok((num, key.to_owned()));
                }
                self.leave(key);
            }
            pause().await;
        }
    }

    async fn unlock(&self, (num, key): Self::Guard) -> Outcome {
        let [_, release] = &self.statements;
        let is_last = self.held().len() == 1;
        let release = sqlx::query(AssertSqlSafe(release.as_str())).bind(num).bind(&key);
        let release = release.bind(if is_last { "0" } else { "" });
        let row = release.fetch_one(&mut *self.connection.lock().await).await?;
        self.leave(&key);
        let told: Option<&str> = row.try_get(1)?;
        told.map(drop).ok_or_else(|| Failure::new("a bare lock was lost"))
    }

    /// The session keeps them all.
    async fn keep(&self, _guards: &[Self::Guard]) -> Outcome {
        sqlx::query("SELECT 1").execute(&mut *self.connection.lock().await).await?;
        Ok(())
    }
}
