//! From a release in one process to the grant in another, beside the round trip that it takes at the least.

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
        "from the call of unlock in one process to the grant in another that waits"
    }

    fn setup(&self, plan: &Plan) -> Setup {
        Setup {
            seats: 2,
            gauge: Gauge::Speed,
            ttl: plan.ttl,
            unit: "waiters",
            sizes: vec![1],
            fair: true,
            fresh: false,
            rounds: plan.rounds,
            warm: false,
            timed: true,
            besides: Duration::ZERO,
        }
    }

    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample> {
        let key = format!("ball-{}", turn.round);
        let end = Instant::now() + turn.plan.round;
        let (mut tape, mut pings) = (Tape::new(), Tape::new());
        crew.ask_when(0, Order::Lock { key: key.clone() }).await?;
        let mut holder = 0;
        while Instant::now() < end {
            tape.took(hand_over(crew, &key, holder).await?);
            holder = 1 - holder;
            sleep(SETTLED).await;
            crew.ping().await?.into_iter().for_each(|took| pings.took(took));
        }
        crew.ask(holder, Order::Unlock { key }).await?;
        let (tally, pings) = (tape.tally(), pings.tally());
        let (half, ping) = (micros(tally.quantile(0.50)), micros(pings.quantile(0.50)));
        Ok(Sample::of(&tally)
            .with("p50 µs", half)
            .with("p99 µs", micros(tally.quantile(0.99)))
            .with("ping p50 µs", ping)
            .with("p50 ÷ ping", half.zip(ping).map(|(half, ping)| half / ping)))
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
