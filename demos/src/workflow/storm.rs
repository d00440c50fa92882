//! Several replicas under faults: killed, frozen, and cut off from the store; no execution runs twice at a time or finishes twice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use conformance_tests::Link as _;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use lock::ConnectUrl;

use crate::instance::Instance;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::work::now;

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Storm {
    /// How many executions
    #[arg(long, default_value_t = 60)]
    executions: usize,
    /// How many replicas
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    replicas: u64,
    /// Where the locks are; a Redis of our own unless set
    #[arg(long, value_name = "URL")]
    locks: Option<String>,
}

pub(super) async fn run(storm: &Storm, servers: &mut Servers) -> Result {
    let story = Story::begin("Workflows: each execution on one of several replicas");
    let url = match &storm.locks {
        Some(url) => url.clone(),
        None => servers.redis()?,
    };
    let journal = tempfile::tempdir()?;
    let mut crew = Crew::open(&url, journal.path(), storm.replicas).await?;
    crew.deliver_all(&story, storm.executions).await?;
    crew.judge(&story, storm.executions)
}

/// The replicas, each with a line of its own to the store.
struct Crew<'a> {
    journal: &'a Path,
    replicas: Vec<Replica>,
    started: usize,
    faults: u64,
    deliveries: u64,
    heard: Heard,
}

struct Replica {
    number: usize,
    instance: Instance,
    line: Proxy,
    url: String,
}

/// What replicas said.
#[derive(Default)]
struct Heard {
    begun: BTreeMap<(usize, String), u64>,
    spans: BTreeMap<String, Vec<(u64, u64)>>,
    finished: BTreeMap<String, u64>,
    outcomes: BTreeMap<String, u64>,
}

impl<'a> Crew<'a> {
    async fn open(url: &str, journal: &'a Path, replicas: u64) -> Result<Self> {
        let server = ConnectUrl::parse(url)?.hosts()[0].to_string();
        let mut crew = Self {
            journal,
            replicas: Vec::new(),
            started: 0,
            faults: 0,
            deliveries: 0,
            heard: Heard::default(),
        };
        for _ in 0..replicas {
            let line = Proxy::start(server.clone()).await?;
            let through = url.replacen(&server, &line.address().to_string(), 1);
            // A replica that is heard of no more keeps an execution from the others for so long.
            let query = if through.contains('?') { '&' } else { '?' };
            let url = format!("{through}{query}ttl=1s&timeout=1s");
            let instance = crew.start(&url).await?;
            crew.replicas.push(Replica { number: crew.started, instance, line, url });
        }
        Ok(crew)
    }

    async fn start(&mut self, url: &str) -> Result<Instance> {
        let journal = self.journal.display().to_string();
        let arguments = ["workflow", "run", "--locks", url, "--journal", &journal];
        let mut instance = Instance::start(&arguments.map(str::to_owned))?;
        instance.line().await?;
        self.started += 1;
        Ok(instance)
    }

    /// Hands all executions to all replicas, five at a time, until each has finished.
    async fn deliver_all(&mut self, story: &Story, executions: usize) -> Result {
        let ids: Vec<String> = (1..=executions).map(|number| format!("work_{number}")).collect();
        for batch in ids.chunks(5) {
            let begun = Instant::now();
            self.deliver(batch)?;
            pause(ms(100)).await;
            let hurt = self.hurt(story).await?;
            while !batch.iter().all(|id| self.heard.finished.contains_key(id)) {
                if begun.elapsed() > ms(30_000) {
                    return Err("wrong: executions do not come to an end".into());
                }
                pause(ms(350)).await;
                self.deliver(batch)?;
                self.hear();
            }
            self.mend(hurt)?;
        }
        // Once more, long after: all of them have finished.
        self.deliver(&ids)?;
        pause(ms(1500)).await;
        self.hear();
        story.tell("replicas", format!("{} executions finished", self.heard.finished.len()));
        Ok(())
    }

    fn deliver(&mut self, ids: &[String]) -> Result {
        for replica in &mut self.replicas {
            for id in ids {
                replica.instance.say(id)?;
                self.deliveries += 1;
            }
        }
        Ok(())
    }

    fn hear(&mut self) {
        for replica in &mut self.replicas {
            for line in replica.instance.lines_so_far() {
                self.heard.hear(replica.number, &line);
            }
        }
    }
}

/// What was done to a replica, and has to be undone.
enum Hurt {
    Killed,
    Frozen(usize),
    CutOff(usize),
}

impl Crew<'_> {
    /// Lets a replica fail that has just been handed executions.
    async fn hurt(&mut self, story: &Story) -> Result<Hurt> {
        let place = fastrand::usize(..self.replicas.len());
        let replica = &self.replicas[place];
        let number = replica.number;
        self.faults += 1;
        Ok(match self.faults % 4 {
            0 => {
                story.tell("fault", format!("replica {number} is killed"));
                self.kill(place).await?;
                Hurt::Killed
            }
            1 => {
                story.tell("fault", format!("replica {number} is cut off: its connections hang"));
                replica.line.set(Weather::Hangs);
                Hurt::CutOff(place)
            }
            2 => {
                story.tell("fault", format!("replica {number} is frozen"));
                replica.instance.freeze()?;
                Hurt::Frozen(place)
            }
            _ => {
                story.tell("fault", format!("replica {number} is cut off: its connections break"));
                replica.line.set(Weather::Down);
                Hurt::CutOff(place)
            }
        })
    }

    /// Kills one; another takes its place.
    async fn kill(&mut self, place: usize) -> Result {
        let url = self.replicas[place].url.clone();
        let new = self.start(&url).await?;
        let replica = &mut self.replicas[place];
        let old = std::mem::replace(&mut replica.instance, new);
        let number = std::mem::replace(&mut replica.number, self.started);
        for line in old.kill().await? {
            self.heard.hear(number, &line);
        }
        self.heard.killed(number, now());
        Ok(())
    }

    /// Lets it be well again.
    fn mend(&self, hurt: Hurt) -> Result {
        match hurt {
            Hurt::Killed => Ok(()),
            Hurt::Frozen(place) => self.replicas[place].instance.thaw(),
            Hurt::CutOff(place) => {
                self.replicas[place].line.set(Weather::Fair);
                Ok(())
            }
        }
    }

    fn judge(&self, story: &Story, executions: usize) -> Result {
        let heard = &self.heard;
        let runs: usize = heard.spans.values().map(Vec::len).sum();
        let twice = heard.finished.values().filter(|times| **times > 1).count();
        let overlaps: usize = heard.spans.values().map(|spans| overlaps(spans)).sum();
        story.part("What came of it:");
        for (name, figure) in [
            ("faults", self.faults),
            ("deliveries", self.deliveries),
            ("runs begun", runs as u64),
            ("executions finished", heard.finished.len() as u64),
            ("skipped", heard.times("skipped")),
            ("stopped, lock lost", heard.times("lost")),
            ("store not reached", heard.times("failed")),
            ("finished twice", twice as u64),
            ("two runs at a time", overlaps as u64),
        ] {
            story.line(format!("{name:<24}{figure:>8}"));
        }
        let known: BTreeSet<_> = heard.finished.keys().collect();
        story.check(known.len() == executions, "every execution finished")?;
        story.check(twice == 0 && overlaps == 0, "none ran twice")
    }
}

impl Heard {
    fn hear(&mut self, replica: usize, line: &str) {
        let mut words = line.split(' ');
        let (Some(id), Some(what)) = (words.next(), words.next()) else { return };
        let at = words.next().and_then(|word| word.parse().ok());
        match (what, at) {
            ("began", Some(at)) => drop(self.begun.insert((replica, id.to_owned()), at)),
            ("ended", Some(at)) => self.end(replica, id, at),
            ("finished", _) => *self.finished.entry(id.to_owned()).or_default() += 1,
            _ => *self.outcomes.entry(what.trim_end_matches(':').to_owned()).or_default() += 1,
        }
    }

    fn end(&mut self, replica: usize, id: &str, at: u64) {
        if let Some(begin) = self.begun.remove(&(replica, id.to_owned())) {
            self.spans.entry(id.to_owned()).or_default().push((begin, at));
        }
    }

    fn killed(&mut self, replica: usize, at: u64) {
        let keys: Vec<_> = self.begun.keys().filter(|(it, _)| *it == replica).cloned().collect();
        keys.iter().for_each(|(replica, id)| self.end(*replica, id, at));
    }

    fn times(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }
}

/// Counts runs that began before another had ended.
fn overlaps(spans: &[(u64, u64)]) -> usize {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    spans.windows(2).filter(|two| two[1].0 < two[0].1).count()
}
