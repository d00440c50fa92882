//! No lock at all: a change is written only if the version is the one that was read, else it begins again.

use futures_util::future::try_join_all;
use lock::Backoff;
use lock::Tries;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Barrier;

use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;

const TABLE: &str = "
    CREATE TABLE orders (
        id SERIAL PRIMARY KEY, amount DECIMAL(10,2), status VARCHAR(50), version INTEGER DEFAULT 1
    );
    INSERT INTO orders (amount, status) VALUES (100.00, 'pending');";
const VERSION: &str = "SELECT version FROM orders WHERE id = 1";
const UPDATE: &str =
    "UPDATE orders SET status = $1, version = version + 1 WHERE id = 1 AND version = $2";
const PROCESSES: usize = 5;

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.postgres().await?;
    let pool = PgPoolOptions::new().max_connections(PROCESSES as u32).connect(&url).await?;
    sqlx::raw_sql(TABLE).execute(&pool).await?;
    story.part("Five processes update the same order at once:");
    let together = Barrier::new(PROCESSES);
    let updates = (1..=PROCESSES).map(|number| update(story, &pool, number, &together));
    let tries = try_join_all(updates).await?;
    let version: i32 = sqlx::query_scalar(VERSION).fetch_one(&pool).await?;
    let conflicts: usize = tries.iter().map(|tries| tries - 1).sum();
    story.tell("psql", format!("SELECT version FROM orders WHERE id = 1: {version}"));
    story.check(version == 6, "the version is 6: 1 at first, and five updates")?;
    story.check(conflicts >= PROCESSES - 1, format!("{conflicts} tries met a conflict"))?;
    pool.close().await;
    Ok(())
}

/// Returns how many tries it took.
async fn update(story: &Story, pool: &PgPool, number: usize, together: &Barrier) -> Result<usize> {
    let who = format!("process {number}");
    let mut tries = Tries::new(20, Backoff::exponential(ms(10), ms(200)).jittered());
    for tried in 1.. {
        let version: i32 = sqlx::query_scalar(VERSION).fetch_one(pool).await?;
        if tried == 1 {
            // All have read before anyone writes.
            together.wait().await;
        }
        let update = sqlx::query(UPDATE).bind("completed").bind(version);
        if update.execute(pool).await?.rows_affected() > 0 {
            story.tell(&who, format!("update succeeded on attempt {tried}"));
            return Ok(tried);
        }
        story.tell(&who, format!("version conflict, retry {tried}"));
        tries.conflict().await?;
    }
    Err("the tries come to an end before this".into())
}
