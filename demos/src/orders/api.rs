//! One instance: orders come by HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::routing::post;

use super::Serve;
use super::shop::Order;
use super::shop::Rejection;
use super::shop::Shop;
use super::store;
use crate::instance::hear;
use crate::instance::say;
use crate::servers::connect;
use crate::story::Result;

/// Serves until the standard input ends.
pub(super) async fn serve(options: &Serve) -> Result {
    let mut said = hear();
    let locks = match options.without_locks {
        true => None,
        false => Some(connect(&options.locks).await?),
    };
    let store = store::open(&options.db).await?;
    let (payment, patience) = (options.payment, options.patience.clone());
    let shop = Arc::new(Shop { locks, store, payment, patience });
    let router = Router::new()
        .route("/orders", post(place))
        .route("/health", get(async || "well\n"))
        .with_state(shop);
    let listener = tokio::net::TcpListener::bind(&options.listen).await?;
    say(listener.local_addr()?);
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
