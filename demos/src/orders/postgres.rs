//! The stock in Postgres.

use lock::async_trait;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::statements;
use super::store::Article;
use super::store::Line;
use super::store::Refusal;
use super::store::Store;
use crate::story::Result;

/// A pool of connections.
#[derive(Debug)]
pub(super) struct Postgres(PgPool);

impl Postgres {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(8).connect(url).await?;
        let mut transaction = pool.begin().await?;
        // Two who create a table at once would collide.
        sqlx::raw_sql("SELECT pg_advisory_xact_lock(1)").execute(&mut *transaction).await?;
        sqlx::raw_sql(statements::SCHEMA).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Self(pool))
    }
}

#[async_trait]
impl Store for Postgres {
    async fn fill(&self, stock: &[(String, i64)]) -> Result {
        for (sku, quantity) in stock {
            sqlx::query(statements::FILL).bind(sku).bind(quantity).execute(&self.0).await?;
        }
        Ok(())
    }

    async fn claim(&self, lines: &[Line]) -> Result<Vec<i64>, Refusal> {
        let mut there = Vec::new();
        for line in lines {
            let fence = line.fence.get().cast_signed();
            let claim = sqlx::query_scalar(statements::CLAIM).bind(fence).bind(&line.sku);
            match claim.fetch_optional(&self.0).await? {
                Some(quantity) => there.push(quantity),
                None => return Err(self.refusal(line).await?),
            }
        }
        Ok(there)
    }

    async fn sell(
        &self,
        order: &str,
        customer: i64,
        lines: &[Line],
        left: &[i64],
    ) -> Result<(), Refusal> {
        let mut transaction = self.0.begin().await?;
        for (line, left) in lines.iter().zip(left) {
            let fence = line.fence.get().cast_signed();
            let write = sqlx::query(statements::WRITE).bind(left).bind(&line.sku).bind(fence);
            if write.execute(&mut *transaction).await?.rows_affected() == 0 {
                transaction.rollback().await?;
                return Err(self.refusal(line).await?);
            }
            let insert = sqlx::query(statements::LINE).bind(order).bind(&line.sku);
            insert.bind(line.quantity).bind(fence).execute(&mut *transaction).await?;
        }
        sqlx::query(statements::ORDER)
            .bind(order)
            .bind(customer)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn orders(&self) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(statements::ORDERS).fetch_all(&self.0).await?)
    }

    async fn audit(&self) -> Result<Vec<Article>> {
        let rows: Vec<(String, i64, i64)> =
            sqlx::query_as(statements::AUDIT).fetch_all(&self.0).await?;
        Ok(rows.into_iter().map(|(sku, left, sold)| Article { sku, left, sold }).collect())
    }
}

impl Postgres {
    async fn refusal(&self, line: &Line) -> Result<Refusal, Refusal> {
        let highest = sqlx::query_scalar(statements::FENCE).bind(&line.sku);
        Ok(Refusal::of(line, highest.fetch_optional(&self.0).await?))
    }
}
