//! What a lock takes at the least: the two scripts of the backend, and the two commands of a plain lock.

use std::time::Duration;

use lock::Token;
use redis::Cmd;
use redis::Pipeline;
use redis::Script;
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::connect;
use super::pause;
use crate::counting::Counts;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::order::Requests;
use crate::way::Way;

/// Takes a free key and draws a fence, for an exclusive lock and nothing else. Written here again, not
/// shared with the backend: the floor must not move with what stands on it.
const ATTEMPT: &str = "\
if not ARGV[5] and redis.call('EXISTS', KEYS[1], KEYS[4]) == 0 then
  local time = redis.call('TIME')
  local micros = time[1] * 1000000 + time[2]
  local last = tonumber(redis.call('HGET', KEYS[2], 'f') or 0)
  local fence = micros
  if not (last and last < micros) then
    if not (last and last < 9007199254740991) then
      return redis.error_reply('LOCKCORRUPT the fence cannot rise any more')
    end
    fence = last + 1
  end
  local digits = string.format('%.0f', fence)
  local at = fence == micros and digits or string.format('%.0f', micros)
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('HSET', KEYS[2], 'f', digits, 't', ARGV[1], 'o', ARGV[3], 'a', at)
  if last < micros - micros % 3600000000 or fence > micros or tonumber(ARGV[2]) > 3600000 then
    redis.call('PEXPIRE', KEYS[2], 93600000 + ARGV[2])
  end
  return fence
end
return {0}
";

const RELEASE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('DEL', KEYS[1])
  redis.pcall(ARGV[2] or 'PUBLISH', KEYS[2], '*')
  return 1
end
return 0
";

/// Deletes a plain lock if it is one's own.
const DELETE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
";

/// Renews a lock of either kind.
const KEEP: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
";

/// How many renewals share a pipeline.
const BATCH: usize = 500;

/// The key and the token of a held lock.
type Held = (String, String);

/// One connection, as the backend has one, and nothing around it.
struct Line {
    connection: MultiplexedConnection,
    ttl: Duration,
    counts: Counts,
    keep: String,
}

impl Line {
    async fn open(post: &Post) -> Outcome<Self> {
        let mut connection = connect(&post.url).await?;
        let keep = load(&mut connection, KEEP).await?;
        Ok(Self { connection, ttl: post.ttl, counts: Counts::default(), keep })
    }

    async fn send(&self, command: &Cmd) -> Outcome<Value> {
        self.counts.request();
        let mut connection = self.connection.clone();
        Ok(connection.send_packed_command(command).await?.extract_error()?)
    }

    async fn keep(&self, batch: &[Held]) -> Outcome {
        self.counts.keep(batch.len());
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for (key, token) in batch {
            pipeline.cmd("EVALSHA").arg(&self.keep).arg(1).arg(key).arg(token).arg(self.ttl());
        }
        let kept: Vec<u8> = pipeline.query_async(&mut self.connection.clone()).await?;
        if kept.contains(&0) { Err(lost()) } else { Ok(()) }
    }

    fn ttl(&self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The scripts that the backend sends for a free key and its release.
pub(super) struct Scripts {
    line: Line,
    attempt: String,
    release: String,
}

impl Scripts {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let mut line = Line::open(post).await?;
        let attempt = load(&mut line.connection, ATTEMPT).await?;
        let release = load(&mut line.connection, RELEASE).await?;
        Ok(Self { line, attempt, release })
    }

    /// A script with the names of a lock and its companions.
    fn call(script: &str, key: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script).arg(4).arg(key).arg(format!("lk:{{abc}}:{key}"));
        command.arg(format!("lk:{{abc}}h:{key}")).arg(format!("lk:{{abc}}q:{key}"));
        command
    }
}

impl Way for Scripts {
    type Guard = Held;

    async fn lock(&self, key: &str) -> Outcome<Held> {
        let token = Token::random().to_string();
        let mut attempt = Self::call(&self.attempt, key);
        attempt.arg(&token).arg(self.line.ttl()).arg("bench:1");
        loop {
            match self.line.send(&attempt).await? {
                Value::Int(_) => return Ok((key.to_owned(), token)),
                _ => pause().await,
            }
        }
    }

    async fn unlock(&self, (key, token): Held) -> Outcome {
        let mut release = Self::call(&self.release, &key);
        release.arg(&token);
        released(&self.line.send(&release).await?)
    }

    async fn keep(&self, guards: &[Held]) -> Outcome {
        for batch in guards.chunks(BATCH) {
            self.line.keep(batch).await?;
        }
        Ok(())
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.line.counts.requests())
    }
}

/// A lock as most people write it: no fence, nobody is woken.
pub(super) struct Plain {
    line: Line,
    delete: String,
}

impl Plain {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let mut line = Line::open(post).await?;
        let delete = load(&mut line.connection, DELETE).await?;
        Ok(Self { line, delete })
    }
}

impl Way for Plain {
    type Guard = Held;

    async fn lock(&self, key: &str) -> Outcome<Held> {
        let token = Token::random().to_string();
        let mut set = redis::cmd("SET");
        set.arg(key).arg(&token).arg("NX").arg("PX").arg(self.line.ttl());
        while self.line.send(&set).await? == Value::Nil {
            pause().await;
        }
        Ok((key.to_owned(), token))
    }

    async fn unlock(&self, (key, token): Held) -> Outcome {
        let mut delete = redis::cmd("EVALSHA");
        delete.arg(&self.delete).arg(1).arg(&key).arg(&token);
        released(&self.line.send(&delete).await?)
    }

    async fn keep(&self, guards: &[Held]) -> Outcome {
        for batch in guards.chunks(BATCH) {
            self.line.keep(batch).await?;
        }
        Ok(())
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.line.counts.requests())
    }
}

/// Sends a script once, in full, and returns its hash.
async fn load(connection: &mut MultiplexedConnection, text: &str) -> Outcome<String> {
    Ok(Script::new(text).load_async(connection).await?)
}

fn released(answer: &Value) -> Outcome {
    if *answer == Value::Int(1) { Ok(()) } else { Err(lost()) }
}

fn lost() -> Failure {
    Failure::new("a bare lock was lost")
}
