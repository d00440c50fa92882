//! From a release in one process to the grant in another, and what waiting costs until then.

use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use tokio::time::sleep;

use crate::crew::Crew;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Gauge;
use crate::order::Order;
use crate::plan::Plan;
use crate::scenario::Sample;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenario::Turn;
use crate::scenario::micros;
use crate::tally::Tape;

/// How long the waiter has waited when the lock is released.
const SETTLED: Duration = Duration::from_millis(10);

pub(crate) struct Handover;

#[async_trait]
impl Scenario for Handover {
    fn name(&self) -> &'static str {
        "handover"
    }

    fn title(&self) -> &'static str {
        "from the call of unlock in one process to the grant in another that waits; then idle waiting"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: 2,
            gauge: Gauge::Requests,
            ttl: plan.ttl,
            unit: "idle waiters",
            sizes: vec![plan.idle],
            fair: false,
            fresh: false,
            rounds: plan.rounds,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let key = format!("ball-{}", turn.round);
        let end = Instant::now() + turn.plan.round;
        let mut tape = Tape::new();
        crew.ask_when(0, Order::Lock { key: key.clone() }).await?;
        let mut holder = 0;
        while Instant::now() < end {
            tape.took(hand_over(crew, &key, holder).await?);
            holder = 1 - holder;
        }
        crew.ask(holder, Order::Unlock { key }).await?;
        let tally = tape.tally();
        let idle = idle(crew, turn).await?;
        Ok(Sample::of(&tally)
            .with("p50 µs", micros(tally.quantile(0.50)))
            .with("p99 µs", micros(tally.quantile(0.99)))
            .with("idle CPU %", idle.cpu * 100.0)
            .with("idle requests/s", idle.requests))
    }
}

/// Lets one seat release what the other waits for.
async fn hand_over(crew: &Crew, key: &str, holder: usize) -> Outcome<Duration> {
    let wait = crew.ask_when(1 - holder, Order::Lock { key: key.to_owned() });
    let release = async {
        sleep(SETTLED).await;
        crew.ask_when(holder, Order::Unlock { key: key.to_owned() }).await
    };
    let (granted, released) = tokio::try_join!(wait, release)?;
    let took = granted.checked_sub(released);
    took.ok_or_else(|| Failure::new("a lock was granted before it was released"))
}

/// What a process uses while it waits for what another holds.
struct Idle {
    /// The share of one core.
    cpu: f64,
    /// Requests a second, where they are counted.
    requests: Option<f64>,
}

async fn idle(crew: &Crew, turn: Turn<'_>) -> Outcome<Idle> {
    let locks = turn.size;
    crew.ask(0, Order::Hold { locks }).await?;
    crew.ask(1, Order::Wait { locks }).await?;
    sleep(turn.plan.calm).await;
    let (begun, before) = (Instant::now(), crew.usage(1).await?);
    sleep(turn.plan.round).await;
    let (seconds, after) = (begun.elapsed().as_secs_f64(), crew.usage(1).await?);
    crew.ask(1, Order::Leave).await?;
    crew.ask(0, Order::Leave).await?;
    let requests = after.requests.zip(before.requests).map(|(after, before)| after - before);
    Ok(Idle {
        cpu: after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds,
        requests: requests.map(|requests| requests.all as f64 / seconds),
    })
}
