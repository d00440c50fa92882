//! Durations as people write them, in URLs, in configuration and on the command line.

use std::time::Duration;

use crate::Error;
use crate::ErrorKind;
use crate::Result;

/// Parses `300ms`, `5s`, `10m`, `1h` or `0`: a whole number and one unit, nothing else.
///
/// # Errors
///
/// `InvalidInput`, saying what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some(unit_millis) = millis_of(unit) else { return Err(refused(text, number, unit)) };
    number
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit_millis))
        .map(Duration::from_millis)
        .ok_or_else(|| refused(text, number, unit))
}

fn millis_of(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    }
}

fn refused(text: &str, number: &str, unit: &str) -> Error {
    let hint = match (number.is_empty(), unit) {
        (false, "") => format!("; {number} of what? perhaps {number}s"),
        _ => String::new(),
    };
    Error::new(
        ErrorKind::InvalidInput,
        format!("{text:?} is not a duration: write 300ms, 5s, 10m, 1h or 0{hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_whole_number_and_one_unit() {
        for (text, millis) in
            [("0", 0), ("300ms", 300), ("5s", 5_000), ("10m", 600_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn refuses_all_else() {
        let huge = format!("{}h", u64::MAX);
        for text in ["", "s", "5", "-5s", "1.5s", "1h30m", "5 s", "5S", "5sec", "٥s", &huge] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn asks_for_the_unit_of_a_bare_number() {
        assert_eq!(
            parse_duration("5").unwrap_err().to_string(),
            "\"5\" is not a duration: write 300ms, 5s, 10m, 1h or 0; 5 of what? perhaps 5s"
        );
    }
}
