//! Locks on rows, for as long as a transaction: wait for them, fail at once, or skip them.

use std::time::Instant;

use futures_util::future::try_join_all;
use lock::ErrorKind;
use lock_postgres::RowLock;
use lock_postgres::statement_error;
use lock_postgres::wait_at_most;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::servers::Servers;
use crate::story::Failure;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const TABLE: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL, changes int NOT NULL DEFAULT 0);
    INSERT INTO orders VALUES (123, 'pending'), (124, 'pending'), (125, 'pending');";
const READ: &str = "SELECT status FROM orders WHERE id = 123";
const WRITE: &str = "UPDATE orders SET status = $1 WHERE id = 123";
const NEXT: &str = "SELECT id FROM orders WHERE status = 'pending' ORDER BY id LIMIT 1";

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.postgres().await?;
    let pool = PgPoolOptions::new().max_connections(8).connect(&url).await?;
    sqlx::raw_sql(TABLE).execute(&pool).await?;
    wait(story, &pool).await?;
    fail_at_once(story, &pool).await?;
    skip(story, &pool).await?;
    five_at_once(story, &pool).await?;
    pool.close().await;
    Ok(())
}

async fn wait(story: &Story, pool: &PgPool) -> Result {
    story.part("Two transactions want order 123:");
    let mut one = pool.begin().await?;
    sqlx::query(RowLock::Wait.read(READ)).execute(&mut *one).await?;
    story.tell("txn 1", format!("{READ} FOR UPDATE: locked, held for 1 s"));
    let begun = Instant::now();
    let first = async {
        pause(ms(1000)).await;
        sqlx::query(WRITE).bind("processing").execute(&mut *one).await?;
        story.tell("txn 1", "sets it to processing, and commits");
        Ok::<_, Failure>(one.commit().await?)
    };
    let second = async {
        let mut two = pool.begin().await?;
        let seen: String =
            sqlx::query_scalar(RowLock::Wait.read(READ)).fetch_one(&mut *two).await?;
        let waited = begun.elapsed();
        story.tell("txn 2", format!("FOR UPDATE: {seen}, after {} ms", waited.as_millis()));
        sqlx::query(WRITE).bind("completed").execute(&mut *two).await?;
        two.commit().await?;
        Ok::<_, Failure>((seen, waited))
    };
    let ((), (seen, waited)) = tokio::try_join!(first, second)?;
    let stored: String = sqlx::query_scalar(READ).fetch_one(pool).await?;
    story.check(waited >= ms(950), "the second waits for the commit of the first")?;
    story.check(seen == "processing", "and reads what the first has written")?;
    story.check(stored == "completed", "the order ends as completed")
}

async fn fail_at_once(story: &Story, pool: &PgPool) -> Result {
    story.part("Whoever does not want to wait:");
    let (mut one, mut two) = (pool.begin().await?, pool.begin().await?);
    sqlx::query(RowLock::Wait.read(READ)).execute(&mut *one).await?;
    let begun = Instant::now();
    let read = sqlx::query(RowLock::NoWait.read(READ)).execute(&mut *two).await;
    let at_once = (read.map_err(statement_error).err().map(|error| error.kind()), begun.elapsed());
    story.tell("txn 2", format!("NOWAIT: {:?} after {} ms", at_once.0, at_once.1.as_millis()));
    two.rollback().await?;

    let mut two = pool.begin().await?;
    wait_at_most(&mut two, ms(300)).await?;
    let begun = Instant::now();
    let read = sqlx::query(RowLock::Wait.read(READ)).execute(&mut *two).await;
    let later = (read.map_err(statement_error).err().map(|error| error.kind()), begun.elapsed());
    story.tell("txn 2", format!("300 ms at most: {:?} after {} ms", later.0, later.1.as_millis()));
    let held = Some(ErrorKind::Held);
    story.check(at_once.0 == held && at_once.1 < ms(250), "NOWAIT is refused at once")?;
    story.check(later.0 == held && later.1 >= ms(290), "a limit is kept to")
}

async fn skip(story: &Story, pool: &PgPool) -> Result {
    story.part("Two workers take the next pending order each, SKIP LOCKED:");
    let (mut one, mut two) = (pool.begin().await?, pool.begin().await?);
    let next = || sqlx::query_scalar(RowLock::SkipLocked.read(NEXT));
    let first: i32 = next().fetch_one(&mut *one).await?;
    let second: i32 = next().fetch_one(&mut *two).await?;
    story.tell("worker 1", format!("takes {first}"));
    story.tell("worker 2", format!("takes {second}"));
    story.check((first, second) == (124, 125), "nobody waits, and no order is taken twice")
}

async fn five_at_once(story: &Story, pool: &PgPool) -> Result {
    story.part("Five requests change order 123 at once: read, think, write:");
    let change = async |number: i32| {
        let mut transaction = pool.begin().await?;
        let read = RowLock::Wait.read("SELECT changes FROM orders WHERE id = 123");
        let changes: i32 = sqlx::query_scalar(read).fetch_one(&mut *transaction).await?;
        pause(ms(20)).await;
        let write = sqlx::query("UPDATE orders SET changes = $1 WHERE id = 123").bind(changes + 1);
        write.execute(&mut *transaction).await?;
        transaction.commit().await?;
        story.tell(&format!("request {number}"), format!("change {}", changes + 1));
        Ok::<_, Failure>(())
    };
    try_join_all((1..=5).map(change)).await?;
    let read = "SELECT changes FROM orders WHERE id = 123";
    let changes: i32 = sqlx::query_scalar(read).fetch_one(pool).await?;
    story.check(changes == 5, "five changes are counted, one after the other")
}
