//! Exit codes, and what a user is told when a call ends otherwise than by its command.

use std::process::ExitCode;

use lock::Error;
use lock::ErrorKind;

/// An exit code. Scripts are written against these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const NOT_HELD: Self = Self(1);
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const DATA: Self = Self(65);
    pub(crate) const UNAVAILABLE: Self = Self(69);
    pub(crate) const BUG: Self = Self(70);
    pub(crate) const HELD: Self = Self(75);
    pub(crate) const LOST: Self = Self(76);
    pub(crate) const CONFIG: Self = Self(78);
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    pub(crate) const NOT_FOUND: Self = Self(127);

    /// Passes on the code of a command.
    pub(crate) const fn of_command(code: u8) -> Self {
        Self(code)
    }

    /// Returns what a shell returns for a command that a signal killed.
    pub(crate) fn of_signal(signal: i32) -> Self {
        Self(u8::try_from(signal).unwrap_or(u8::MAX).saturating_add(128))
    }

    pub(crate) const fn get(self) -> u8 {
        self.0
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// One word for `--result-fd`.
    pub(crate) word: &'static str,
    /// The exit code.
    pub(crate) code: Code,
    /// One sentence for the user; empty if there is nothing to say.
    pub(crate) message: String,
    /// The signal that ended the command, or the wait for the lock.
    pub(crate) signal: Option<i32>,
    /// The fence of the lock, if it was held.
    pub(crate) fence: Option<u64>,
}

impl Outcome {
    pub(crate) fn new(word: &'static str, code: Code, message: impl Into<String>) -> Self {
        Self { word, code, message: message.into(), signal: None, fence: None }
    }

    /// Nothing more to say.
    pub(crate) fn quiet(word: &'static str, code: Code) -> Self {
        Self::new(word, code, "")
    }

    /// The command line asks for what cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", Code::USAGE, message)
    }

    /// The URL or the configuration is wrong.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new("config", Code::CONFIG, message)
    }

    /// What should not have happened.
    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::new("bug", Code::BUG, message)
    }

    /// The lock was lost before the command ended.
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::new("lost", Code::LOST, message)
    }

    /// The key is none that a store could take.
    pub(crate) fn data(message: impl Into<String>) -> Self {
        Self::new("data", Code::DATA, message)
    }

    /// A signal ended the wait.
    pub(crate) fn interrupted(signal: i32, key: &str) -> Self {
        let message = format!("gave up waiting for {key:?} after signal {signal}");
        Self { signal: Some(signal), ..Self::new("interrupted", Code::of_signal(signal), message) }
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        let (word, code) = match error.kind() {
            ErrorKind::Held => ("held", Code::HELD),
            ErrorKind::Timeout => ("timeout", Code::HELD),
            ErrorKind::Lost => ("lost", Code::LOST),
            ErrorKind::NotHeld => ("not_held", Code::NOT_HELD),
            ErrorKind::Unavailable | ErrorKind::Corrupt => ("unavailable", Code::UNAVAILABLE),
            ErrorKind::Unsupported => ("usage", Code::USAGE),
            ErrorKind::Config => ("config", Code::CONFIG),
            ErrorKind::InvalidInput => ("data", Code::DATA),
            _ => ("bug", Code::BUG),
        };
        Self::new(word, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_code() {
        for (kind, code) in [
            (ErrorKind::Held, 75),
            (ErrorKind::Timeout, 75),
            (ErrorKind::Lost, 76),
            (ErrorKind::NotHeld, 1),
            (ErrorKind::Unavailable, 69),
            (ErrorKind::Corrupt, 69),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::Config, 78),
            (ErrorKind::InvalidInput, 65),
            (ErrorKind::Closed, 70),
        ] {
            assert_eq!(Outcome::from(Error::new(kind, "x")).code.get(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(Code::of_signal(15).get(), 143);
    }
}
