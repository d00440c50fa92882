//! Why there is no server.

use std::fmt;

/// Why a server could not be started or hurt, as a sentence.
#[derive(Debug)]
pub struct Error(pub(crate) String);

/// The result of all that can fail here.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
