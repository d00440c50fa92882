//! How long a round may last, so that the whole run fits into its time.

use std::time::Duration;

use crate::lane::Lane;
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::subject::Subject;

/// What a run is given if nobody says how long a round lasts.
const WHOLE: Duration = Duration::from_secs(7 * 60);

/// Shorter rounds would measure how tasks start, longer ones tell no more.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

/// How long it takes to start and end a client with its process, on a machine that is not busy.
const START: Duration = Duration::from_millis(100);

/// The time of a round if all of `subjects` and `scenarios` are measured.
pub(crate) fn round(
    plan: &Plan,
    subjects: &[&'static Subject],
    scenarios: &[&dyn Scenario],
) -> Duration {
    let (mut timed, mut besides) = (0, Duration::ZERO);
    for subject in subjects {
        for scenario in scenarios {
            let setup = scenario.setup(plan);
            let lanes = count(Lane::all(subject, setup.fair).len());
            let turns = lanes * count(setup.sizes.len() * setup.turns().count());
            besides += setup.besides * turns + START * lanes * count(setup.seats);
            if setup.timed {
                timed += turns;
            }
        }
    }
    (WHOLE.saturating_sub(besides) / timed.max(1)).clamp(SHORTEST, LONGEST)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Arguments;
    use crate::scenarios::SCENARIOS;
    use crate::subjects::SUBJECTS;

    #[test]
    fn a_run_of_everything_has_shorter_rounds_than_one_of_a_part() {
        let plan = Plan::new(&Arguments::try_parse_from(["bench"]).unwrap());
        let all = round(&plan, SUBJECTS, SCENARIOS);
        let twice: Vec<_> = SUBJECTS.iter().chain(SUBJECTS).copied().collect();
        assert!(round(&plan, &twice, SCENARIOS) < all);
        assert_eq!(round(&plan, &SUBJECTS[..1], &SCENARIOS[..1]), LONGEST);
        assert!((SHORTEST..=LONGEST).contains(&all), "{all:?}");
    }
}
