//! Several instances over each backend: every tick runs once, and when instances are killed and frozen never twice.

use std::ops::Range;
use std::time::SystemTime;

use super::crew::Crew;
use super::instance::PERIOD;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

/// The file as its users have it, but for the time after which a killed instance's jobs are free.
const CONFIG: &str = r#"
scheduler:
  distributed_lock:
    enabled: true
  options:
    key_prefix: "myapp_scheduler:"
    lock_duration: 2       # seconds
    max_retries: 5
    retry_delay: 200       # milliseconds
"#;

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Storm {
    /// How many ticks, two seconds apart
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..))]
    ticks: u64,
    /// How many instances
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    instances: u64,
    /// Only this store, by name or URL; each backend in turn unless set
    #[arg(long, value_name = "STORE")]
    locks: Option<String>,
    /// Kill and freeze instances as well
    #[arg(long)]
    faults: bool,
    /// Let each instance run each tick, and see what comes of it
    #[arg(long)]
    without_locks: bool,
}

pub(super) async fn run(storm: &Storm, servers: &mut Servers) -> Result {
    let story = Story::begin("Scheduler: each tick on one of several instances");
    let stores = match &storm.locks {
        Some(name) => vec![(name.clone(), servers.store(name).await?)],
        None => servers.all(&story).await?,
    };
    let folder = tempfile::Builder::new().prefix("demos-").tempdir()?;
    let file = folder.path().join("scheduler.yaml");
    let enabled = if storm.without_locks { "enabled: false" } else { "enabled: true" };
    std::fs::write(&file, CONFIG.replace("enabled: true", enabled))?;
    let file = file.display().to_string();
    for (name, url) in stores {
        if name == "memory" {
            story.line("memory      is no store for several processes");
            continue;
        }
        story.part(format!("{} instances on {name}, {} ticks:", storm.instances, storm.ticks));
        one_store(&story, storm, Crew::new(&file, &url)).await?;
    }
    Ok(())
}

async fn one_store(story: &Story, storm: &Storm, mut crew: Crew<'_>) -> Result {
    crew.start(storm.instances).await?;
    let first = seconds() / PERIOD * PERIOD + PERIOD;
    let end = first + storm.ticks * PERIOD;
    while seconds() < end {
        pause(ms(500)).await;
        // Each fault is over before the last tick.
        if storm.faults && seconds() + 2 * PERIOD < end {
            crew.hurt(story).await?;
        }
    }
    // What began at the last tick has time to end.
    pause(ms(1700)).await;
    crew.dismiss();
    judge(story, storm, &crew, first..end)
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn judge(story: &Story, storm: &Storm, crew: &Crew<'_>, ticks: Range<u64>) -> Result {
    let (Some(report), Some(backup)) = (crew.tally("report"), crew.tally("backup")) else {
        return Err("wrong: no job has run".into());
    };
    let missed = report.missed(ticks);
    story.line(format!(
        "report: {} runs, {} double, {missed} missed; {} skipped, {} late, {} stopped, {} failed",
        report.runs(),
        report.doubles(),
        report.times("skipped"),
        report.times("late"),
        report.times("lost"),
        report.times("failed"),
    ));
    story.line(format!(
        "backup: {} runs of 2.5 s, {} at the same time; {} skipped, {} busy, {} stopped",
        backup.runs(),
        backup.overlaps(),
        backup.times("skipped"),
        backup.times("busy"),
        backup.times("lost"),
    ));
    story.check(report.doubles() == 0, "no tick ran twice")?;
    let apart = backup.overlaps() == 0 && report.overlaps() == 0;
    story.check(apart, "no two runs of a job at the same time")?;
    if storm.faults {
        let (faults, cut) = (crew.faults, crew.interrupted);
        let what = format!("{faults} faults, {cut} runs cut short, {missed} ticks missed");
        return story.check(faults > 0 && report.runs() > 0, what);
    }
    story.check(missed == 0, format!("each of {} ticks ran", storm.ticks))
}
