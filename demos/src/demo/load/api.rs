//! The API that is put under load: each order takes a lock, reads the user's total, adds to it and writes it back.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use lock::Backoff;
use lock::LockOptions;
use lock::LockProvider;
use lock::Wait;
use lock::http::status_of;

use crate::http::serve;
use crate::redis_cli::RedisCli;
use crate::servers::connect;
use crate::story::Result;
use crate::story::ms;
use crate::story::pause;

/// Where the user's total is.
pub(super) const TOTAL: &str = "load:total:1";

/// An instance of the API.
#[derive(Clone)]
struct Api {
    locks: Arc<dyn LockProvider>,
    cli: RedisCli,
}

/// Starts an instance.
pub(super) async fn api(url: &str) -> Result<SocketAddr> {
    let api = Api { locks: connect(url).await?, cli: RedisCli::connect(url).await? };
    serve(Router::new().route("/api/orders", post(order)).with_state(api)).await
}

/// Reads the user's total, adds to it, and writes it back, under a lock.
async fn order(State(mut api): State<Api>, body: String) -> (StatusCode, String) {
    match store(&mut api, &body).await {
        Ok(total) => (StatusCode::OK, total.to_string()),
        Err(error) => {
            let status = error.downcast_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of);
            (status, error.to_string())
        }
    }
}

async fn store(api: &mut Api, body: &str) -> Result<i64> {
    let order: serde_json::Value = serde_json::from_str(body)?;
    let amount = order["amount"].as_i64().ok_or("no amount")?;
    let key = format!("lock:load:user:{}", order["userId"]);
    let wait = Wait::Attempts { max: 4, backoff: Backoff::fixed(ms(200)) };
    let guard = api.locks.lock(&key, &LockOptions::new().wait(wait)).await?;
    let total = api.cli.number(TOTAL).await?;
    pause(ms(2)).await;
    api.cli.run(&format!("SET {TOTAL} {}", total + amount)).await?;
    guard.unlock().await?;
    Ok(total + amount)
}
