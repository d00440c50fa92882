//! The replicas of a storm, each with a line of its own to the store, and what is done to both.

use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use conformance_tests::Link as _;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use lock::ConnectUrl;

use super::heard::Heard;
use crate::instance::Instance;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::work::now;

/// How many executions come at a time.
const BATCH: usize = 5;

/// Replicas over one store.
pub(super) struct Crew<'a> {
    folder: &'a Path,
    replicas: Vec<Replica>,
    started: usize,
    pub(super) faults: u64,
    pub(super) heard: Heard,
}

struct Replica {
    number: usize,
    instance: Instance,
    line: Proxy,
    config: PathBuf,
}

/// What was done to a replica, and has to be undone.
enum Hurt {
    Killed,
    Frozen(usize),
    CutOff(usize),
}

impl<'a> Crew<'a> {
    pub(super) async fn open(url: &str, folder: &'a Path, replicas: u64) -> Result<Self> {
        let server = ConnectUrl::parse(url)?.hosts()[0].to_string();
        let (none, heard) = (Vec::new(), Heard::default());
        let mut crew = Self { folder, replicas: none, started: 0, faults: 0, heard };
        for number in 1..=replicas {
            let line = Proxy::start(server.clone()).await?;
            let through = url.replacen(&server, &line.address().to_string(), 1);
            let config = folder.join(format!("replica-{number}.yaml"));
            std::fs::write(&config, configuration(&through))?;
            let instance = crew.start(&config).await?;
            crew.replicas.push(Replica { number: crew.started, instance, line, config });
        }
        Ok(crew)
    }

    async fn start(&mut self, config: &Path) -> Result<Instance> {
        let (config, journal) = (config.display(), self.folder.join("journal"));
        let (config, journal) = (config.to_string(), journal.display().to_string());
        let arguments = ["workflow", "run", "--config", &config, "--journal", &journal];
        let mut instance = Instance::start(&arguments.map(str::to_owned))?;
        instance.line().await?;
        self.started += 1;
        Ok(instance)
    }

    /// Hands all executions to all replicas, a few at a time, until each has finished.
    pub(super) async fn deliver_all(&mut self, story: &Story, ids: &[String]) -> Result {
        for batch in ids.chunks(BATCH) {
            let begun = Instant::now();
            self.deliver(batch)?;
            pause(ms(100)).await;
            let hurt = self.hurt(story).await?;
            while !self.heard.have_finished(batch) {
                if begun.elapsed() > ms(30_000) {
                    return Err("wrong: executions do not come to an end".into());
                }
                pause(ms(350)).await;
                self.deliver(batch)?;
                self.hear();
            }
            self.mend(hurt)?;
        }
        // Once more, long after: all of them have finished, and replicas that were away are back.
        self.deliver(ids)?;
        pause(ms(1500)).await;
        self.hear();
        Ok(())
    }

    fn deliver(&mut self, ids: &[String]) -> Result {
        for replica in &mut self.replicas {
            for id in ids {
                replica.instance.say(id)?;
                self.heard.deliveries += 1;
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

    /// Lets a replica fail that has just been handed executions.
    async fn hurt(&mut self, story: &Story) -> Result<Hurt> {
        let place = fastrand::usize(..self.replicas.len());
        let replica = &self.replicas[place];
        let tell = |what| story.tell("fault", format!("replica {} {what}", replica.number));
        self.faults += 1;
        match self.faults % 4 {
            1 => {
                tell("is cut off: its connections hang");
                replica.line.set(Weather::Hangs);
                Ok(Hurt::CutOff(place))
            }
            2 => {
                tell("is frozen");
                replica.instance.freeze()?;
                Ok(Hurt::Frozen(place))
            }
            3 => {
                tell("is cut off: its connections break");
                replica.line.set(Weather::Down);
                Ok(Hurt::CutOff(place))
            }
            _ => {
                tell("is killed");
                self.kill(place).await?;
                Ok(Hurt::Killed)
            }
        }
    }

    /// Kills one; another takes its place.
    async fn kill(&mut self, place: usize) -> Result {
        let config = self.replicas[place].config.clone();
        let new = self.start(&config).await?;
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
}

/// A replica that is heard of no more keeps an execution from the others for a second.
fn configuration(url: &str) -> String {
    let mut text = format!("url: '{url}'\ndefault_ttl: 1s\ntimeout: 1s\n");
    if url.starts_with("mysql:") {
        text.push_str("mysql:\n  table_name: my_custom_locks\n");
    }
    text
}
