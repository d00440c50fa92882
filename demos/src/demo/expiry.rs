//! A lock of somebody who crashed ends with its TTL; one that is in use is renewed; one that is not renewed tells its
//! holder in time.

use std::time::Duration;
use std::time::Instant;

use lock::LockOptions;
use lock::LockProvider;

use crate::redis_cli::NIL;
use crate::redis_cli::RedisCli;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const TTL: Duration = ms(5000);

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.redis()?;
    let (mut cli, locks) = (RedisCli::connect(&url).await?, connect(&url).await?);
    crash(story, &mut cli, &*locks).await?;
    renewal(story, &mut cli, &*locks).await?;
    no_renewal(story, &*locks).await
}

async fn crash(story: &Story, cli: &mut RedisCli, locks: &dyn LockProvider) -> Result {
    let key = "lock:report:123";
    story.part("Worker 1 crashes while it holds the lock:");
    let begun = Instant::now();
    let guard = locks.lock(key, &LockOptions::new().ttl(TTL)).await?;
    // A handle leaves the lock to itself, as a crash does.
    guard.into_handle()?;
    story.tell("worker 1", format!("has {key} for 5 s, and is heard of no more"));
    let first = cli.run(&format!("TTL {key}")).await?;
    story.tell("redis-cli", format!("TTL {key}: {first}"));
    pause(ms(3000)).await;
    let later = cli.run(&format!("TTL {key}")).await?;
    story.tell("redis-cli", format!("TTL {key}: {later}"));
    story.check((&*first, &*later) == ("5", "2"), "the server counts down, nobody renews")?;
    story.tell("worker 2", "waits for the lock");
    let guard = locks.lock(key, &LockOptions::new().wait(TTL)).await?;
    let waited = begun.elapsed();
    story.tell("worker 2", format!("has it, fence {}", guard.fence()));
    guard.unlock().await?;
    let left = cli.run(&format!("GET {key}")).await?;
    story.tell("redis-cli", format!("GET {key}: {left}"));
    let in_time = (TTL - ms(20)..TTL + ms(1000)).contains(&waited);
    story.check(
        in_time && left == NIL,
        format!("freed {:.2} s after it was taken", waited.as_secs_f64()),
    )
}

async fn renewal(story: &Story, cli: &mut RedisCli, locks: &dyn LockProvider) -> Result {
    let key = "lock:report:124";
    story.part("A job takes longer than its TTL of 600 ms, and its lock is renewed:");
    let guard = locks.lock(key, &LockOptions::new().ttl(ms(600))).await?;
    let mut intruded = false;
    for _ in 0..3 {
        pause(ms(500)).await;
        let left = cli.run(&format!("PTTL {key}")).await?;
        intruded |= cli.set_nx(key, "intruder", 5000).await?;
        story.tell("redis-cli", format!("PTTL {key}: {left}"));
    }
    let valid = guard.is_valid();
    guard.unlock().await?;
    story.check(valid && !intruded, "after 1.5 s it is still ours")
}

async fn no_renewal(story: &Story, locks: &dyn LockProvider) -> Result {
    let key = "lock:report:125";
    story.part("A job takes longer than its TTL of 1 s, and has asked not to be renewed:");
    let begun = Instant::now();
    let options = LockOptions::new().ttl(ms(1000)).without_renewal();
    let guard = locks.lock(key, &options).await?;
    guard.at_risk().await;
    let warned = begun.elapsed();
    story.tell("worker", format!("is warned after {} ms: time to stop", warned.as_millis()));
    let reason = guard.lost().await;
    let lost = begun.elapsed();
    story.tell("worker", format!("is told after {} ms: {reason}", lost.as_millis()));
    let valid = guard.is_valid();
    let warned_in_time = (ms(700)..ms(900)).contains(&warned);
    story.check(warned_in_time, "the warning comes when four fifths of the TTL are over")?;
    story.check(!valid && lost < ms(1100), "at its deadline the guard says that it is over")
}
