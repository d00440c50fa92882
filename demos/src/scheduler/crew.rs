//! The instances of a storm, what is done to them, and what was heard of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::analysis::Tally;
use crate::instance::Instance;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;
use crate::work::now;

/// How far the clock of each instance is behind that of the one before.
const SKEW: Duration = ms(60);

/// Instances over one store.
pub(super) struct Crew<'a> {
    file: &'a str,
    url: &'a str,
    instances: Vec<(usize, Instance)>,
    started: usize,
    tallies: BTreeMap<String, Tally>,
    /// How many faults there were.
    pub(super) faults: u64,
    /// How many runs ended because their instance was killed.
    pub(super) interrupted: usize,
}

impl<'a> Crew<'a> {
    pub(super) fn new(file: &'a str, url: &'a str) -> Self {
        let (instances, tallies) = (Vec::new(), BTreeMap::new());
        Self { file, url, instances, started: 0, tallies, faults: 0, interrupted: 0 }
    }

    pub(super) async fn start(&mut self, instances: u64) -> Result {
        for _ in 0..instances {
            let instance = self.start_one().await?;
            self.instances.push(instance);
        }
        Ok(())
    }

    async fn start_one(&mut self) -> Result<(usize, Instance)> {
        let behind = format!("{}ms", SKEW.as_millis() * (self.started as u128 % 4));
        let arguments = ["scheduler", "run", "--config", self.file, "--locks", self.url];
        let arguments = arguments.into_iter().chain(["--behind", &behind]);
        let arguments: Vec<_> = arguments.map(str::to_owned).collect();
        let mut instance = Instance::start(&arguments)?;
        instance.line().await?;
        self.started += 1;
        Ok((self.started, instance))
    }

    /// Kills one and replaces it, or freezes one for longer than its locks last.
    pub(super) async fn hurt(&mut self, story: &Story) -> Result {
        let place = self.victim();
        self.faults += 1;
        if !self.faults.is_multiple_of(2) {
            story.tell("fault", format!("instance {} is killed", self.instances[place].0));
            return self.kill(place).await;
        }
        let (number, instance) = &self.instances[place];
        story.tell("fault", format!("instance {number} is frozen for 3 s"));
        instance.freeze()?;
        pause(ms(3000)).await;
        instance.thaw()
    }

    /// One that runs a job now, if there is one.
    fn victim(&mut self) -> usize {
        self.hear_all();
        let busy = self.tallies.values().find_map(Tally::at_work);
        let place = self.instances.iter().position(|(number, _)| Some(*number) == busy);
        place.unwrap_or_else(|| fastrand::usize(..self.instances.len()))
    }

    async fn kill(&mut self, place: usize) -> Result {
        let new = self.start_one().await?;
        let (number, old) = std::mem::replace(&mut self.instances[place], new);
        let lines = old.kill().await?;
        let at = now();
        lines.iter().for_each(|line| self.hear(number, line));
        let cut = self.tallies.values_mut().map(|tally| tally.killed(number, at));
        self.interrupted += cut.sum::<usize>();
        Ok(())
    }

    /// Ends all, and hears what they had to say.
    pub(super) fn dismiss(&mut self) {
        self.hear_all();
        self.instances.clear();
    }

    fn hear_all(&mut self) {
        let lines = |(number, instance): &mut (usize, Instance)| {
            let number = *number;
            instance.lines_so_far().into_iter().map(move |line| (number, line))
        };
        let lines: Vec<_> = self.instances.iter_mut().flat_map(lines).collect();
        lines.iter().for_each(|(number, line)| self.hear(*number, line));
    }

    /// What became of the ticks of a job.
    pub(super) fn tally(&self, job: &str) -> Option<&Tally> {
        self.tallies.get(job)
    }

    fn hear(&mut self, instance: usize, line: &str) {
        let Some((job, rest)) = line.split_once(' ') else { return };
        self.tallies.entry(job.to_owned()).or_default().hear(instance, rest);
    }
}
