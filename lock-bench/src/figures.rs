//! What is made of measurements: medians with their spread, and how evenly something was shared.

use std::time::Duration;

use serde::Serialize;

/// The middle of several rounds, and between what the middle half of them lies: of up to four, all.
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
        let beyond = values.len().checked_sub(1)? / 4;
        let (low, high) = (values[beyond], values[values.len() - 1 - beyond]);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Some(Self { median, low, high })
    }
}

/// What the one with the least got of what each would have got if all had got the same.
pub(crate) fn least_share(counts: &[u64]) -> Option<f64> {
    let sum: u64 = counts.iter().sum();
    let least = counts.iter().min()?;
    (sum > 0).then(|| *least as f64 * counts.len() as f64 / sum as f64)
}

/// Of turns, each from when it was waited for until when it came: how much earlier than another one began to
/// wait and was served after it, at the worst. Zero if all were served in order.
pub(crate) fn overtaken(turns: &[(Duration, Duration)]) -> Option<Duration> {
    let mut turns = turns.to_vec();
    turns.sort_by_key(|(_, granted)| *granted);
    let mut latest = turns.first()?.0;
    let before = turns.iter().map(|(begun, _)| {
        latest = latest.max(*begun);
        latest - *begun
    });
    before.max()
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
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0, 8.0]), Some((2.0, 3.0, 4.0)), "the middle half");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[Some(1.0), None]), None);
    }

    #[test]
    fn shares_tell_even_from_uneven() {
        assert_eq!(least_share(&[5, 5]), Some(1.0));
        assert_eq!(least_share(&[0, 10]), Some(0.0));
        assert_eq!(least_share(&[0, 0]), None);
    }

    #[test]
    fn who_began_later_and_was_served_earlier_has_overtaken() {
        let of = |turns: &[(u64, u64)]| {
            let at = |(begun, granted)| (Duration::from_secs(begun), Duration::from_secs(granted));
            overtaken(&turns.iter().copied().map(at).collect::<Vec<_>>()).map(|it| it.as_secs())
        };
        assert_eq!(of(&[(1, 5), (2, 6), (0, 4)]), Some(0));
        assert_eq!(of(&[(1, 9), (2, 6), (5, 7), (4, 8)]), Some(4));
        assert_eq!(of(&[]), None);
    }
}
