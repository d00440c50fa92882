//! What a scenario is: who takes part, and what one round of it measures.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;

use crate::crew::Crew;
use crate::failure::Outcome;
use crate::order::Gauge;
use crate::plan::Plan;
use crate::tally::Tally;

/// One table of the benchmark. It knows seats, not backends.
#[async_trait]
pub(crate) trait Scenario: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// What it measures, in a line.
    fn title(&self) -> &'static str;

    /// Tells who takes part.
    fn setup(&self, plan: &Plan) -> Setup;

    /// Measures one round of one lane.
    async fn round(&self, crew: &Crew, turn: Turn<'_>) -> Outcome<Sample>;
}

/// Who takes part in a scenario.
pub(crate) struct Setup {
    /// How many clients of the store there are, each in a process of its own if the store allows it.
    pub(crate) seats: usize,
    pub(crate) gauge: Gauge,
    pub(crate) ttl: Duration,
    /// What there is more or less of from row to row.
    pub(crate) unit: &'static str,
    /// How much of it.
    pub(crate) sizes: Vec<usize>,
    /// Whether locks with exact order have a lane.
    pub(crate) fair: bool,
    /// Whether each round has processes of its own, which need no round to warm up.
    pub(crate) fresh: bool,
    /// How many rounds count.
    pub(crate) rounds: usize,
    /// Whether rounds warm up by themselves, so that there is none that does not count.
    pub(crate) warm: bool,
    /// Whether a round lasts as long as the plan says.
    pub(crate) timed: bool,
    /// How long a round takes besides.
    pub(crate) besides: Duration,
}

impl Setup {
    /// The rounds by number. Number 0 is to warm up and does not count.
    pub(crate) fn turns(&self) -> RangeInclusive<usize> {
        usize::from(self.fresh || self.warm)..=self.rounds
    }
}

/// Which round it is.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) size: usize,
    pub(crate) round: usize,
}

/// What one round measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Names with their unit; the first is what the lane is compared by.
    pub(crate) figures: Vec<(&'static str, Option<f64>)>,
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
}

impl Sample {
    /// Starts with the errors of `tally`.
    pub(crate) fn of(tally: &Tally) -> Self {
        Self { figures: Vec::new(), errors: tally.errors, error: tally.error.clone() }
    }

    /// Adds a figure.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Option<f64>>) -> Self {
        self.figures.push((name, value.into()));
        self
    }
}

pub(crate) fn micros(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1e6)
}

pub(crate) fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1e3)
}
