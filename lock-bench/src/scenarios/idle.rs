//! What waiting costs while nothing happens.

use std::time::Instant;

use async_trait::async_trait;
use tokio::time::sleep;

use crate::crew::Crew;
use crate::failure::Outcome;
use crate::order::Gauge;
use crate::order::Order;
use crate::plan::Plan;
use crate::scenario::Sample;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenario::Turn;

pub(crate) struct Idle;

#[async_trait]
impl Scenario for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn title(&self) -> &'static str {
        "waiters in one process for keys that another holds, a key each"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: 2,
            gauge: Gauge::Requests,
            ttl: plan.ttl,
            unit: "waiters",
            sizes: vec![plan.idle],
            fair: true,
            fresh: true,
            rounds: 1,
            warm: false,
            timed: false,
            besides: plan.calm * 2,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let locks = turn.size;
        crew.ask(0, Order::Hold { locks }).await?;
        crew.ask(1, Order::Wait { locks }).await?;
        sleep(turn.plan.calm).await;
        let (begun, before, load) = (Instant::now(), crew.usage(1).await?, crew.load().await?);
        sleep(turn.plan.calm).await;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), crew.usage(1).await?);
        let load = crew.load().await?.zip(load).map(|(after, before)| after - before);
        crew.ask(1, Order::Leave).await?;
        crew.ask(0, Order::Leave).await?;
        let requests = after.requests.zip(before.requests).map(|(after, before)| after - before);
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Ok(Sample::default()
            .with("CPU %", cpu / seconds * 100.0)
            .with("requests/s", requests.map(|requests| requests.all as f64 / seconds))
            .with("commands/s", load.map(|load| load.commands as f64 / seconds)))
    }
}
