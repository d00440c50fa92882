//! One instance: orders come by HTTP, and are sold under the locks of all their articles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::routing::post;
use lock::Backoff;
use lock::Fence;
use lock::LockGuards;
use lock::LockOptions;
use lock::LockProvider;
use lock::Wait;
use lock::http::status_of;
use serde::Deserialize;

use super::Serve;
use super::store;
use super::store::Line;
use super::store::Refusal;
use super::store::Store;
use crate::instance::hear;
use crate::servers::connect;
use crate::story::Result;
use crate::story::ms;
use crate::story::pause;

/// For how long an article stays locked when its instance is heard of no more.
pub(super) const TTL: Duration = ms(1500);

/// One attempt and three more, 200 ms apart: an answer within a second.
const WAIT: Wait = Wait::Attempts { max: 4, backoff: Backoff::fixed(ms(200)) };

/// What an instance has.
struct Shop {
    locks: Option<Arc<dyn LockProvider>>,
    store: Box<dyn Store>,
    payment: Duration,
}

/// What a customer asks for; the same article may stand in several lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: String,
    customer: i64,
    lines: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sku: String,
    quantity: u32,
}

/// Serves until the standard input ends.
pub(super) async fn serve(options: &Serve) -> Result {
    let mut said = hear();
    let locks = match options.without_locks {
        true => None,
        false => Some(connect(&options.locks).await?),
    };
    let store = store::open(&options.db).await?;
    let shop = Arc::new(Shop { locks, store, payment: options.payment });
    let router = Router::new()
        .route("/orders", post(place))
        .route("/health", get(async || "well\n"))
        .with_state(shop);
    let listener = tokio::net::TcpListener::bind(&options.listen).await?;
    println!("{}", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, router) => Ok(served?),
        _ = said.recv() => Ok(()),
    }
}

/// `201` sold, `409` sold out or overtaken, `423` others have the articles, `503` no locks to be had: try again.
async fn place(State(shop): State<Arc<Shop>>, body: String) -> (StatusCode, String) {
    let order: Order = match serde_json::from_str(&body) {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    match shop.place(&order).await {
        Ok(()) => (StatusCode::CREATED, format!("{}\n", order.id)),
        Err(Rejection { status, why }) => (status, format!("{why}\n")),
    }
}

/// An order that was not sold, and what the customer is told.
struct Rejection {
    status: StatusCode,
    why: String,
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
    async fn place(&self, order: &Order) -> Result<(), Rejection> {
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
        let options = LockOptions::new().ttl(TTL).wait(WAIT);
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
