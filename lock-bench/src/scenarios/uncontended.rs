//! Lock and unlock of keys that nobody else wants.

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
use crate::scenario::micros;
use crate::tally::Tally;

pub(crate) struct Uncontended;

#[async_trait]
impl Scenario for Uncontended {
    fn name(&self) -> &'static str {
        "uncontended"
    }

    fn title(&self) -> &'static str {
        "lock and unlock of a free key, a key for each task, in one process"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: 1,
            gauge: Gauge::Speed,
            ttl: plan.ttl,
            unit: "tasks",
            sizes: vec![1, 16, 64],
            fair: false,
            fresh: false,
            rounds: plan.rounds,
            warm: false,
            timed: true,
            besides: Duration::ZERO,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let before = crew.usage(0).await?;
        let begun = Instant::now();
        let order = |_| Order::Pairs { tasks: turn.size, time: turn.plan.round };
        let tally = Tally::sum(&crew.ask_each(order).await?);
        let took = begun.elapsed();
        let cpu = crew.usage(0).await?.cpu.saturating_sub(before.cpu);
        let pairs = tally.count as f64;
        Ok(Sample::of(&tally)
            .with("pairs/s", pairs / took.as_secs_f64())
            .with("p50 µs", micros(tally.quantile(0.50)))
            .with("p99 µs", micros(tally.quantile(0.99)))
            .with("CPU µs/pair", cpu.as_secs_f64() * 1e6 / pairs))
    }
}
