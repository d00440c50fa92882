//! Where the stock is kept: what a database does for the service, and what it refuses.

use std::fmt;

use lock::Fence;
use lock::async_trait;

use super::postgres::Postgres;
use super::sqlite::Sqlite;
use crate::story::Result;

/// An article of an order, under the fence of its lock.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: i64,
    pub(crate) fence: Fence,
}

/// An article of the stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Article {
    pub(crate) sku: String,
    pub(crate) left: i64,
    pub(crate) sold: i64,
}

/// A database with a stock.
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Puts articles into the stock.
    async fn fill(&self, stock: &[(String, i64)]) -> Result;

    /// Reads how much there is of each article; whoever has a lower fence is refused from here on.
    async fn claim(&self, lines: &[Line]) -> Result<Vec<i64>, Refusal>;

    /// Writes what is left of each article, and the order, or nothing if one of them was claimed since.
    async fn sell(
        &self,
        order: &str,
        customer: i64,
        lines: &[Line],
        left: &[i64],
    ) -> Result<(), Refusal>;

    /// Returns the orders there are.
    async fn orders(&self) -> Result<Vec<String>>;

    /// Returns the whole stock.
    async fn audit(&self) -> Result<Vec<Article>>;
}

/// Why an order is not written.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A later holder has claimed an article.
    Stale(lock::Error),
    /// There is no such article.
    Unknown(String),
    /// The database failed; it may have written.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Refusal {
    /// Judges a claim that hit no row by the fence that the row has, if there is one.
    pub(super) fn of(line: &Line, highest: Option<i64>) -> Self {
        let Some(highest) = highest else { return Self::Unknown(line.sku.clone()) };
        let stale = Fence::new(highest.cast_unsigned())
            .and_then(|highest| line.fence.check_against(highest))
            .err();
        match stale {
            Some(stale) => Self::Stale(stale),
            None => Self::Failed("the stock changed between two looks: try again".into()),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Opens the database at `url`, with its tables.
pub(crate) async fn open(url: &str) -> Result<Box<dyn Store>> {
    match url.strip_prefix("sqlite:") {
        Some(path) => Ok(Box::new(Sqlite::open(path).await?)),
        None => Ok(Box::new(Postgres::open(url).await?)),
    }
}
