//! What a lock takes at the least: two statements on one session.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use lock::Token;
use sqlx::PgConnection;

use super::connect;
use super::pause;
use crate::counting::Counts;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::order::Requests;
use crate::way::Way;

const SCHEMA: &str = "\
SET synchronous_commit = off;
SET plan_cache_mode = force_generic_plan;
SELECT pg_advisory_lock(0);
CREATE TABLE IF NOT EXISTS holders (lock_key text PRIMARY KEY, fence bigint NOT NULL, token text NOT NULL,
  owner text NOT NULL, pid int NOT NULL, acquired_at timestamptz NOT NULL);
SELECT pg_advisory_unlock(0)";

/// Takes a free key, draws a fence and says who holds it, for an exclusive lock and nothing else. Written here
/// again, not shared with the backend: the floor must not move with what stands on it.
const ATTEMPT: &str = "\
WITH got AS MATERIALIZED (SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS ok),
mark AS (
  INSERT INTO holders AS h (lock_key, fence, token, owner, pid, acquired_at)
  SELECT $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2, $3, pg_backend_pid(), clock_timestamp()
  FROM got WHERE ok
  ON CONFLICT (lock_key) DO UPDATE SET fence = greatest(h.fence + 1, excluded.fence), token = excluded.token,
    owner = excluded.owner, pid = excluded.pid, acquired_at = excluded.acquired_at
  RETURNING fence)
SELECT (SELECT fence FROM mark) FROM got";

const RELEASE: &str = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";

/// The statements on one connection, as the backend has one; nothing around them.
pub(super) struct Bare {
    connection: tokio::sync::Mutex<PgConnection>,
    /// A session may lock again what it has locked.
    held: Mutex<HashSet<String>>,
    counts: Counts,
}

impl Bare {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let mut connection = connect(&post.url).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let (held, counts) = (Mutex::default(), Counts::default());
        Ok(Self { connection: tokio::sync::Mutex::new(connection), held, counts })
    }

    /// Tells whether nobody in this process has the key.
    fn enter(&self, key: &str) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }

    fn leave(&self, key: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    async fn attempt(&self, key: &str) -> Outcome<Option<i64>> {
        self.counts.request();
        let attempt = sqlx::query_scalar(ATTEMPT).bind(key).bind(Token::random().to_string());
        let mut connection = self.connection.lock().await;
        Ok(attempt.bind("bench:1").fetch_one(&mut *connection).await?)
    }
}

impl Way for Bare {
    type Guard = String;

    async fn lock(&self, key: &str) -> Outcome<String> {
        loop {
            if self.enter(key) {
                if self.attempt(key).await?.is_some() {
                    return Ok(key.to_owned());
                }
                self.leave(key);
            }
            pause().await;
        }
    }

    async fn unlock(&self, key: String) -> Outcome {
        self.counts.request();
        let release = sqlx::query_scalar(RELEASE).bind(&key);
        let released: bool = release.fetch_one(&mut *self.connection.lock().await).await?;
        self.leave(&key);
        if released { Ok(()) } else { Err(Failure::new("a bare lock was lost")) }
    }

    /// The session keeps them all.
    async fn keep(&self, guards: &[String]) -> Outcome {
        self.counts.keep(guards.len());
        sqlx::query("SELECT 1").execute(&mut *self.connection.lock().await).await?;
        Ok(())
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.counts.requests())
    }
}
