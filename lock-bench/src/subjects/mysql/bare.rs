//! What a lock takes at the least: an upsert and an update.

use std::time::Duration;

use lock::Token;
use sqlx::AssertSqlSafe;
use sqlx::MySqlPool;

use super::FEW;
use super::pause;
use super::pool;
use crate::counting::Counts;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::order::Requests;
use crate::way::Way;

const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS bare_locks (
  lock_key VARCHAR(512) CHARACTER SET utf8mb4 /*!80017 COLLATE utf8mb4_0900_bin */
    /*M! COLLATE utf8mb4_nopad_bin */ NOT NULL PRIMARY KEY,
  owner VARCHAR(255), token CHAR(32) CHARACTER SET ascii, fence BIGINT NOT NULL, acquired_at TIMESTAMP(6) NULL,
  expires_at TIMESTAMP(6) NULL, KEY (expires_at)) ENGINE=InnoDB";

/// Takes a key that is free or dead and draws a fence, for an exclusive lock and nothing else. Written here
/// again, not shared with the backend: the floor must not move with what stands on it.
const ATTEMPT: &str = "\
INSERT INTO bare_locks (lock_key, owner, token, fence, acquired_at, expires_at)
VALUES (?, 'bench:1', ?, LAST_INSERT_ID(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))), NOW(6),
  NOW(6) + INTERVAL ? MICROSECOND)
ON DUPLICATE KEY UPDATE
  fence = IF(expires_at IS NULL OR expires_at <= NOW(6), LAST_INSERT_ID(GREATEST(fence + 1, VALUES(fence))),
    fence + LAST_INSERT_ID(0)),
  acquired_at = IF(expires_at IS NULL OR expires_at <= NOW(6), NOW(6), acquired_at),
  token = IF(expires_at IS NULL OR expires_at <= NOW(6), VALUES(token), token),
  expires_at = IF(expires_at IS NULL OR expires_at <= NOW(6), VALUES(expires_at), expires_at)";

const RELEASE: &str = "\
UPDATE bare_locks SET token = NULL, expires_at = NULL WHERE lock_key = ? AND token = ? AND expires_at > NOW(6)";

/// How many renewals share a statement.
const BATCH: usize = 500;

/// The key and the token of a held lock.
type Held = (String, String);

/// The statements over as many connections as the backend has; nothing around them.
pub(super) struct Bare {
    pool: MySqlPool,
    ttl: Duration,
    counts: Counts,
}

impl Bare {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let pool = pool(&post.url, FEW).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self { pool, ttl: post.ttl, counts: Counts::default() })
    }

    fn ttl(&self) -> i64 {
        i64::try_from(self.ttl.as_micros()).unwrap_or(i64::MAX)
    }

    async fn keep_batch(&self, batch: &[Held]) -> Outcome {
        self.counts.keep(batch.len());
        let marks = vec!["?"; batch.len()].join(",");
        let sql = format!(
            "UPDATE bare_locks SET expires_at = NOW(6) + INTERVAL ? MICROSECOND \
             WHERE lock_key IN ({marks}) AND token IN ({marks}) AND expires_at > NOW(6)"
        );
        let mut keep = sqlx::query(AssertSqlSafe(sql)).bind(self.ttl());
        for (key, _) in batch {
            keep = keep.bind(key);
        }
        for (_, token) in batch {
            keep = keep.bind(token);
        }
        let kept = keep.execute(&self.pool).await?.rows_affected();
        if kept == batch.len() as u64 { Ok(()) } else { Err(lost()) }
    }
}

impl Way for Bare {
    type Guard = Held;

    async fn lock(&self, key: &str) -> Outcome<Held> {
        let token = Token::random().to_string();
        loop {
            self.counts.request();
            let attempt = sqlx::query(ATTEMPT).bind(key).bind(&token).bind(self.ttl());
            if attempt.execute(&self.pool).await?.last_insert_id() > 0 {
                return Ok((key.to_owned(), token));
            }
            pause().await;
        }
    }

    async fn unlock(&self, (key, token): Held) -> Outcome {
        self.counts.request();
        let released = sqlx::query(RELEASE).bind(key).bind(token).execute(&self.pool).await?;
        if released.rows_affected() == 1 { Ok(()) } else { Err(lost()) }
    }

    async fn keep(&self, guards: &[Held]) -> Outcome {
        for batch in guards.chunks(BATCH) {
            self.keep_batch(batch).await?;
        }
        Ok(())
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.counts.requests())
    }
}

fn lost() -> Failure {
    Failure::new("a bare lock was lost")
}
