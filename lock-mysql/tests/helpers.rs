//! Fenced writes, locking reads and optimistic versions in the user's own transactions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::time::Duration;
use std::time::Instant;

use lock_core::Backoff;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::Tries;
use lock_mysql::Fences;
use lock_mysql::RowLock;
use lock_mysql::statement_error;
use lock_mysql::wait_at_most;
use sqlx::MySqlPool;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

/// A pool as a user has it, over a table with two rows.
async fn pool(url: &str) -> MySqlPool {
    let mut cli = Cli::connect(url).await;
    cli.run("CREATE TABLE stock (sku VARCHAR(32) PRIMARY KEY, quantity INT, version INT)")
        .await
        .unwrap();
    cli.run("INSERT INTO stock VALUES ('1', 100, 0), ('2', 100, 0)").await.unwrap();
    MySqlPool::connect(url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_write_of_a_holder_that_lost_is_refused() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let pool = pool(&url).await;
        let fences = Fences::new("fences").unwrap();
        Cli::connect(&url).await.run(&fences.schema()).await.unwrap();
        let (frozen, next) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
        // Nobody renews it, as if its process stood still.
        let brief = LockOptions::new().ttl(ms(300));
        let stale = frozen.lock("sku:1", &brief).await.unwrap().into_handle().unwrap().fence;
        let wait = LockOptions::new().wait(Duration::from_secs(20));
        let held = next.lock("sku:1", &wait).await.unwrap();
        for _ in 0..2 {
            let mut transaction = pool.begin().await.unwrap();
            fences.admit(&mut transaction, "sku:1", held.fence()).await.unwrap();
            sqlx::query("UPDATE stock SET quantity = quantity - 1 WHERE sku = '1'")
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
        let mut transaction = pool.begin().await.unwrap();
        let refused = fences.admit(&mut transaction, "sku:1", stale).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Lost, "{url}: {refused}");
        transaction.rollback().await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        fences.admit(&mut transaction, "sku:1 ", stale).await.unwrap();
        transaction.rollback().await.unwrap();
        let left = sqlx::query_scalar::<_, i32>("SELECT quantity FROM stock WHERE sku = '1'");
        assert_eq!(left.fetch_one(&pool).await.unwrap(), 98, "{url}");
        held.unlock().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locking_read_waits_or_fails_or_leaves_out() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let pool = pool(&url).await;
        let mut first = pool.begin().await.unwrap();
        let one = RowLock::Wait.read("SELECT quantity FROM stock WHERE sku = '1'");
        sqlx::query(one).execute(&mut *first).await.unwrap();
        let mut second = pool.begin().await.unwrap();

        let all = RowLock::SkipLocked.read("SELECT sku FROM stock ORDER BY sku");
        let free: Vec<String> = sqlx::query_scalar(all).fetch_all(&mut *second).await.unwrap();
        assert_eq!(free, ["2"], "{url}");

        let start = Instant::now();
        let now = RowLock::NoWait.read("SELECT quantity FROM stock WHERE sku = '1'");
        let refused = sqlx::query(now).execute(&mut *second).await.unwrap_err();
        assert_eq!(statement_error(refused).kind(), ErrorKind::Held, "{url}");
        assert!(start.elapsed() < ms(900), "{url}: {:?}", start.elapsed());

        wait_at_most(&mut second, ms(700)).await.unwrap();
        let wait = RowLock::Wait.read("SELECT quantity FROM stock WHERE sku = '1'");
        let refused = sqlx::query(wait).execute(&mut *second).await.unwrap_err();
        assert_eq!(statement_error(refused).kind(), ErrorKind::Held, "{url}");
        assert!(start.elapsed() < Duration::from_secs(10), "{url}: {:?}", start.elapsed());

        first.commit().await.unwrap();
        let wait = RowLock::Wait.read("SELECT quantity FROM stock WHERE sku = '1'");
        let quantity: i32 = sqlx::query_scalar(wait).fetch_one(&mut *second).await.unwrap();
        assert_eq!(quantity, 100);
        second.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn optimistic_changes_lose_no_update() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let pool = pool(&url).await;
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let pool = pool.clone();
            writers.spawn(async move {
                for _ in 0..5 {
                    decrement(&pool).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        let left = sqlx::query_scalar::<_, i32>("SELECT quantity FROM stock WHERE sku = '2'");
        assert_eq!(left.fetch_one(&pool).await.unwrap(), 60, "{url}");
    }
}

async fn decrement(pool: &MySqlPool) -> lock_core::Result<()> {
    let mut tries = Tries::new(200, Backoff::exponential(ms(1), ms(50)).jittered());
    loop {
        let read =
            sqlx::query_as::<_, (i32, i32)>("SELECT quantity, version FROM stock WHERE sku = '2'");
        let (quantity, version) = read.fetch_one(pool).await.map_err(statement_error)?;
        let write = sqlx::query(
            "UPDATE stock SET quantity = ?, version = version + 1 WHERE sku = '2' AND version = ?",
        );
        let done = write.bind(quantity - 1).bind(version).execute(pool).await;
        if done.map_err(statement_error)?.rows_affected() > 0 {
            return Ok(());
        }
        tries.conflict().await?;
    }
}
