//! What an instance does with an order: it locks all articles at once, looks, takes the payment, and writes under the fences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use lock::Fence;
use lock::LockGuards;
use lock::LockOptions;
use lock::LockProvider;
use lock::http::status_of;
use serde::Deserialize;

use super::Patience;
use super::store::Line;
use super::store::Refusal;
use super::store::Store;
use crate::story::Result;
use crate::story::ms;
use crate::story::pause;

/// For how long an article stays locked when its instance is heard of no more.
pub(super) const TTL: Duration = ms(1500);

/// What an instance has.
pub(super) struct Shop {
    pub(super) locks: Option<Arc<dyn LockProvider>>,
    pub(super) store: Box<dyn Store>,
    pub(super) payment: Duration,
    pub(super) patience: Patience,
}

/// What a customer asks for; the same article may stand in several lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) id: String,
    customer: i64,
    lines: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sku: String,
    quantity: u32,
}

/// An order that was not sold, and what the customer is told.
pub(super) struct Rejection {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

impl From<lock::Error> for Rejection {
    fn from(error: lock::Error) -> Self {
        Self { status: status_of(&error), why: error.to_string() }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale(error) => error.into(),
            Refusal::Unknown(sku) => {
                Self { status: StatusCode::NOT_FOUND, why: format!("there is no {sku}") }
            }
            Refusal::Failed(error) => {
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, why: error.to_string() }
            }
        }
    }
}

impl Shop {
    pub(super) async fn place(&self, order: &Order) -> Result<(), Rejection> {
        let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
        for line in &order.lines {
            *wanted.entry(&line.sku).or_default() += i64::from(line.quantity);
        }
        let guards = self.lock(&wanted).await?;
        let lines = lines(&wanted, guards.as_ref())?;
        let sold = self.sell(order, &lines, guards.as_ref()).await;
        if let Some(guards) = guards {
            // Whether it was sold does not hang on what the release says.
            let _ = guards.unlock().await;
        }
        sold
    }

    async fn lock(&self, wanted: &BTreeMap<&str, i64>) -> lock::Result<Option<LockGuards>> {
        let Some(locks) = &self.locks else { return Ok(None) };
        let keys: Vec<String> = wanted.keys().map(|sku| key(sku)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let options = LockOptions::new().ttl(TTL).wait(self.patience.wait());
        locks.lock_many(&keys, &options).await.map(Some)
    }

    async fn sell(
        &self,
        order: &Order,
        lines: &[Line],
        guards: Option<&LockGuards>,
    ) -> Result<(), Rejection> {
        let there = self.store.claim(lines).await?;
        let left: Vec<i64> =
            there.iter().zip(lines).map(|(there, it)| there - it.quantity).collect();
        if let Some((line, _)) = lines.iter().zip(&left).find(|(_, left)| **left < 0) {
            let why = format!("{} is sold out", line.sku);
            return Err(Rejection { status: StatusCode::CONFLICT, why });
        }
        pause(self.payment).await;
        guards.map_or(Ok(()), LockGuards::check)?;
        Ok(self.store.sell(&order.id, order.customer, lines, &left).await?)
    }
}

fn key(sku: &str) -> String {
    format!("lock:sku:{sku}")
}

/// Gives each article the fence of its lock; without locks all have the same, which refuses nobody.
fn lines(wanted: &BTreeMap<&str, i64>, guards: Option<&LockGuards>) -> lock::Result<Vec<Line>> {
    let line = |(sku, quantity): (&&str, &i64)| {
        let fence = match guards.and_then(|guards| guards.fence(&key(sku))) {
            Some(fence) => fence,
            None => Fence::new(1)?,
        };
        Ok(Line { sku: (*sku).to_owned(), quantity: *quantity, fence })
    };
    wanted.iter().map(line).collect()
}
