//! Redlock: a lock on a majority of five Redis servers, which works with two of them down and fails with three.

use std::time::Duration;
use std::time::Instant;

use lock::ErrorKind;
use lock::LockOptions;
use lock::LockProvider;

use crate::fleet::Fleet;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::story::until;

const KEY: &str = "lock:order:123";

/// The servers, by the numbers people give them.
const ALL: [usize; 5] = [1, 2, 3, 4, 5];

/// A server counts only when it has run for longer than any lock can last.
const TTL: Duration = ms(1500);

/// How long an attempt may take that cannot succeed.
const BUDGET: Duration = ms(1000);

pub(crate) async fn run(story: &Story, servers: &Servers) -> Result {
    let mut fleet = servers.fleet(5)?;
    story.tell("fleet", "five servers that know nothing of each other");
    fleet.await_age(TTL).await?;
    let locks = connect(&fleet.url("ttl_max=1500ms&ttl=1500ms")).await?;
    all_up(story, &fleet, &*locks).await?;

    story.part("redis-2 and redis-4 are killed:");
    fleet.servers[1].kill()?;
    fleet.servers[3].kill()?;
    two_down(story, &fleet, &*locks).await?;

    story.part("redis-3 is killed as well:");
    fleet.servers[2].kill()?;
    three_down(story, &fleet, &*locks).await
}

async fn all_up(story: &Story, fleet: &Fleet, locks: &dyn LockProvider) -> Result {
    let guard = locks.lock(KEY, &LockOptions::new()).await?;
    until("lock at every server", async || Ok(fleet.holding(KEY, &ALL).await? == ALL)).await?;
    story.tell("order", format!("has {KEY} at all five, fence {}", guard.fence()));
    guard.unlock().await?;
    gone(fleet, &ALL).await?;
    story.ok("after its unlock none has it");
    Ok(())
}

async fn two_down(story: &Story, fleet: &Fleet, locks: &dyn LockProvider) -> Result {
    let up = [1, 3, 5];
    let begun = Instant::now();
    let guard = locks.lock(KEY, &LockOptions::new()).await?;
    let took = begun.elapsed();
    story.tell("order", format!("has it after {} ms, fence {}", took.as_millis(), guard.fence()));
    pause(TTL * 2).await;
    let (valid, at) = (guard.is_valid(), fleet.holding(KEY, &up).await?);
    story.tell("order", format!("two TTLs later: at {at:?}"));
    guard.unlock().await?;
    gone(fleet, &up).await?;
    story.check(took < BUDGET, "three of five are a majority: it still works")?;
    story.check(valid && at == up, "and the lock is kept")
}

async fn three_down(story: &Story, fleet: &Fleet, locks: &dyn LockProvider) -> Result {
    let begun = Instant::now();
    let refused = locks.try_lock(KEY, &LockOptions::new()).await.err();
    let took = begun.elapsed();
    let Some(error) = refused else { return Err("wrong: two of five granted it".into()) };
    story.tell("order", format!("after {} ms: {error}", took.as_millis()));
    story.check(error.kind() == ErrorKind::Unavailable, "two of five are none: it fails")?;
    story.check(took < BUDGET, format!("within its budget of {} ms", BUDGET.as_millis()))?;
    gone(fleet, &[1, 5]).await?;
    story.ok("and leaves nothing at the two that are up");
    Ok(())
}

/// A release need not wait for the last of its answers.
async fn gone(fleet: &Fleet, up: &[usize]) -> Result {
    until("end of the lock", async || Ok(fleet.holding(KEY, up).await?.is_empty())).await
}
