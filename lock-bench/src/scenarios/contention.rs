//! Many who want the same: how fast it goes round, and who gets how much of it.

use std::time::Instant;

use async_trait::async_trait;

use crate::crew::Crew;
use crate::failure::Outcome;
use crate::figures::jain;
use crate::figures::least_share;
use crate::order::Gauge;
use crate::order::Order;
use crate::plan::Plan;
use crate::scenario::Sample;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenario::Turn;
use crate::scenario::micros;
use crate::scenario::millis;
use crate::tally::Tally;

const SEATS: usize = 4;
const TASKS: usize = 16;

pub(crate) struct Contention;

#[async_trait]
impl Scenario for Contention {
    fn name(&self) -> &'static str {
        "contention"
    }

    fn title(&self) -> &'static str {
        "4 processes of 16 tasks that want one key, or a key each; held for no time"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: SEATS,
            gauge: Gauge::Requests,
            ttl: plan.ttl,
            unit: "keys",
            sizes: vec![1, SEATS * TASKS],
            fair: true,
            fresh: false,
            rounds: plan.rounds,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let before = crew.requests().await?;
        let begun = Instant::now();
        let tallies = crew.ask_each(|seat| order(seat, turn)).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let requests = crew.requests().await?.zip(before).map(|(after, before)| after - before);
        let counts: Vec<u64> = tallies.iter().map(|tally| tally.count).collect();
        let tally = Tally::sum(&tallies);
        let grants = tally.count as f64;
        Ok(Sample::of(&tally)
            .with("grants/s", grants / seconds)
            .with("requests/grant", requests.map(|requests| requests.all as f64 / grants))
            .with("watches/grant", requests.map(|requests| requests.watches as f64 / grants))
            .with("least/fair share", least_share(&counts))
            .with("Jain index", jain(&counts))
            .with("p99 wait µs", micros(tally.quantile(0.99)))
            .with("longest ms", millis(Some(tally.longest))))
    }
}

/// New keys each round, so that nobody who was cut short stands in the way.
fn order(seat: usize, turn: Turn<'_>) -> Order {
    let name = |n: usize| format!("wanted-{}-{}", turn.round, (seat * TASKS + n) % turn.size);
    Order::Contend { keys: (0..TASKS).map(name).collect(), time: turn.plan.round }
}
