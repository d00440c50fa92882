//! Many locks held at once: what renewing them costs, and what each takes up.

use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;

use crate::crew::Crew;
use crate::failure::Outcome;
use crate::order::Gauge;
use crate::order::Order;
use crate::plan::Plan;
use crate::scenario::Sample;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenario::Turn;

/// What it takes to acquire and release that many, more or less.
const FILL: Duration = Duration::from_secs(2);

pub(crate) struct Held;

#[async_trait]
impl Scenario for Held {
    fn name(&self) -> &'static str {
        "held"
    }

    fn title(&self) -> &'static str {
        "many locks held by one client and renewed each third of their TTL"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: 1,
            gauge: Gauge::Memory,
            ttl: plan.locks_ttl,
            unit: "locks",
            sizes: vec![plan.locks],
            fair: false,
            fresh: true,
            rounds: 1,
            warm: false,
            timed: false,
            besides: plan.cycle() * plan.cycles + FILL,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let (locks, cycle) = (turn.size, turn.plan.cycle());
        let empty = crew.usage(0).await?;
        crew.ask(0, Order::Hold { locks }).await?;
        let (begun, full) = (Instant::now(), crew.usage(0).await?);
        let load = crew.load().await?;
        crew.ask(0, Order::Stay { time: cycle * turn.plan.cycles, cycle }).await?;
        let (took, after) = (begun.elapsed(), crew.usage(0).await?);
        let load = crew.load().await?.zip(load).map(|(after, before)| after - before);
        let cpu = after.cpu.saturating_sub(full.cpu);
        let each = |full: u64, empty: u64| (full as f64 - empty as f64) / locks as f64;
        let allocated = full.allocated.zip(empty.allocated);
        let requests = after.requests.zip(full.requests).map(|(after, full)| after - full);
        let cycles = |kept: u64| kept as f64 / locks as f64;
        Ok(Sample::default()
            .with("bytes each", allocated.map(|(full, empty)| each(full, empty)))
            .with("RSS each", each(full.resident, empty.resident))
            .with("CPU %", cpu.as_secs_f64() / took.as_secs_f64() * 100.0)
            .with("renewals/lock", requests.map(|it| cycles(it.kept)))
            .with("batches/cycle", requests.map(|it| it.keeps as f64 / cycles(it.kept)))
            .with("commands/cycle", load.map(|it| it.commands as f64 / f64::from(turn.plan.cycles)))
            .with("tasks", after.tasks as f64)
            .with("threads", after.threads as f64)
            .with("connections", after.connections as f64))
    }
}
