//! One instance: two jobs on a cron scheduler, each tick of which prints what became of it.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use lock::Hold;
use tokio_cron_scheduler::Job;
use tokio_cron_scheduler::JobScheduler;

use super::Run;
use super::config;
use super::locker::Locker;
use super::locker::Singleton;
use crate::instance::hear;
use crate::instance::say;
use crate::servers::connect;
use crate::story::Result;
use crate::story::ms;
use crate::story::pause;
use crate::work::work;

/// How far two ticks are apart, in seconds.
pub(super) const PERIOD: u64 = 2;

const CRON: &str = "*/2 * * * * *";

/// A short job, and one that takes longer than its lock lasts and than two ticks are apart.
const JOBS: [(&str, Duration); 2] = [("report", ms(100)), ("backup", ms(2500))];

/// Runs until the standard input ends.
pub(super) async fn run(options: &Run) -> Result {
    let mut said = hear();
    let scheduler = config::read(&options.config)?.scheduler;
    let locks = match scheduler.distributed_lock.enabled {
        true => Some(connect(&options.locks).await?),
        false => None,
    };
    let locker = Arc::new(Locker { locks, options: scheduler.options });
    let cron = JobScheduler::new().await?;
    for (name, takes) in JOBS {
        let work = Arc::new(Work {
            job: Singleton::new(name),
            name,
            takes,
            behind: options.behind,
            locker: locker.clone(),
        });
        let job = Job::new_async(CRON, move |_, _| Box::pin(work.clone().tick()))?;
        cron.add(job).await?;
    }
    cron.start().await?;
    say("ready");
    let _ = said.recv().await;
    Ok(())
}

/// A job as it runs here.
struct Work {
    job: Singleton,
    name: &'static str,
    takes: Duration,
    behind: Duration,
    locker: Arc<Locker>,
}

impl Work {
    async fn tick(self: Arc<Self>) {
        // An instance whose clock is behind is late, and does not know.
        pause(self.behind).await;
        let tick = self.clock().as_secs() / PERIOD * PERIOD;
        let lateness = || self.clock().saturating_sub(Duration::from_secs(tick));
        let label = format!("{} {tick}", self.name);
        let run = async |hold: Option<Hold>| work(&label, self.takes, hold.as_ref()).await;
        say(format_args!("{label} {}", self.locker.tick(&self.job, lateness, run).await));
    }

    /// What this instance takes the time to be.
    fn clock(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(self.behind)
    }
}
