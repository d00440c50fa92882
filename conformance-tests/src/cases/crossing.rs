//! Processes that take several keys in any order, and what must be true of all of them together.
//!
//! Each key protects a counter in a plain file. A process reads the counters of its keys, waits a
//! moment, writes each one more, and says each write once it is done. Some processes are killed, and
//! others take their places.

use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::LockGuards;
use rand::seq::index::sample;
use serde::Deserialize;
use serde::Serialize;

use crate::Cx;
use crate::Outcome;
use crate::child::Role;
use crate::child::say;
use crate::cx::SLACK;
use crate::cx::in_full;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::sleep_until;
use crate::failure::check;
use crate::process::Process;
use crate::pulse::Pulse;

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const AT_ONCE: usize = 3;
const PROCESSES: usize = 8;

/// Long enough for a busy machine, and how long a killed process stands in the way.
pub(super) const TTL: Duration = ms(2000);

/// Longer than anybody may have to wait where nobody waits in a circle.
const WAIT: Duration = ms(20_000);

/// How often in a row others may take a key before one who waits for it does. Without order each grant is drawn
/// among all: to lose so many has a chance of (7/8)^104, one in a million.
const RACES: usize = 104;

/// What one process does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    folder: PathBuf,
    millis: u64,
}

/// One count, as its process says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Write {
    key: String,
    count: u64,
    fence: u64,
    at_ns: u64,
}

/// The part of one process: locks any three keys in any order and counts, again and again.
pub(crate) async fn count(cx: &Cx, part: &Part) -> Outcome {
    let (engine, until) = (cx.connected().await?, now() + ms(part.millis));
    while now() < until {
        let chosen = sample(&mut rand::rng(), KEYS.len(), AT_ONCE);
        let keys: Vec<_> = chosen.iter().map(|index| KEYS[index]).collect();
        let guards = engine.lock_many(&keys, &opts().ttl(TTL).wait(WAIT)).await?;
        count_under(&guards, &part.folder).await?;
        guards.unlock().await?;
    }
    Ok(())
}

async fn count_under(guards: &LockGuards, folder: &Path) -> Outcome {
    let mut counts = Vec::new();
    for guard in guards {
        counts.push(read(folder, guard.key())?);
    }
    // Room for somebody else to come in between, if anybody can.
    sleep(Duration::from_micros(200)).await;
    for (guard, count) in guards.iter().zip(counts) {
        guards.check()?;
        write(folder, guard.key(), count + 1)?;
        let (key, fence) = (guard.key().to_owned(), guard.fence().get());
        say(&Write { key, count: count + 1, fence, at_ns: now().as_nanos() })?;
    }
    Ok(())
}

fn read(folder: &Path, key: &str) -> Outcome<u64> {
    Ok(fs::read_to_string(folder.join(key))?.parse()?)
}

/// Writes in one step: whoever is killed has written all or nothing.
fn write(folder: &Path, key: &str, count: u64) -> Outcome {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(key))?;
    Ok(file.write_all(format!("{count:020}").as_bytes())?)
}

/// The counters' files, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(cx: &Cx) -> Outcome<Self> {
        let folder = Self(std::env::temp_dir().join(cx.namespace().replace(':', "counters")));
        fs::create_dir_all(&folder.0)?;
        KEYS.iter().try_for_each(|key| write(&folder.0, key, 0))?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary directory hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is known of the processes at the end.
pub(super) struct Crowd {
    folder: Folder,
    began: BootInstant,
    length: Duration,
    kills: Vec<BootInstant>,
    /// The writes of each place: of its first process, and of those that replaced it.
    places: Vec<Vec<Write>>,
    pulse: Pulse,
}

impl Crowd {
    /// Lets the processes count, for a minute if there is time, and kills one now and then.
    pub(super) async fn cross(cx: &Cx) -> Outcome<Self> {
        let length = if in_full() { ms(60_000) } else { ms(3000) };
        let every = (length / 3).min(ms(4000));
        let mut crowd = Self {
            folder: Folder::new(cx)?,
            began: now(),
            length,
            kills: Vec::new(),
            places: vec![Vec::new(); PROCESSES],
            pulse: Pulse::start(),
        };
        let mut processes = Vec::new();
        for _ in 0..PROCESSES {
            processes.push(crowd.start(cx)?);
        }
        // After the last kill there is time to show that all go on.
        while now() + every < crowd.end() {
            sleep_until(crowd.kills.last().map_or(crowd.began, |last| *last) + every).await;
            let place = crowd.kills.len() % PROCESSES;
            processes[place].kill()?;
            crowd.kills.push(now());
            let mut killed = std::mem::replace(&mut processes[place], crowd.start(cx)?);
            crowd.hear(place, &mut killed).await?;
        }
        for (place, process) in processes.iter_mut().enumerate() {
            crowd.hear(place, process).await?;
            process.has_done_well()?;
        }
        Ok(crowd)
    }

    fn end(&self) -> BootInstant {
        self.began + self.length
    }

    fn start(&self, cx: &Cx) -> Outcome<Process> {
        let left = self.end().saturating_since(now()).as_millis();
        let part = Part { folder: self.folder.0.clone(), millis: u64::try_from(left)? };
        Process::start(cx, Role::Count { part })
    }

    /// Takes in all that a process says until it ends.
    async fn hear(&mut self, place: usize, process: &mut Process) -> Outcome {
        while let Some(line) = process.line(self.length + WAIT).await? {
            self.places[place].push(serde_json::from_str(&line)?);
        }
        Ok(())
    }

    /// Checks that each count was written once, in the order of the fences, and that none is missing
    /// but the last that a killed process could not say any more.
    pub(super) fn counted_exactly(&self) -> Outcome {
        let mut counters: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
        for write in self.places.iter().flatten() {
            let counter = counters.entry(&write.key).or_default();
            let twice = counter.insert(write.count, write.fence);
            check!(twice.is_none(), "two counted {} in {:?}", write.count, write.key);
        }
        let mut unsaid = 0;
        for (key, counter) in counters {
            let last = read(&self.folder.0, key)?;
            let most = counter.keys().next_back().copied().unwrap_or_default();
            check!(most <= last, "{key} was counted to {most}, and ends with {last}");
            check!(counter.values().is_sorted_by(|one, next| one < next), "{key}: {counter:?}");
            unsaid += last - counter.len() as u64;
        }
        check!(unsaid <= self.kills.len() as u64, "{unsaid} counts are missing");
        Ok(())
    }

    /// Checks that no process ever went for longer than `bound` without counting, the time not counted
    /// for which a killed one may stand in the way, or the machine lets nobody run.
    ///
    /// Who waits without order may lose more races than that: it has not been forgotten as long as there is a key
    /// that others take steadily, and not more often than chance allows.
    pub(super) fn went_on(&self, bound: Duration) -> Outcome {
        for place in 0..PROCESSES {
            for (from, to) in self.gaps(place) {
                let gap = self.outside_kills(from, to);
                let unlucky =
                    || KEYS.iter().any(|key| self.lost_races(place, key, from, to, bound));
                check!(
                    gap <= bound + SLACK || unlucky(),
                    "process {place} stood still for {gap:?}: {}",
                    self.figures()
                );
            }
        }
        Ok(())
    }

    /// Whether others took `key` all the time between two instants, but no more often than chance allows.
    fn lost_races(
        &self,
        place: usize,
        key: &str,
        from: BootInstant,
        to: BootInstant,
        bound: Duration,
    ) -> bool {
        let others = self.places.iter().enumerate().filter(|(other, _)| *other != place);
        let writes = others.flat_map(|(_, writes)| writes).filter(|write| write.key == key);
        let at = writes.map(|write| BootInstant::from_nanos(write.at_ns));
        let mut takes: Vec<_> = at.filter(|at| (from..to).contains(at)).collect();
        takes.sort_unstable();
        let races = takes.iter().filter(|at| !self.is_in_the_way(**at)).count();
        let marks: Vec<_> = [from].into_iter().chain(takes).chain([to]).collect();
        let steady =
            marks.windows(2).all(|pair| self.outside_kills(pair[0], pair[1]) <= bound + SLACK);
        steady && races <= RACES
    }

    /// Whether a killed process may stand in the way at `at`.
    fn is_in_the_way(&self, at: BootInstant) -> bool {
        self.kills.iter().any(|kill| (*kill..*kill + TTL).contains(&at))
    }

    /// Between which instants a place did not count.
    fn gaps(&self, place: usize) -> Vec<(BootInstant, BootInstant)> {
        let writes = self.places[place].iter().map(|write| BootInstant::from_nanos(write.at_ns));
        let marks: Vec<_> = [self.began].into_iter().chain(writes).chain([self.end()]).collect();
        marks.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    fn longest_gap(&self, place: usize) -> Duration {
        let gaps = self.gaps(place);
        let gaps = gaps.into_iter().map(|(from, to)| self.outside_kills(from, to));
        gaps.max().unwrap_or_default()
    }

    /// How much of the time between two instants no killed process could stand in the way.
    fn outside_kills(&self, from: BootInstant, to: BootInstant) -> Duration {
        let mut at = from;
        let mut free = Duration::ZERO;
        for kill in &self.kills {
            free += self.ran(at, to.min(*kill));
            at = at.max(*kill + TTL);
        }
        free + self.ran(at, to)
    }

    /// How much of the time between two instants the machine let anybody run.
    fn ran(&self, from: BootInstant, to: BootInstant) -> Duration {
        to.saturating_since(from).saturating_sub(self.pulse.lost(from, to))
    }

    /// How much was done.
    pub(super) fn figures(&self) -> String {
        let seconds = self.length.as_secs_f64();
        let calls = |writes: &Vec<Write>| writes.len() as f64 / AT_ONCE as f64 / seconds;
        let rates: Vec<_> = self.places.iter().map(calls).collect();
        let (least, most) = rates
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), rate| (least.min(*rate), most.max(*rate)));
        let gap = (0..PROCESSES).map(|place| self.longest_gap(place)).max().unwrap_or_default();
        format!(
            "{PROCESSES} processes, {AT_ONCE} of {} keys in any order, {seconds} s, {} killed: {:.0} calls/s; \
             per process {least:.1} to {most:.1}; longest pause {gap:.0?}",
            KEYS.len(),
            self.kills.len(),
            rates.iter().sum::<f64>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds of a crowd of which the first place is silent from the second to the fifth second, while the
    /// others take a key `rate` times a second in all.
    fn crowd(rate: u64) -> Crowd {
        let began = now();
        let write = |millis: u64| Write {
            key: "a".to_owned(),
            count: 0,
            fence: 0,
            at_ns: (began + ms(millis)).as_nanos(),
        };
        let mut places = vec![Vec::new(); PROCESSES];
        let first = (0..10_000).step_by(100);
        places[0] = first.filter(|at| !(2000..5000).contains(at)).map(write).collect();
        for number in 0..10 * rate {
            let place = 1 + usize::try_from(number % 7).expect("below 7");
            places[place].push(write(number * 1000 / rate));
        }
        Crowd {
            folder: Folder(PathBuf::new()),
            began,
            length: ms(10_000),
            kills: Vec::new(),
            places,
            pulse: Pulse::start(),
        }
    }

    #[test]
    fn who_loses_as_many_races_as_chance_allows_has_not_been_forgotten() {
        crowd(30).went_on(ms(1000)).expect("90 races");
    }

    #[test]
    fn who_loses_more_races_stands_still() {
        let failure = crowd(60).went_on(ms(1000)).expect_err("180 races");
        assert!(format!("{failure:?}").contains("process 0 stood still"), "{failure:?}");
    }

    #[test]
    fn where_nobody_takes_anything_there_is_no_race() {
        let mut crowd = crowd(30);
        let still = (crowd.began + ms(2500)).as_nanos()..(crowd.began + ms(4500)).as_nanos();
        crowd.places.iter_mut().for_each(|place| place.retain(|it| !still.contains(&it.at_ns)));
        crowd.went_on(ms(1000)).expect_err("all stand still for 2 s");
    }
}
