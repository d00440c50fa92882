//! Advisory locks of Postgres: by number as in every tutorial, and ours, which anybody can take by hand as well.

use std::time::Instant;

use lock::LockOptions;
use lock::LockProviderExt as _;
use sqlx::Connection as _;
use sqlx::PgConnection;

use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Failure;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::story::until;

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.postgres().await?;
    by_hand(story, &url).await?;
    ours_and_psql(story, &url).await?;
    two_processes(story, &url).await
}

/// Runs a query with one value in its answer; `void` is none.
async fn ask(session: &mut PgConnection, query: &'static str) -> Result<Option<bool>> {
    let row = sqlx::query(query).fetch_one(session).await?;
    Ok(sqlx::Row::try_get(&row, 0).ok())
}

async fn by_hand(story: &Story, url: &str) -> Result {
    story.part("Two sessions of psql want lock 123:");
    let (mut one, mut two) = (PgConnection::connect(url).await?, PgConnection::connect(url).await?);
    ask(&mut one, "SELECT pg_advisory_lock(123)").await?;
    story.tell("session 1", "pg_advisory_lock(123): acquired, held for 1 s");
    let tried = ask(&mut two, "SELECT pg_try_advisory_lock(123)").await?;
    story.tell("session 2", format!("pg_try_advisory_lock(123): {}", tried == Some(true)));
    let begun = Instant::now();
    let (held, waited) = tokio::join!(
        async {
            pause(ms(1000)).await;
            story.tell("session 1", "pg_advisory_unlock(123)");
            ask(&mut one, "SELECT pg_advisory_unlock(123)").await
        },
        ask(&mut two, "SELECT pg_advisory_lock(123)"),
    );
    held.and(waited)?;
    let waited = begun.elapsed();
    story.tell(
        "session 2",
        format!("pg_advisory_lock(123): acquired after {} ms", waited.as_millis()),
    );
    story.check(tried == Some(false), "who tries is told at once that it is held")?;
    story.check((ms(950)..ms(3000)).contains(&waited), "who waits has it after the unlock")?;
    two.close().await?;
    let taken = async || Ok(ask(&mut one, "SELECT pg_try_advisory_lock(123)").await? == Some(true));
    // The server ends it a moment later.
    let freed = until("end of the session", taken).await.is_ok();
    story.check(freed, "a session that ends leaves nothing locked")?;
    Ok(one.close().await?)
}

async fn ours_and_psql(story: &Story, url: &str) -> Result {
    const TRY: &str = "SELECT pg_try_advisory_lock(hashtextextended('order-1', 0))";
    const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended('order-1', 0))";
    story.part("We and psql want order-1, which is the number hashtextextended('order-1', 0):");
    let (locks, mut psql) = (connect(url).await?, PgConnection::connect(url).await?);
    let guard = locks.lock("order-1", &LockOptions::new()).await?;
    story.tell("we", format!("lock: fence {}", guard.fence()));
    let excluded = ask(&mut psql, TRY).await? == Some(false);
    story.tell("psql", format!("pg_try_advisory_lock: {}", !excluded));
    guard.unlock().await?;
    let granted = ask(&mut psql, TRY).await? == Some(true);
    story.tell("psql", format!("after our unlock: {granted}"));
    let ours = locks.try_lock("order-1", &LockOptions::new()).await?.acquired();
    story.tell("we", format!("try_lock: {}", if ours.is_some() { "acquired" } else { "held" }));
    ask(&mut psql, UNLOCK).await?;
    story.check(excluded && granted && ours.is_none(), "each keeps the other out")?;
    Ok(psql.close().await?)
}

async fn two_processes(story: &Story, url: &str) -> Result {
    story.part("Two clients process order-1, each for 500 ms:");
    let process = async |who: &'static str| {
        let locks = connect(url).await?;
        let body = async |_| {
            let begun = Instant::now();
            story.tell(who, "begins");
            pause(ms(500)).await;
            story.tell(who, "is done");
            Ok::<_, Failure>((begun, Instant::now()))
        };
        locks.with_lock("order-1", &LockOptions::new(), body).await
    };
    let (one, two) = tokio::try_join!(process("process 1"), process("process 2"))?;
    let apart = one.1 <= two.0 || two.1 <= one.0;
    story.check(apart, "the second begins when the first is done")
}
