//! The lanes of a scenario take turns, round by round, and a table is made of it.

use std::path::Path;

use crate::crew::Crew;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::lane::Lane;
use crate::plan::Plan;
use crate::report::Row;
use crate::scenario::Sample;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenario::Turn;
use crate::subject::Subject;
use crate::subjects::has_lucky_clients;
use crate::subjects::has_row;

/// One scenario over one backend.
pub(crate) struct Table<'a> {
    pub(crate) subject: &'static Subject,
    pub(crate) scenario: &'a dyn Scenario,
    pub(crate) plan: &'a Plan,
    /// Where stores may be made.
    pub(crate) stores: &'a Path,
}

/// A lane with what it has measured so far.
struct Runner {
    lane: Lane,
    /// Its workers, if they live through all rounds.
    crew: Option<Crew>,
    /// Whether the backend has what the lane asks for.
    able: bool,
    samples: Vec<Sample>,
}

impl Table<'_> {
    /// Measures all rows.
    pub(crate) async fn rows(&self) -> Outcome<Vec<Row>> {
        let setup = self.scenario.setup(self.plan);
        let mut runners = Vec::new();
        let mut lanes = Lane::all(self.subject, setup.fair);
        lanes.retain(|lane| has_row(self.scenario.name(), lane.name()));
        for lane in lanes {
            runners.push(self.runner(lane, &setup).await?);
        }
        let mut rows = Vec::new();
        let only = &self.plan.only;
        for size in setup.sizes.iter().filter(|size| only.is_empty() || only.contains(size)) {
            self.measure(&setup, *size, &mut runners).await?;
            rows.extend(self.rows_of(*size, &mut runners));
        }
        if rows.is_empty() {
            return Err(Failure::new("none of its rows has such a size"));
        }
        for crew in runners.into_iter().filter_map(|runner| runner.crew) {
            crew.dismiss().await?;
        }
        Ok(rows)
    }

    async fn runner(&self, lane: Lane, setup: &Setup) -> Outcome<Runner> {
        let (mut crew, mut able) = (None, true);
        if !setup.fresh {
            crew = Crew::start(self.subject, lane, setup, self.stores).await?;
            able = crew.is_some();
        }
        Ok(Runner { lane, crew, able, samples: Vec::new() })
    }

    /// Goes round the lanes as often as planned, there and back: none always comes after the same other one,
    /// and what gets faster or slower with time does so for all.
    async fn measure(&self, setup: &Setup, size: usize, runners: &mut [Runner]) -> Outcome {
        for round in setup.turns() {
            let turn = Turn { plan: self.plan, size, round };
            let mut order: Vec<_> = runners.iter_mut().filter(|runner| runner.able).collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for runner in order {
                let sample = self.turn(runner, setup, turn).await?;
                if round > 0 {
                    runner.samples.push(sample);
                }
            }
        }
        Ok(())
    }

    async fn turn(&self, runner: &mut Runner, setup: &Setup, turn: Turn<'_>) -> Outcome<Sample> {
        if let Some(crew) = &mut runner.crew {
            if turn.round > 0 && has_lucky_clients(self.subject.name) {
                crew.renew().await?;
            }
            return self.scenario.round(crew, turn).await;
        }
        let Some(crew) = Crew::start(self.subject, runner.lane, setup, self.stores).await? else {
            runner.able = false;
            return Ok(Sample::default());
        };
        let sample = self.scenario.round(&crew, turn).await?;
        crew.dismiss().await?;
        Ok(sample)
    }

    fn rows_of(&self, size: usize, runners: &mut [Runner]) -> Vec<Row> {
        let samples: Vec<_> =
            runners.iter_mut().map(|runner| std::mem::take(&mut runner.samples)).collect();
        let reference = runners.iter().position(|runner| {
            self.subject.reference().is_some_and(|name| name == runner.lane.name())
        });
        let others = reference.map(|at| samples[at].as_slice());
        let rows = runners.iter().zip(&samples).enumerate().map(|(at, (runner, own))| {
            let others = others.filter(|_| Some(at) != reference);
            Row::new(runner.lane, size, own, others)
        });
        rows.collect()
    }
}
