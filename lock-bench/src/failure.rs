//! What makes a measurement fail, as a sentence.

use std::error::Error;
use std::fmt;

/// Why something could not be measured.
#[derive(Clone, Debug)]
pub(crate) struct Failure(String);

/// The outcome of all that can fail here.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
