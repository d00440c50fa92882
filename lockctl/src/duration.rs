//! Durations of the command line.

use std::time::Duration;

use lock::Wait;
use lock::parse_duration;

/// `300ms`, `5s`, `10m`, `1h` or `0`.
pub(crate) fn plain(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.message().to_owned())
}

/// The same, but more than nothing.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    match plain(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// The same as [`plain`], or `forever`.
pub(crate) fn wait(text: &str) -> Result<Wait, String> {
    if text == "forever" {
        return Ok(Wait::Forever);
    }
    plain(text).map(Wait::from).map_err(|message| format!("{message}, or forever"))
}

/// Writes a duration as a person would read it.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes a duration in at most five characters.
pub(crate) fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        600..3600 => format!("{}m", seconds / 60),
        3600..36_000 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        36_000..360_000 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_may_be_forever() {
        assert_eq!(wait("forever"), Ok(Wait::Forever));
        assert_eq!(wait("0"), Ok(Wait::Never));
        assert_eq!(wait("5s"), Ok(Wait::For(Duration::from_secs(5))));
        assert!(plain("forever").is_err());
        assert!(wait("5").unwrap_err().ends_with(", or forever"));
        for text in ["", "s", "-1s", "1.5s", "1 s", "5S", "1d", "18446744073709551615h"] {
            assert!(wait(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ttl_is_more_than_nothing() {
        assert!(positive("0").is_err());
        assert!(positive("0s").is_err());
        assert_eq!(positive("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn shows_two_units_at_the_most() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_500, "1.5 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_brief_duration_fits_its_column() {
        for (seconds, text) in [
            (0.0, "0.0s"),
            (9.99, "9.9s"),
            (59.9, "59s"),
            (61.0, "1m01s"),
            (3599.0, "59m"),
            (3660.0, "1h01m"),
            (359_999.0, "99h"),
            (31_536_000.0, "365d"),
        ] {
            assert_eq!(brief(Duration::from_secs_f64(seconds)), text);
            assert!(text.len() <= 5);
        }
    }
}
