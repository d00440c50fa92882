//! Orders at a steady rate against an API that takes a lock for each, and what that does to the server.

mod api;

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::api::TOTAL;
use self::api::api;
use crate::http::send;
use crate::redis_cli::RedisCli;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const BODY: &str = r#"{"userId": 1, "amount": 100}"#;

/// How many orders come, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rate {
    /// How long orders come in
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many come in each second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { seconds: 10, rate: 50 }
    }
}

pub(crate) async fn run(story: &Story, servers: &mut Servers, rate: &Rate) -> Result {
    let url = servers.redis()?;
    let mut cli = RedisCli::connect(&url).await?;
    cli.run(&format!("DEL {TOTAL}")).await?;
    let instances = [api(&url).await?, api(&url).await?];
    story.part(format!(
        "{} orders a second of one user for {} s, at two instances:",
        rate.rate, rate.seconds
    ));
    let watching = tokio::spawn(watch(*story, cli.clone(), rate.seconds));
    let tally = arrivals(instances, rate).await?;
    watching.await??;
    let total = cli.number(TOTAL).await?;
    cli.run(&format!("DEL {TOTAL}")).await?;
    let Tally { stored, busy, failed, times } = tally;
    story.part(format!("{} orders: {stored} stored, {busy} told to try again", stored + busy));
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    story.line(format!(
        "median {:.1} ms, 95 % {:.1} ms, 99 % {:.1} ms, longest {:.1} ms",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    ));
    story.check(failed == 0, "none failed")?;
    story
        .check(stored > 0 && total == stored * 100, format!("the total is {stored} × 100: {total}"))
}

/// What came of the orders.
struct Tally {
    stored: i64,
    busy: i64,
    failed: i64,
    /// In microseconds.
    times: Histogram<u64>,
}

/// Orders come whether the ones before are done or not, as customers do.
async fn arrivals(instances: [SocketAddr; 2], rate: &Rate) -> Result<Tally> {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate.rate)?);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut orders = JoinSet::new();
    for number in 0..rate.rate * rate.seconds {
        clock.tick().await;
        let instance = instances[usize::from(number % 2 == 1)];
        orders.spawn(async move {
            let begun = Instant::now();
            let answer = send(instance, "POST /api/orders", &[], BODY).await;
            (answer.map(|answer| answer.status), begun.elapsed())
        });
    }
    let mut tally =
        Tally { stored: 0, busy: 0, failed: 0, times: Histogram::new_with_max(60_000_000, 3)? };
    while let Some(done) = orders.join_next().await {
        let (status, took) = done?;
        match status {
            Ok(200) => tally.stored += 1,
            Ok(423) => tally.busy += 1,
            _ => tally.failed += 1,
        }
        tally.times.saturating_record(u64::try_from(took.as_micros())?);
    }
    Ok(tally)
}

/// Prints once a second what the server has to do.
async fn watch(story: Story, mut cli: RedisCli, seconds: u64) -> Result {
    let mut before = commands(&mut cli).await?;
    for _ in 0..seconds {
        pause(ms(1000)).await;
        let now = commands(&mut cli).await?;
        let held = cli.run("KEYS lock:load:*").await?.split_whitespace().count();
        story.tell("redis-cli", format!("{:>6} commands a second, {held} locked", now - before));
        before = now;
    }
    Ok(())
}

async fn commands(cli: &mut RedisCli) -> Result<i64> {
    let info = cli.run("INFO stats").await?;
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    Ok(line.ok_or("no count of commands")?.trim().parse()?)
}
