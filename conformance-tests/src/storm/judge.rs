//! What must be true of what the processes recorded in one round.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write as _;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::LockKey;

use crate::Outcome;
use crate::check;
use crate::check::Refusals;
use crate::failure::check;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::pulse::Pulse;

use super::mischief::Event;
use super::round::SLACK;
use super::tally::Tally;

/// What happened in one round.
pub(super) struct Round {
    pub(super) began: BootInstant,
    /// When the last fault was over.
    pub(super) healed: BootInstant,
    pub(super) records: Vec<Record>,
    /// The tasks whose process was killed or frozen.
    pub(super) hurt: BTreeSet<u64>,
    pub(super) events: Vec<Event>,
    /// What processes said of outages.
    pub(super) outages: Vec<String>,
    /// What the keys are called in the history.
    pub(super) keys: BTreeMap<LockKey, String>,
    pub(super) ttl: Duration,
    pub(super) bound: Duration,
    pub(super) pulse: Pulse,
}

/// Judges a round, and counts it if it was good.
pub(super) fn judge(round: &Round, tally: &mut Tally) -> Outcome {
    let history = round.history();
    let judged = round.check(&history, tally);
    if let Err(failure) = judged {
        let path = dump(round, &history)?;
        return Err(failure.within(format!("what is all in {path}")));
    }
    tally.add(round, &history);
    Ok(())
}

impl Round {
    /// What was recorded, with what the store may have forgotten.
    fn history(&self) -> Vec<Record> {
        let forgotten = self.events.iter().zip(0..).flat_map(|(event, number)| {
            event.forgot.iter().flat_map(move |forgot| {
                let names = forgot.keys.iter().filter_map(|key| self.keys.get(key));
                names.map(move |name| {
                    let believed = forgot.until + self.ttl;
                    let mut record = Record::begin(number, name, Op::Forget).end(Done::Ok);
                    record.invoke_ns = forgot.from.as_nanos();
                    record.return_ns = forgot.until.as_nanos();
                    record.deadline_ns = Some(believed.as_nanos());
                    record
                })
            })
        });
        self.records.iter().map(|record| self.doubted(record)).chain(forgotten).collect()
    }

    /// Leaves open what ended a hold whose unlock said, while faults came, that it was lost: it may have been
    /// the unlock itself, whose answer went with the session.
    fn doubted(&self, record: &Record) -> Record {
        let lost = record.op == Op::Release && record.result == Done::Fail;
        let in_doubt = lost && record.invoke_ns < self.healed.as_nanos();
        let result = if in_doubt { Done::Info } else { record.result };
        Record { result, ..record.clone() }
    }

    fn check(&self, history: &[Record], tally: &Tally) -> Outcome {
        check::fences_are_unique(history)?;
        check::fences_rise_in_real_time(history)?;
        tally.fences_rose(history)?;
        check::fences_follow_holds(history)?;
        check::holds_do_not_overlap(history)?;
        check::is_linearizable(history, Refusals::Free)?;
        // Who is stopped can tell nothing in time.
        let well: Vec<_> =
            history.iter().filter(|it| !self.hurt.contains(&it.process)).cloned().collect();
        check::losses_are_told(&well, SLACK + self.stalled())?;
        self.all_were_served(history)?;
        let calm = self.grants(history).filter(|grant| grant.invoke_ns > self.healed.as_nanos());
        let served: BTreeSet<_> = calm.map(|grant| grant.key.as_str()).collect();
        check!(served.len() == self.keys.len(), "in the calm only {served:?} were granted");
        Ok(())
    }

    /// C7: nobody waited for longer than the bound in the calm.
    fn all_were_served(&self, history: &[Record]) -> Outcome {
        let longest = history.iter().max_by_key(|record| self.waited(record));
        let waited = longest.map(|record| self.waited(record)).unwrap_or_default();
        check!(waited <= self.bound, "C7: waited for {waited:?} in the calm: {longest:?}");
        Ok(())
    }

    /// For how long the machine let nobody run.
    pub(super) fn stalled(&self) -> Duration {
        self.pulse.lost(self.began, BootInstant::FAR)
    }

    /// How long a call waited in the calm.
    pub(super) fn waited(&self, record: &Record) -> Duration {
        if record.op != Op::Acquire {
            return Duration::ZERO;
        }
        let from = BootInstant::from_nanos(record.invoke_ns).max(self.healed);
        let until = BootInstant::from_nanos(record.return_ns);
        until.saturating_since(from).saturating_sub(self.pulse.lost(from, until))
    }

    pub(super) fn grants<'a>(
        &self,
        history: &'a [Record],
    ) -> impl Iterator<Item = &'a Record> + use<'a> {
        history.iter().filter(|record| {
            matches!(record.op, Op::Acquire | Op::Try) && record.result == Done::Ok
        })
    }
}

/// Leaves the history and what was done in a file, for whoever looks into it.
fn dump(round: &Round, history: &[Record]) -> Outcome<String> {
    let path = std::env::temp_dir().join(format!("lock-storm-{}", std::process::id()));
    let mut file = BufWriter::new(File::create(&path)?);
    for event in &round.events {
        writeln!(file, "{event}")?;
    }
    for outage in &round.outages {
        writeln!(file, "{outage}")?;
    }
    for record in history {
        writeln!(file, "{}", serde_json::to_string(record)?)?;
    }
    file.flush()?;
    Ok(path.display().to_string())
}
