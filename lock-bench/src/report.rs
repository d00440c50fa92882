//! The results of a run, as data.

use serde::Serialize;

use crate::figures::Spread;
use crate::lane::Lane;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::scenario::Sample;

/// All of a run, as its JSON file has it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// When it began, by the wall clock.
    pub(crate) began: String,
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    pub(crate) sections: Vec<Section>,
}

/// One scenario over one backend.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    pub(crate) backend: &'static str,
    /// What store it is, and its version.
    pub(crate) store: String,
    pub(crate) scenario: &'static str,
    pub(crate) title: &'static str,
    pub(crate) notes: &'static [&'static str],
    /// What the size of a row counts.
    pub(crate) unit: &'static str,
    /// How the figures came about.
    pub(crate) method: String,
    /// The lane that ratios are against.
    pub(crate) reference: Option<&'static str>,
    pub(crate) rows: Vec<Row>,
    /// Why there are no rows.
    pub(crate) failure: Option<String>,
}

/// One lane at one size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) lane: &'static str,
    pub(crate) ours: bool,
    pub(crate) size: usize,
    /// Whether the backend has what the lane asks for; if not, there are no figures.
    pub(crate) supported: bool,
    pub(crate) figures: Vec<Figure>,
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
}

/// One column of a row.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is, with its unit.
    pub(crate) name: &'static str,
    pub(crate) value: Option<Spread>,
    /// Against the reference, of neighbouring rounds.
    pub(crate) ratio: Option<Spread>,
    /// Each round that counts.
    pub(crate) rounds: Vec<Option<f64>>,
}

impl Section {
    /// Says what went wrong, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        let name = format!("{} over {}", self.scenario, self.backend);
        if let Some(failure) = &self.failure {
            return Some(format!("{name}: {failure}"));
        }
        let row = self.rows.iter().find(|row| row.errors > 0)?;
        let first = row.error.as_deref().unwrap_or_default();
        Some(format!("{name}: {} errors of {}, the first: {first}", row.errors, row.lane))
    }
}

impl Row {
    /// Puts the rounds of a lane together, beside those of the lane that it is compared with.
    pub(crate) fn new(lane: Lane, size: usize, own: &[Sample], others: Option<&[Sample]>) -> Self {
        let names = own.first().map_or(&[][..], |sample| &sample.figures);
        let figure = |(at, (name, _)): (usize, &(&'static str, _))| {
            let rounds = column(own, at);
            let ratios = others.map(|others| ratios(&rounds, &column(others, at)));
            let ratio = ratios.and_then(|ratios| Spread::of(&ratios));
            Figure { name, value: Spread::of(&rounds), ratio, rounds }
        };
        Self {
            lane: lane.name(),
            ours: lane.is_ours(),
            size,
            supported: !own.is_empty(),
            figures: names.iter().enumerate().map(figure).collect(),
            errors: own.iter().map(|sample| sample.errors).sum(),
            error: own.iter().find_map(|sample| sample.error.clone()),
        }
    }
}

fn column(samples: &[Sample], at: usize) -> Vec<Option<f64>> {
    samples.iter().map(|sample| sample.figures.get(at).and_then(|(_, value)| *value)).collect()
}

/// Round by round: what one lane has of what the other has.
fn ratios(own: &[Option<f64>], others: &[Option<f64>]) -> Vec<Option<f64>> {
    own.iter().zip(others).map(|(own, other)| Some((*own)? / (*other)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<Sample> {
        values.iter().map(|value| Sample::default().with("x", *value)).collect()
    }

    fn row(own: &[Sample], others: Option<&[Sample]>) -> Row {
        Row::new(Lane::Ours { fair: false }, 1, own, others)
    }

    #[test]
    fn a_ratio_is_the_median_of_those_of_neighbouring_rounds() {
        let row = row(&samples(&[1.0, 20.0, 30.0]), Some(&samples(&[2.0, 10.0, 10.0])));
        let ratio = row.figures[0].ratio.unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.5, 2.0, 3.0));
        assert_eq!(row.figures[0].value.unwrap().median, 20.0);
    }

    #[test]
    fn a_lane_without_rounds_is_one_that_is_not_supported() {
        assert!(!row(&[], None).supported);
    }

    #[test]
    fn any_error_fails_a_section() {
        let mut wrong = samples(&[1.0]);
        wrong[0].errors = 3;
        wrong[0].error = Some("busy".into());
        let section = |rows, failure| Section {
            backend: "memory",
            store: String::new(),
            scenario: "held",
            title: "",
            notes: &[],
            unit: "locks",
            method: String::new(),
            reference: None,
            rows,
            failure,
        };
        assert_eq!(section(vec![row(&samples(&[1.0]), None)], None).failure(), None);
        assert_eq!(
            section(vec![row(&wrong, None)], None).failure().unwrap(),
            "held over memory: 3 errors of ours, the first: busy"
        );
        assert_eq!(
            section(Vec::new(), Some("no store".into())).failure().unwrap(),
            "held over memory: no store"
        );
    }
}
