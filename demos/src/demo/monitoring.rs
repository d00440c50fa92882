//! Who holds what: by the commands that people know, which show the truth, and by ours, which show more.

use lock::LockOptions;

use crate::redis_cli::NIL;
use crate::redis_cli::RedisCli;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Failure;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;

const ORDER: &str = "lock:monitored:order";
const PAYMENT: &str = "lock:monitored:payment";

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.redis()?;
    let (mut cli, locks) = (RedisCli::connect(&url).await?, connect(&url).await?);
    let options = LockOptions::new().ttl(ms(30_000));
    let order = locks.lock(ORDER, &options.clone().owner("worker-1")).await?;
    let payment = locks.lock(PAYMENT, &options.owner("worker-2")).await?;

    story.part("As redis-cli shows it:");
    let mut ask = async |line: String| {
        let answer = cli.run(&line).await?;
        story.tell("redis-cli", format!("{line}: {answer}"));
        Ok::<_, Failure>(answer)
    };
    let keys = ask("KEYS lock:monitored:*".into()).await?;
    let token = ask(format!("GET {ORDER}")).await?;
    let left: i64 = ask(format!("TTL {ORDER}")).await?.parse()?;
    story.check(keys.split(' ').count() == 2, "KEYS shows the two locks and nothing else")?;
    story.check(token.len() == 32, "the value is the token of the holder")?;
    story.check((1..=30).contains(&left), "TTL is what is left")?;

    story.part("As we show it (lockctl list, status and watch print the same):");
    let list = locks.list("lock:monitored:").await?;
    for state in &list {
        let holders: Vec<_> = state.holders.iter().map(ToString::to_string).collect();
        story.tell(&state.key, format!("{}; {} waiting", holders.join(", "), state.waiting));
    }
    let shown = list.iter().map(|state| state.holders[0].fence).collect::<Vec<_>>();
    let fences = [Some(order.fence()), Some(payment.fence())];
    story.check(shown == fences, "with owners, and with fences, which survive the unlock:")?;

    let fence = order.fence();
    order.unlock().await?;
    payment.unlock().await?;
    let gone = ask(format!("GET {ORDER}")).await?;
    let again = locks.lock(ORDER, &LockOptions::new()).await?;
    story.tell("we", format!("{ORDER}: fence {}, before it was {fence}", again.fence()));
    let rises = again.fence() > fence;
    again.unlock().await?;
    story.check(gone == NIL && rises, "the key is gone, and the next fence is higher all the same")
}
