//! The processes of a storm: started, killed, frozen, replaced, and heard.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use lock_core::BootInstant;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::child::Role;
use crate::cx::now;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::process::Process;

use super::Target;
use super::stage::Stage;
use super::work::Mood;
use super::work::Part;
use super::work::RESTING;

/// How many processes there are.
pub(super) const HANDS: usize = 4;

/// How many tasks each of them has.
const TASKS: u64 = 3;

/// The processes, and what they recorded in this round.
pub(super) struct Crew {
    cx: Cx,
    /// How each place reaches the store.
    environments: Vec<Vec<(String, String)>>,
    part: Part,
    mood: Mood,
    hands: Vec<Hand>,
    records: Vec<Record>,
    /// What they said of outages.
    outages: Vec<String>,
    /// The tasks that were killed or frozen in this round.
    hurt: BTreeSet<u64>,
}

struct Hand {
    process: Process,
    tasks: Range<u64>,
}

impl Crew {
    /// Starts all processes; `part` is what they have in common.
    pub(super) fn start<T: Target>(cx: &Cx, stage: &Stage<T>, part: Part) -> Outcome<Self> {
        let (hands, records, hurt) = (Vec::new(), Vec::new(), BTreeSet::new());
        let environments = stage.environments();
        let (cx, mood) = (cx.clone(), Mood::Rest);
        let outages = Vec::new();
        let mut crew = Self { cx, environments, part, mood, hands, records, outages, hurt };
        for place in 0..HANDS {
            let hand = crew.hire(place)?;
            crew.hands.push(hand);
        }
        Ok(crew)
    }

    /// Starts a process for `place`.
    fn hire(&mut self, place: usize) -> Outcome<Hand> {
        let environment = self.environments[place % self.environments.len()].clone();
        let tasks = self.part.first..self.part.first + TASKS;
        let part = Part { tasks: TASKS, ..self.part.clone() };
        self.part.first = tasks.end;
        let mut process = Process::start_in(&self.cx, Role::Work { part }, Some(environment))?;
        if self.mood != Mood::Rest {
            process.say(&serde_json::to_string(&self.mood)?)?;
        }
        Ok(Hand { process, tasks })
    }

    /// Tells all how to behave.
    pub(super) fn tell(&mut self, mood: Mood) -> Outcome {
        self.mood = mood;
        let line = serde_json::to_string(&mood)?;
        self.hands.iter_mut().try_for_each(|hand| hand.process.say(&line))
    }

    /// Kills one and puts another in its place.
    pub(super) async fn kill(&mut self, place: usize, patience: Duration) -> Outcome {
        let new = self.hire(place)?;
        let mut old = std::mem::replace(&mut self.hands[place], new);
        self.hurt.extend(old.tasks.clone());
        let killed = now();
        old.process.kill()?;
        while let Some(line) = old.process.line(patience).await? {
            self.hear(&line);
        }
        self.bury(&old.tasks, killed);
        Ok(())
    }

    /// Lets go what the dead held: a store may see their end before their deadlines.
    fn bury(&mut self, tasks: &Range<u64>, killed: BootInstant) {
        let hold = |record: &Record| (record.process, record.fence);
        let of_theirs = self.records.iter().filter(|record| tasks.contains(&record.process));
        let (released, rest): (Vec<_>, Vec<_>) =
            of_theirs.partition(|record| record.op == Op::Release);
        let released: BTreeSet<_> = released.into_iter().map(hold).collect();
        let grants = rest.into_iter().filter(|record| {
            matches!(record.op, Op::Acquire | Op::Try) && record.result == Done::Ok
        });
        let at = killed.as_nanos();
        let dropped = grants.filter(|grant| !released.contains(&hold(grant))).map(|grant| Record {
            op: Op::Release,
            result: Done::Info,
            invoke_ns: at,
            return_ns: at,
            deadline_ns: None,
            ..grant.clone()
        });
        let dropped: Vec<_> = dropped.collect();
        self.records.extend(dropped);
    }

    pub(super) fn freeze(&mut self, place: usize) -> Outcome {
        self.hurt.extend(self.hands[place].tasks.clone());
        self.hands[place].process.stop()
    }

    pub(super) fn thaw(&self, place: usize) -> Outcome {
        self.hands[place].process.go_on()
    }

    /// Returns what was said of outages in this round.
    pub(super) fn outages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.outages)
    }

    /// Lets all come to rest, and returns what they recorded in this round and who was hurt.
    pub(super) async fn rest(
        &mut self,
        patience: Duration,
    ) -> Outcome<(Vec<Record>, BTreeSet<u64>)> {
        self.tell(Mood::Rest)?;
        let until = now() + patience;
        for place in 0..HANDS {
            self.await_rest(place, until.saturating_since(now())).await?;
        }
        let records = without_announcements(std::mem::take(&mut self.records));
        Ok((records, std::mem::take(&mut self.hurt)))
    }

    async fn await_rest(&mut self, place: usize, patience: Duration) -> Outcome {
        let until = now() + patience;
        loop {
            let process = &mut self.hands[place].process;
            match process.line(until.saturating_since(now())).await {
                Ok(Some(line)) if line == format!("{RESTING:?}") => return Ok(()),
                Ok(Some(line)) => self.hear(&line),
                Ok(None) => return Err(Failure::new("a process failed, and says why above")),
                Err(_) => return Err(Failure::new(format!("no rest within {patience:?}"))),
            }
        }
    }

    /// Takes in a record, or what a process says of an outage.
    fn hear(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(record) => self.records.push(record),
            Err(_) => self.outages.extend(serde_json::from_str::<String>(line)),
        }
    }
}

/// Leaves out the announcement of a release whose end is known.
fn without_announcements(mut records: Vec<Record>) -> Vec<Record> {
    let call = |record: &Record| (record.process, record.fence, record.invoke_ns);
    let known = |record: &&Record| record.op == Op::Release && record.result != Done::Info;
    let ended: BTreeSet<_> = records.iter().filter(known).map(call).collect();
    records
        .retain(|it| it.op != Op::Release || it.result != Done::Info || !ended.contains(&call(it)));
    records.sort_by_key(|record| (record.invoke_ns, record.return_ns));
    records
}
