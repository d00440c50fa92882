//! Many who want the same: how fast it goes round, what it costs, and who gets how much of it.

use async_trait::async_trait;
use tokio::time::sleep;

use crate::crew::Crew;
use crate::failure::Outcome;
use crate::figures::least_share;
use crate::figures::overtaken;
use crate::order::Gauge;
use crate::order::Order;
use crate::plan::Plan;
use crate::scenario::Sample;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenario::Turn;
use crate::scenario::millis;
use crate::store::Load;
use crate::tally::Tally;

const SEATS: usize = 4;

pub(crate) struct Contention;

#[async_trait]
impl Scenario for Contention {
    fn name(&self) -> &'static str {
        "contention"
    }

    fn title(&self) -> &'static str {
        "tasks in 4 processes that want one key, held for no time"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: SEATS,
            gauge: Gauge::Requests,
            ttl: plan.ttl,
            unit: "tasks",
            sizes: plan.crowds.clone(),
            fair: true,
            fresh: false,
            rounds: plan.rounds,
            warm: true,
            timed: true,
            besides: plan.warm,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let contend = crew.ask_to_contend(|seat| order(seat, turn));
        let ((tallies, requests), load) = tokio::try_join!(contend, load(crew, turn))?;
        let counts: Vec<u64> = tallies.iter().map(|tally| tally.count).collect();
        let tally = Tally::sum(&tallies);
        let grants = tally.count as f64;
        let each = |count: u64| count as f64 / grants;
        Ok(Sample::of(&tally)
            .with("grants/s", grants / turn.plan.round.as_secs_f64())
            .with("requests/grant", requests.map(|requests| each(requests.all)))
            .with("scripts/grant", load.map(|load| each(load.scripts)))
            .with("commands/grant", load.map(|load| each(load.commands)))
            .with("least/fair share", least_share(&counts))
            .with("overtaken ms", millis(overtaken(&tally.turns)))
            .with("p50 wait ms", millis(tally.quantile(0.50)))
            .with("longest ms", millis(Some(tally.longest))))
    }
}

/// New keys each round, so that nobody who was cut short stands in the way.
fn order(seat: usize, turn: Turn<'_>) -> Order {
    let tasks = (seat..turn.size).step_by(SEATS);
    let key = format!("wanted-{}-{}", turn.size, turn.round);
    let Plan { warm, round, .. } = *turn.plan;
    Order::Contend { keys: tasks.map(|_| key.clone()).collect(), warm, time: round }
}

/// What the server carries out in the time that counts: without the coming and going of all tasks.
async fn load(crew: &Crew, turn: Turn<'_>) -> Outcome<Option<Load>> {
    sleep(turn.plan.warm).await;
    let before = crew.load().await?;
    sleep(turn.plan.round).await;
    Ok(crew.load().await?.zip(before).map(|(after, before)| after - before))
}
