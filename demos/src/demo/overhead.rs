//! What a lock around a query costs: by bare commands, by us on Redis, and by us in the same database.

use std::time::Duration;
use std::time::Instant;

use lock::LockOptions;
use lock::LockProvider;
use sqlx::Connection as _;
use sqlx::PgConnection;

use crate::redis_cli::RedisCli;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;

const TIMES: u32 = 1000;
const KEY: &str = "lock:overhead";

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let (redis, postgres) = (servers.redis()?, servers.postgres().await?);
    let mut session = PgConnection::connect(&postgres).await?;
    story.part(format!("{TIMES} times SELECT 1:"));

    let bare = without(&mut session).await?;
    row(story, "without a lock", bare, bare);
    let by_hand = by_hand(&mut session, &mut RedisCli::connect(&redis).await?).await?;
    row(story, "SET NX PX, DEL", by_hand, bare);
    let on_redis = ours(&mut session, &*connect(&redis).await?).await?;
    row(story, "lock, unlock on Redis", on_redis, bare);
    let same = ours(&mut session, &*connect(&postgres).await?).await?;
    row(story, "lock, unlock on Postgres", same, bare);

    story.check(
        bare < by_hand && bare < on_redis,
        "a lock is not free: it is two round trips more",
    )?;
    Ok(session.close().await?)
}

fn row(story: &Story, name: &str, took: Duration, bare: Duration) {
    let share = took.as_secs_f64() / bare.as_secs_f64() * 100.0;
    let each = took / TIMES;
    story.line(format!(
        "{name:<26}{:>8} ms{:>8} µs each{share:>8.0} %",
        took.as_millis(),
        each.as_micros()
    ));
}

async fn select(session: &mut PgConnection) -> Result {
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(session).await?;
    if one == 1 { Ok(()) } else { Err("wrong: one is not one".into()) }
}

async fn without(session: &mut PgConnection) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..TIMES {
        select(session).await?;
    }
    Ok(begun.elapsed())
}

async fn by_hand(session: &mut PgConnection, cli: &mut RedisCli) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..TIMES {
        if !cli.set_nx(KEY, "v", 1000).await? {
            return Err("wrong: somebody else has the lock".into());
        }
        select(session).await?;
        cli.run(&format!("DEL {KEY}")).await?;
    }
    Ok(begun.elapsed())
}

async fn ours(session: &mut PgConnection, locks: &dyn LockProvider) -> Result<Duration> {
    let options = LockOptions::new();
    let begun = Instant::now();
    for _ in 0..TIMES {
        let guard = locks.lock(KEY, &options).await?;
        select(session).await?;
        guard.unlock().await?;
    }
    Ok(begun.elapsed())
}
