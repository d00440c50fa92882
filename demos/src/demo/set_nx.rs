//! Our lock is a plain key with a TTL, so it excludes every client that uses `SET NX PX`, and is excluded by it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use lock::LockOptions;
use lock::LockProvider;
use lock::TryLock;

use crate::redis_cli::NIL;
use crate::redis_cli::RedisCli;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const KEY: &str = "lock:payment:user123";
const BALANCE: &str = "demo2:balance:user123";

/// What everybody releases with who has set a key to a value of its own.
const COMPARE_AND_DELETE: &str =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.redis()?;
    let (mut cli, locks) = (RedisCli::connect(&url).await?, connect(&url).await?);
    cli.run(&format!("DEL {KEY}")).await?;
    theirs_keeps_ours_out(story, &mut cli, &*locks).await?;
    ours_keeps_theirs_out(story, &mut cli, &*locks).await?;
    ten_payments(story, &url).await
}

async fn theirs_keeps_ours_out(
    story: &Story,
    cli: &mut RedisCli,
    locks: &dyn LockProvider,
) -> Result {
    story.part("A client that is not ours has the lock:");
    let set = |who: &str| format!("SET {KEY} {who} NX PX 5000");
    let (first, second) = (cli.run(&set("instance-1")).await?, cli.run(&set("instance-2")).await?);
    story.tell("redis-cli", format!("{}: {first}", set("instance-1")));
    story.tell("redis-cli", format!("{}: {second}", set("instance-2")));
    let TryLock::Held(holders) = locks.try_lock(KEY, &LockOptions::new()).await? else {
        return Err("wrong: we got what instance-1 has".into());
    };
    let holder = holders.first().map(ToString::to_string).unwrap_or_default();
    story.tell("we", format!("try_lock: held by {holder}"));
    cli.run(&format!("DEL {KEY}")).await?;
    story.check((&*first, &*second) == ("OK", NIL), "one has it, and keeps out the other and us")
}

async fn ours_keeps_theirs_out(
    story: &Story,
    cli: &mut RedisCli,
    locks: &dyn LockProvider,
) -> Result {
    story.part("We have the lock:");
    let guard = locks.lock(KEY, &LockOptions::new()).await?;
    story.tell("we", format!("lock: fence {}", guard.fence()));
    let refused = cli.run(&format!("SET {KEY} instance-2 NX PX 5000")).await?;
    story.tell("redis-cli", format!("SET {KEY} instance-2 NX PX 5000: {refused}"));
    let token = cli.run(&format!("GET {KEY}")).await?;
    story.tell("redis-cli", format!("GET {KEY}: {token}"));
    guard.unlock().await?;
    let granted = cli.run(&format!("SET {KEY} instance-2 NX PX 5000")).await?;
    story.tell("redis-cli", format!("after our unlock: {granted}"));
    cli.run(&format!("DEL {KEY}")).await?;
    story.check((&*refused, &*granted) == (NIL, "OK"), "it is kept out until we unlock")
}

/// Of ten who pay at once every other one is not ours.
async fn ten_payments(story: &Story, url: &str) -> Result {
    story.part("Ten payments of 100 at once, five by us and five by SET NX:");
    let mut cli = RedisCli::connect(url).await?;
    cli.run(&format!("SET {BALANCE} 1000")).await?;
    let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let pay = async |number: u32| {
        let mut cli = RedisCli::connect(url).await?;
        let locks = connect(url).await?;
        if number.is_multiple_of(2) {
            let guard = locks.lock(KEY, &LockOptions::new()).await?;
            pay(&mut cli, &inside, &most).await?;
            return Ok(guard.unlock().await?);
        }
        let value = format!("instance-{number}");
        while !cli.set_nx(KEY, &value, 5000).await? {
            pause(ms(5)).await;
        }
        pay(&mut cli, &inside, &most).await?;
        cli.eval(COMPARE_AND_DELETE, KEY, &value).await
    };
    try_join_all((1..=10).map(pay)).await?;
    let (balance, most) = (cli.number(BALANCE).await?, most.load(Ordering::SeqCst));
    cli.run(&format!("DEL {BALANCE}")).await?;
    story.tell("redis-cli", format!("GET {BALANCE}: {balance}"));
    story.check(balance == 0 && most == 1, "each paid, one at a time: 1000 - 10 × 100 = 0")
}

async fn pay(cli: &mut RedisCli, inside: &AtomicU32, most: &AtomicU32) -> Result {
    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let balance = cli.number(BALANCE).await?;
    pause(ms(2)).await;
    cli.run(&format!("SET {BALANCE} {}", balance - 100)).await?;
    inside.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}
