//! A holder that was paused for longer than its TTL writes late: the resource knows a higher fence and answers 409.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Extension;
use axum::Router;
use axum::extract::Path;
use axum::extract::State;
use axum::routing::post;
use lock::Fence;
use lock::LockOptions;
use lock::http::FenceLayer;

use crate::http::Answer;
use crate::http::send;
use crate::http::serve;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const KEY: &str = "lock:order:123";

/// The orders and what was last written to each.
type Orders = Arc<Mutex<BTreeMap<String, String>>>;

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let orders = Orders::default();
    let api = api(orders.clone()).await?;
    let locks = connect(&servers.redis()?).await?;

    let options = LockOptions::new().ttl(ms(1000)).without_renewal();
    let slow = locks.lock(KEY, &options).await?;
    story.tell("process A", format!("has {KEY} for 1 s, fence {}", slow.fence()));
    story.tell("process A", "is paused for 1.5 s, as by a garbage collector");
    pause(ms(1500)).await;
    let quick = locks.lock(KEY, &LockOptions::new().wait(ms(2000))).await?;
    story.tell("process B", format!("has {KEY}, fence {}", quick.fence()));
    story.check(quick.fence() > slow.fence(), "B's fence is higher than A's")?;

    let second = write(story, api, "process B", quick.fence(), "completed").await?;
    let first = write(story, api, "process A", slow.fence(), "processing").await?;
    let again = write(story, api, "process B", quick.fence(), "shipped").await?;
    story.check(second.status == 200 && again.status == 200, "B writes as often as it likes")?;
    story.check(first.status == 409, "A is refused: 409 Conflict")?;
    refuse_the_rest(story, api).await?;
    let stored = send(api, "GET /api/orders/123", &[], "").await?;
    story.tell("anybody", format!("GET /api/orders/123: {}", stored.body));
    story.check(stored.body == r#"{"status": "shipped"}"#, "the order is as B has left it")?;
    quick.unlock().await?;
    let late = slow.unlock().await.err().map(|error| error.to_string()).unwrap_or_default();
    story.tell("process A", format!("unlock: {late}"));
    story.check(late.contains("lost"), "A's unlock says so as well")
}

async fn api(orders: Orders) -> Result<SocketAddr> {
    let router = Router::new()
        .route("/api/orders/{id}", post(update).get(show))
        .layer(FenceLayer::new())
        .with_state(orders);
    serve(router).await
}

async fn update(
    State(orders): State<Orders>,
    Path(id): Path<String>,
    Extension(_fence): Extension<Fence>,
    body: String,
) -> &'static str {
    orders.lock().unwrap_or_else(PoisonError::into_inner).insert(id, body);
    "stored"
}

async fn show(State(orders): State<Orders>, Path(id): Path<String>) -> String {
    let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    orders.get(&id).cloned().unwrap_or_default()
}

async fn write(
    story: &Story,
    api: SocketAddr,
    who: &str,
    fence: Fence,
    status: &str,
) -> Result<Answer> {
    let (fence, body) = (fence.to_string(), format!(r#"{{"status": "{status}"}}"#));
    let answer = send(api, "POST /api/orders/123", &[("X-Fence-Token", &fence)], &body).await?;
    story.tell(who, format!("X-Fence-Token: {fence}, {body}"));
    story.tell("the API", format!("{} {}", answer.status, answer.body.trim()));
    Ok(answer)
}

async fn refuse_the_rest(story: &Story, api: SocketAddr) -> Result {
    let without = send(api, "POST /api/orders/123", &[], "{}").await?;
    let nonsense = send(api, "POST /api/orders/123", &[("X-Fence-Token", "new")], "{}").await?;
    let refused = (without.status, nonsense.status) == (428, 400);
    story.check(refused, "no fence is answered by 428, nonsense by 400")
}
