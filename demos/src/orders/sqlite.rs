//! The stock in a SQLite file.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use lock::async_trait;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;
use rusqlite::TransactionBehavior;
use rusqlite::params;

use super::statements;
use super::store::Article;
use super::store::Line;
use super::store::Refusal;
use super::store::Store;
use crate::story::Failure;
use crate::story::Result;

/// One connection, which is used on threads that may wait.
#[derive(Clone)]
pub(super) struct Sqlite(Arc<Mutex<Connection>>);

impl Sqlite {
    pub(super) async fn open(path: &str) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(statements::SCHEMA)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Does `work` where it may wait for other processes.
    async fn with<T, E>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<tokio::task::JoinError> + Send + 'static,
    {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            work(&mut this.0.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await?
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn fill(&self, stock: &[(String, i64)]) -> Result {
        let stock = stock.to_vec();
        let fill = move |connection: &mut Connection| {
            for (sku, quantity) in stock {
                connection.execute(statements::FILL, params![sku, quantity])?;
            }
            Ok::<_, Failure>(())
        };
        self.with(fill).await
    }

    async fn claim(&self, lines: &[Line]) -> Result<Vec<i64>, Refusal> {
        let lines = lines.to_vec();
        self.with(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut there = Vec::new();
            for line in &lines {
                let values = params![line.fence.get().cast_signed(), line.sku];
                let claim = transaction.query_row(statements::CLAIM, values, |row| row.get(0));
                match claim.optional()? {
                    Some(quantity) => there.push(quantity),
                    None => return Err(refusal(&transaction, line)?),
                }
            }
            transaction.commit()?;
            Ok(there)
        })
        .await
    }

    async fn sell(
        &self,
        order: &str,
        customer: i64,
        lines: &[Line],
        left: &[i64],
    ) -> Result<(), Refusal> {
        let (order, lines, left) = (order.to_owned(), lines.to_vec(), left.to_vec());
        self.with(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (line, left) in lines.iter().zip(left) {
                let fence = line.fence.get().cast_signed();
                if transaction.execute(statements::WRITE, params![left, line.sku, fence])? == 0 {
                    return Err(refusal(&transaction, line)?);
                }
                let values = params![order, line.sku, line.quantity, fence];
                transaction.execute(statements::LINE, values)?;
            }
            transaction.execute(statements::ORDER, params![order, customer])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn orders(&self) -> Result<Vec<String>> {
        let read = |connection: &mut Connection| {
            let mut orders = connection.prepare(statements::ORDERS)?;
            let orders = orders.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>();
            Ok::<_, Failure>(orders?)
        };
        self.with(read).await
    }

    async fn audit(&self) -> Result<Vec<Article>> {
        let read = |connection: &mut Connection| {
            let mut stock = connection.prepare(statements::AUDIT)?;
            let article = |row: &rusqlite::Row<'_>| {
                Ok(Article { sku: row.get(0)?, left: row.get(1)?, sold: row.get(2)? })
            };
            let stock = stock.query_map([], article)?.collect::<rusqlite::Result<_>>();
            Ok::<_, Failure>(stock?)
        };
        self.with(read).await
    }
}

/// The transaction is rolled back when it is dropped.
fn refusal(connection: &Connection, line: &Line) -> Result<Refusal, Refusal> {
    let highest = connection.query_row(statements::FENCE, [&line.sku], |row| row.get(0));
    Ok(Refusal::of(line, highest.optional()?))
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sqlite")
    }
}
