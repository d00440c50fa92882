//! Fair waiters of several clients are served in the order in which they came, and nobody overtakes them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use lock::LockOptions;
use tokio::task::JoinSet;

use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::story::until;

const KEY: &str = "lock:queue";
const PROCESSES: u64 = 5;

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.redis()?;
    let locks = connect(&url).await?;
    let busy = locks.lock(KEY, &LockOptions::new()).await?;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut processes = JoinSet::new();
    for number in 1..=PROCESSES {
        processes.spawn(process(*story, url.clone(), number, served.clone()));
        // The next one joins when this one stands in line.
        until("place in line", async || Ok(locks.status(KEY).await?.waiting >= number)).await?;
    }
    busy.unlock().await?;
    let newcomer = locks.try_lock(KEY, &LockOptions::new()).await?.acquired();
    story.tell("newcomer", if newcomer.is_some() { "got lock" } else { "is refused: others wait" });
    while let Some(ended) = processes.join_next().await {
        ended??;
    }
    let served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
    story.check(newcomer.is_none(), "who comes last does not overtake")?;
    story.check(served == [1, 2, 3, 4, 5], format!("served in order: {served:?}"))
}

async fn process(story: Story, url: String, number: u64, served: Arc<Mutex<Vec<u64>>>) -> Result {
    let (who, locks) = (format!("process {number}"), connect(&url).await?);
    story.tell(&who, "joining queue");
    let guard = locks.lock(KEY, &LockOptions::new().fair().wait(ms(20_000))).await?;
    story.tell(&who, "got lock");
    served.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    pause(ms(200)).await;
    story.tell(&who, "releasing");
    Ok(guard.unlock().await?)
}
