//! What is made of measurements: medians with their spread, and how evenly something was shared.

use serde::Serialize;

/// The middle of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Nothing if there is no value, or one is missing or no number: a median of some rounds only would
    /// hide what happened in the others.
    pub(crate) fn of(values: &[Option<f64>]) -> Option<Self> {
        let finite = |value: &Option<f64>| value.filter(|value| value.is_finite());
        let mut values = values.iter().map(finite).collect::<Option<Vec<_>>>()?;
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Some(Self { median, low, high })
    }
}

/// Jain's index of fairness: 1 if all got the same, 1/n if one got it all.
pub(crate) fn jain(counts: &[u64]) -> Option<f64> {
    let sum: f64 = counts.iter().map(|count| *count as f64).sum();
    let squares: f64 = counts.iter().map(|count| (*count as f64).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / (counts.len() as f64 * squares))
}

/// What the one with the least got of what each would have got if all had got the same.
pub(crate) fn least_share(counts: &[u64]) -> Option<f64> {
    let sum: u64 = counts.iter().sum();
    let least = counts.iter().min()?;
    (sum > 0).then(|| *least as f64 * counts.len() as f64 / sum as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        let of = |values: &[f64]| {
            let values: Vec<_> = values.iter().copied().map(Some).collect();
            Spread::of(&values).map(|spread| (spread.low, spread.median, spread.high))
        };
        assert_eq!(of(&[3.0, 1.0, 9.0]), Some((1.0, 3.0, 9.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 8.0]), Some((1.0, 3.0, 8.0)));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[Some(1.0), None]), None);
    }

    #[test]
    fn shares_tell_even_from_uneven() {
        assert_eq!((jain(&[5, 5]), least_share(&[5, 5])), (Some(1.0), Some(1.0)));
        assert_eq!((jain(&[0, 10]), least_share(&[0, 10])), (Some(0.5), Some(0.0)));
        assert_eq!((jain(&[0, 0]), least_share(&[0, 0])), (None, None));
    }
}
