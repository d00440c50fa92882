//! Who finds a lock held tries again after 100, 200, 400 … ms, each with a random part, and gives up after so many tries.

use std::time::Duration;
use std::time::Instant;

use futures_util::future::try_join_all;
use lock::Backoff;
use lock::ErrorKind;
use lock::LockOptions;
use lock::LockProvider;
use lock::Wait;
use lock::Waiting;

use crate::redis_cli::RedisCli;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Failure;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const KEY: &str = "lock:resource";
const TRIES: u32 = 5;

/// The second of two delays is twice the first, and each is lengthened to its double at the most.
const BACKOFF: Backoff = Backoff::exponential(ms(100), ms(1600)).jittered();

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.redis()?;
    let (mut cli, locks) = (RedisCli::connect(&url).await?, connect(&url).await?);
    cli.run(&format!("DEL {KEY}")).await?;
    success(story, &mut cli, &*locks).await?;
    failure(story, &mut cli, &*locks).await?;
    contention(story, &url).await
}

/// Five tries, each of which is told.
fn options(story: Story, who: String) -> LockOptions {
    let wait = Wait::Attempts { max: TRIES, backoff: BACKOFF };
    let tell = move |news| {
        if let Waiting::Held { holders, .. } = news {
            let holder = holders.first().map(ToString::to_string).unwrap_or_default();
            story.tell(&who, format!("finds it held by {holder}"));
        }
    };
    LockOptions::new().wait(wait).observe(tell)
}

async fn success(story: &Story, cli: &mut RedisCli, locks: &dyn LockProvider) -> Result {
    story.part("A client that is not ours has it for 450 ms, and tells nobody when it ends:");
    cli.set_nx(KEY, "theirs", 450).await?;
    let begun = Instant::now();
    let guard = locks.lock(KEY, &options(*story, "worker".into())).await?;
    let waited = begun.elapsed();
    story.tell("worker", format!("lock acquired after {} ms", waited.as_millis()));
    guard.unlock().await?;
    // Tries come after 100 to 200 ms, 300 to 600, 700 to 1400.
    story.check((ms(300)..ms(1500)).contains(&waited), "a later try finds it free")
}

async fn failure(story: &Story, cli: &mut RedisCli, locks: &dyn LockProvider) -> Result {
    story.part(format!("It is held for longer than {TRIES} tries:"));
    cli.set_nx(KEY, "theirs", 60_000).await?;
    let begun = Instant::now();
    let refused = locks.lock(KEY, &options(*story, "worker".into())).await.err();
    let waited = begun.elapsed();
    cli.run(&format!("DEL {KEY}")).await?;
    let Some(error) = refused else { return Err("wrong: it got what is held".into()) };
    story.tell("worker", &error);
    let least: Duration = ms(100 + 200 + 400 + 800);
    story.check(error.kind() == ErrorKind::Timeout, "it gives up after the last try")?;
    let in_time = (least - ms(10)..least * 2 + ms(300)).contains(&waited);
    story.check(in_time, format!("{} ms: 1500 and a random part", waited.as_millis()))
}

async fn contention(story: &Story, url: &str) -> Result {
    story.part("Ten workers want it at once, for 20 ms each:");
    let work = async |number: u32| {
        let who = format!("worker {number}");
        let locks = connect(url).await?;
        let wait = Wait::Attempts { max: 20, backoff: BACKOFF };
        let begun = Instant::now();
        let guard = locks.lock(KEY, &LockOptions::new().wait(wait)).await?;
        let waited = begun.elapsed();
        story.tell(&who, format!("lock acquired after {} ms", waited.as_millis()));
        pause(ms(20)).await;
        guard.unlock().await?;
        Ok::<_, Failure>(waited)
    };
    let waited = try_join_all((1..=10).map(work)).await?;
    let longest = waited.into_iter().max().unwrap_or_default();
    story.ok(format!("all ten are served, the last after {} ms", longest.as_millis()));
    Ok(())
}
