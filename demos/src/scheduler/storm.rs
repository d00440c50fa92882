//! Several instances over each backend: every tick runs once, and when instances are killed and frozen never twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use super::analysis::Tally;
use super::instance::PERIOD;
use crate::instance::Instance;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::work::now;

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

/// How far the clock of each instance is behind that of the one before.
const SKEW: Duration = ms(60);

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Storm {
    /// How many ticks, two seconds apart
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..))]
    ticks: u64,
    /// How many instances
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    instances: u64,
    /// Only this store; each backend in turn unless set
    #[arg(long, value_name = "URL")]
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
        Some(url) => vec![(url.clone(), url.clone())],
        None => servers.all().await?.into_iter().filter(|(name, _)| name != "memory").collect(),
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("scheduler.yaml");
    let enabled = if storm.without_locks { "enabled: false" } else { "enabled: true" };
    std::fs::write(&file, CONFIG.replace("enabled: true", enabled))?;
    for (name, url) in stores {
        story.part(format!("{} instances on {name}, {} ticks:", storm.instances, storm.ticks));
        one_store(&story, storm, &file, &url).await?;
    }
    Ok(())
}

/// The instances, and what was heard of them.
struct Crew<'a> {
    file: &'a Path,
    url: &'a str,
    instances: Vec<(usize, Instance)>,
    started: usize,
    tallies: BTreeMap<String, Tally>,
    interrupted: usize,
}

async fn one_store(story: &Story, storm: &Storm, file: &Path, url: &str) -> Result {
    let mut crew = Crew {
        file,
        url,
        instances: Vec::new(),
        started: 0,
        tallies: BTreeMap::new(),
        interrupted: 0,
    };
    for _ in 0..storm.instances {
        let instance = crew.start().await?;
        crew.instances.push(instance);
    }
    let first = seconds() / PERIOD * PERIOD + PERIOD;
    let end = first + storm.ticks * PERIOD;
    let mut faults = 0;
    while seconds() < end {
        pause(ms(500)).await;
        if storm.faults && seconds() + 2 * PERIOD < end {
            crew.hurt(story, faults).await?;
            faults += 1;
        }
    }
    // What began at the last tick has time to end.
    pause(ms(1700)).await;
    for (number, mut instance) in std::mem::take(&mut crew.instances) {
        for line in instance.lines_so_far() {
            crew.hear(number, &line);
        }
    }
    crew.judge(story, storm, first, end, faults)
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

impl Crew<'_> {
    async fn start(&mut self) -> Result<(usize, Instance)> {
        let behind = SKEW * u32::try_from(self.started % 4)?;
        let (file, behind) = (self.file.display().to_string(), format!("{}ms", behind.as_millis()));
        let arguments =
            ["scheduler", "run", "--config", &file, "--locks", self.url, "--behind", &behind];
        let mut instance = Instance::start(&arguments.map(str::to_owned))?;
        instance.line().await?;
        self.started += 1;
        Ok((self.started, instance))
    }

    /// Kills one and replaces it, or freezes one for longer than its locks last.
    async fn hurt(&mut self, story: &Story, faults: u64) -> Result {
        let place = fastrand::usize(..self.instances.len());
        if faults.is_multiple_of(2) {
            story.tell("fault", format!("instance {} is killed", self.instances[place].0));
            let new = self.start().await?;
            let (number, old) = std::mem::replace(&mut self.instances[place], new);
            let lines = old.kill().await?;
            let at = now();
            lines.iter().for_each(|line| self.hear(number, line));
            self.interrupted +=
                self.tallies.values_mut().map(|tally| tally.killed(number, at)).sum::<usize>();
            return Ok(());
        }
        let (number, instance) = &self.instances[place];
        story.tell("fault", format!("instance {number} is frozen for 3 s"));
        instance.freeze()?;
        pause(ms(3000)).await;
        instance.thaw()
    }

    fn hear(&mut self, instance: usize, line: &str) {
        let Some((job, rest)) = line.split_once(' ') else { return };
        self.tallies.entry(job.to_owned()).or_default().hear(instance, rest);
    }

    fn judge(&self, story: &Story, storm: &Storm, first: u64, end: u64, faults: u64) -> Result {
        let sum = |job: &str, what: &str| self.tallies.get(job).map_or(0, |it| it.times(what));
        let (Some(report), Some(backup)) = (self.tallies.get("report"), self.tallies.get("backup"))
        else {
            return Err("wrong: no job has run".into());
        };
        let missed = report.missed(first, end);
        story.line(format!(
            "report: {} runs, {} double, {missed} missed; {} skipped, {} late, {} stopped, {} failed",
            report.runs(),
            report.doubles(),
            sum("report", "skipped"),
            sum("report", "late"),
            sum("report", "lost"),
            sum("report", "failed"),
        ));
        story.line(format!(
            "backup: {} runs of 2.5 s, {} at the same time; {} skipped, {} busy, {} stopped",
            backup.runs(),
            backup.overlaps(),
            sum("backup", "skipped"),
            sum("backup", "busy"),
            sum("backup", "lost"),
        ));
        story.check(report.doubles() == 0, "no tick ran twice")?;
        let apart = backup.overlaps() == 0 && report.overlaps() == 0;
        story.check(apart, "no two runs of a job at the same time")?;
        if storm.faults {
            let interrupted = self.interrupted;
            let what =
                format!("{faults} faults, {interrupted} runs cut short, {missed} ticks missed");
            return story.check(report.runs() > 0, what);
        }
        story.check(missed == 0, format!("each of {} ticks ran", storm.ticks))
    }
}
