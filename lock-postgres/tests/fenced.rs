//! Fenced writes, locking reads and versions in the user's own transactions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::time::Duration;
use std::time::Instant;

use lock_core::Backoff;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Tries;
use lock_postgres::Fences;
use lock_postgres::RowLock;
use lock_postgres::statement_error;
use lock_postgres::wait_at_most;
use sqlx::PgPool;

use crate::servers::Server;

async fn pool(server: &Server) -> PgPool {
    PgPool::connect(&server.url()).await.unwrap()
}

async fn stock(server: &Server) -> PgPool {
    let sql = "CREATE TABLE stock (sku text PRIMARY KEY, quantity bigint, version bigint NOT NULL DEFAULT 0);
        INSERT INTO stock VALUES ('a', 10), ('b', 10)";
    server.psql().await.run(sql).await;
    pool(server).await
}

async fn quantity(pool: &PgPool) -> i64 {
    let read = "SELECT quantity FROM stock WHERE sku = 'a'";
    sqlx::query_scalar(read).fetch_one(pool).await.unwrap()
}

fn fence(value: u64) -> Fence {
    Fence::new(value).unwrap()
}

async fn write(pool: &PgPool, fences: &Fences, by: u64) -> lock_core::Result<()> {
    let mut transaction = pool.begin().await.unwrap();
    fences.admit(&mut transaction, "a", fence(by)).await?;
    let sell = "UPDATE stock SET quantity = quantity - 1 WHERE sku = 'a'";
    sqlx::query(sell).execute(&mut *transaction).await.map_err(statement_error)?;
    transaction.commit().await.map_err(statement_error)
}

#[tokio::test]
async fn a_stale_holders_write_is_refused() {
    let server = Server::start(&[]);
    let (pool, fences) = (stock(&server).await, Fences::new("public.fences").unwrap());
    server.psql().await.run(&fences.schema()).await;
    write(&pool, &fences, 7).await.unwrap();
    write(&pool, &fences, 7).await.unwrap();
    write(&pool, &fences, 9).await.unwrap();
    let error = write(&pool, &fences, 8).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert_eq!(quantity(&pool).await, 7);
}

#[tokio::test]
async fn nobody_comes_between_the_check_and_the_commit() {
    let server = Server::start(&[]);
    let (pool, fences) = (stock(&server).await, Fences::new("fences").unwrap());
    server.psql().await.run(&fences.schema()).await;
    let mut slow = pool.begin().await.unwrap();
    fences.admit(&mut slow, "a", fence(7)).await.unwrap();
    let (other, table) = (pool.clone(), fences.clone());
    let later = tokio::spawn(async move { write(&other, &table, 8).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!later.is_finished(), "a later writer did not wait for the transaction");
    slow.commit().await.unwrap();
    later.await.unwrap().unwrap();
    assert_eq!(write(&pool, &fences, 7).await.unwrap_err().kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn locking_reads_wait_fail_or_skip() {
    let server = Server::start(&[]);
    let pool = stock(&server).await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query(RowLock::Wait.read("SELECT 1 FROM stock WHERE sku = 'a'"))
        .execute(&mut *holder)
        .await
        .unwrap();

    let mut skips = pool.begin().await.unwrap();
    let read = RowLock::SkipLocked.read("SELECT sku FROM stock ORDER BY sku");
    let free: Vec<String> = sqlx::query_scalar(read).fetch_all(&mut *skips).await.unwrap();
    assert_eq!(free, ["b"]);
    skips.rollback().await.unwrap();

    let mut fails = pool.begin().await.unwrap();
    let read = RowLock::NoWait.read("SELECT sku FROM stock WHERE sku = 'a'");
    let error = sqlx::query(read).execute(&mut *fails).await.map_err(statement_error).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    fails.rollback().await.unwrap();

    let mut waits = pool.begin().await.unwrap();
    wait_at_most(&mut waits, Duration::from_millis(200)).await.unwrap();
    let begin = Instant::now();
    let read = || RowLock::Wait.read("SELECT sku FROM stock WHERE sku = 'a'");
    let error =
        sqlx::query(read()).execute(&mut *waits).await.map_err(statement_error).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    assert!(begin.elapsed() >= Duration::from_millis(200));
    waits.rollback().await.unwrap();

    let mut waits = pool.begin().await.unwrap();
    let waiting = tokio::spawn(async move {
        sqlx::query(read()).execute(&mut *waits).await.map(|done| done.rows_affected())
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    holder.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn optimistic_writers_lose_no_update() {
    let server = Server::start(&[]);
    let pool = stock(&server).await;
    let sold: Vec<_> = (0..8)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { sell(&pool).await })
        })
        .collect();
    for outcome in sold {
        outcome.await.unwrap().unwrap();
    }
    assert_eq!(quantity(&pool).await, 2);
}

async fn sell(pool: &PgPool) -> lock_core::Result<()> {
    let backoff = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(50));
    let mut tries = Tries::new(50, backoff.jittered());
    loop {
        let read = "SELECT quantity, version FROM stock WHERE sku = 'a'";
        let (quantity, version): (i64, i64) =
            sqlx::query_as(read).fetch_one(pool).await.map_err(statement_error)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let write = "UPDATE stock SET quantity = $1, version = version + 1
            WHERE sku = 'a' AND version = $2";
        let write = sqlx::query(write).bind(quantity - 1).bind(version);
        if write.execute(pool).await.map_err(statement_error)?.rows_affected() > 0 {
            return Ok(());
        }
        tries.conflict().await?;
    }
}
