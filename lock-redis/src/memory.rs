//! Since when a server remembers what it granted, as far as its connections tell.

use lock_core::BootInstant;

use crate::check::Facts;

/// What a server said of its memory when a connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    run_id: String,
    replication_id: String,
    /// When it said so.
    at: BootInstant,
    /// From then on it has forgotten nothing.
    pub(crate) since: BootInstant,
}

impl Memory {
    /// Judges what a server says at `now`, by what was said at its address before.
    ///
    /// Every start counts as one with which it forgets: `INFO` does not tell whether each write was synced.
    pub(crate) fn of(facts: &Facts, now: BootInstant, before: Option<&Self>) -> Self {
        let Facts { run_id, replication_id, uptime, .. } = facts;
        let started = now - *uptime;
        let since = match before {
            Some(before) if before.is(facts) => before.since,
            // Its data is another's now, or it ran already while we were connected to another: what a
            // replica had not been told when it was promoted is lost, whenever that was.
            Some(before) if before.run_id == *run_id || started < before.at => now,
            _ => started,
        };
        let (run_id, replication_id) = (run_id.clone(), replication_id.clone());
        Self { run_id, replication_id, at: now, since }
    }

    fn is(&self, facts: &Facts) -> bool {
        (&self.run_id, &self.replication_id) == (&facts.run_id, &facts.replication_id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> BootInstant {
        BootInstant::from_nanos(second * 1_000_000_000)
    }

    fn facts(run_id: &str, replication_id: &str, uptime: u64) -> Facts {
        Facts {
            run_id: run_id.to_owned(),
            replication_id: replication_id.to_owned(),
            uptime: Duration::from_secs(uptime),
            ..Facts::default()
        }
    }

    #[test]
    fn it_remembers_since_its_start_and_a_new_connection_changes_nothing() {
        let first = Memory::of(&facts("a", "x", 60), at(100), None);
        assert_eq!(first.since, at(40));
        // The same start, seen a fraction of a second later.
        assert_eq!(Memory::of(&facts("a", "x", 69), at(110), Some(&first)).since, at(40));
    }

    #[test]
    fn a_restart_is_a_new_start() {
        let before = Memory::of(&facts("a", "x", 60), at(100), None);
        assert_eq!(Memory::of(&facts("b", "y", 3), at(110), Some(&before)).since, at(107));
    }

    #[test]
    fn what_a_promoted_replica_remembers_is_not_known() {
        let before = Memory::of(&facts("a", "x", 60), at(100), None);
        let elsewhere = Memory::of(&facts("b", "y", 60), at(110), Some(&before));
        assert_eq!(elsewhere.since, at(110), "another server has its address now");
        let in_between = Memory::of(&facts("a", "y", 70), at(110), Some(&before));
        assert_eq!(in_between.since, at(110), "it was a replica for a while");
    }
}
