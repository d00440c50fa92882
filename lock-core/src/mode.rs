//! How a lock excludes others.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::Error;
use crate::ErrorKind;

/// How a lock excludes others.
///
/// Any two claims conflict, except shared with shared, and permits with permits of the same number
/// while fewer than that number are out. Exhaustive on purpose: a backend has to decide each mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a backend has to decide each mode")]
pub enum Mode {
    /// One holder.
    #[default]
    Exclusive,
    /// Many readers, no writer.
    Shared,
    /// Up to `of` holders at once.
    Permits {
        /// How many may hold at once; all who use the key must say the same.
        of: NonZeroU32,
    },
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclusive => f.write_str("exclusive"),
            Self::Shared => f.write_str("shared"),
            Self::Permits { of } => write!(f, "permits:{of}"),
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let permits = text.strip_prefix("permits:").and_then(|of| of.parse().ok());
        match (text, permits) {
            ("exclusive", _) => Ok(Self::Exclusive),
            ("shared", _) => Ok(Self::Shared),
            (_, Some(of)) => Ok(Self::Permits { of }),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("unknown mode {text:?}: use exclusive, shared or permits:N with N from 1"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_survives_its_text_form() {
        for text in ["exclusive", "shared", "permits:3"] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
        }
        for text in ["", "Exclusive", "permits:0", "permits:", "permits:x"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }
}
