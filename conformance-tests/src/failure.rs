//! How a case ends when it does not pass.

use std::fmt::Display;
use std::panic::Location;

/// What a case returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a case did not pass. Any error turns into one with `?`, which notes the line.
///
/// It is no [`Display`] on purpose: that is what lets `?` take everything that is.
#[derive(Debug, Clone)]
pub struct Failure(End);

#[derive(Debug, Clone)]
enum End {
    Failed(String, &'static Location<'static>),
    Skipped(String),
}

impl Failure {
    /// Fails with `message` and the caller's line.
    #[track_caller]
    pub fn new(message: impl Display) -> Self {
        Self(End::Failed(message.to_string(), Location::caller()))
    }

    /// Ends the case without a verdict: this store or fixture cannot do what it is about.
    pub fn skipped(reason: impl Display) -> Self {
        Self(End::Skipped(reason.to_string()))
    }

    /// Names another line: that of a case, which tells more than the helper's that it called.
    pub(crate) fn at(mut self, line: &'static Location<'static>) -> Self {
        if let End::Failed(_, at) = &mut self.0 {
            *at = line;
        }
        self
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        match self.0 {
            End::Failed(message, at) => {
                Verdict::Failed(format!("{message} ({}:{})", at.file(), at.line()))
            }
            End::Skipped(reason) => Verdict::Skipped(reason),
        }
    }
}

impl<E: Display> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// What came of one case on one fixture.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a case passes, fails or does not apply")]
pub enum Verdict {
    /// The claim holds.
    Passed,
    /// It does not, or the case did not end in time.
    Failed(String),
    /// The case does not apply, for this reason.
    Skipped(String),
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        outcome.map_or_else(Failure::into_verdict, |()| Self::Passed)
    }
}

/// Ends the case with a message unless the condition holds.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new(format!($($message)+)));
        }
    };
}
pub(crate) use check;

/// Ends the case unless the value matches, and shows the value.
macro_rules! check_matches {
    ($value:expr, $($pattern:tt)+) => {
        match &$value {
            $($pattern)+ => {}
            other => {
                return Err($crate::Failure::new(format!(
                    "{} is {other:?}, expected {}",
                    stringify!($value),
                    stringify!($($pattern)+),
                )));
            }
        }
    };
}
pub(crate) use check_matches;
