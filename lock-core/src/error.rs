//! The one error of the framework: a kind to match on, a sentence for people, and the cause.
//!
//! Backends build an error from a kind and a message; the engine stamps operation, backend and key
//! in one place. No error ever carries a password: backends describe endpoints, never URLs.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::Holder;

/// The result of every fallible call of the framework.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Somebody else holds the lock and the call was not to wait.
    Held,
    /// The wait ended before the lock became free.
    Timeout,
    /// The lock was held once and is no longer.
    Lost,
    /// The handle or guard does not hold the lock in the store.
    NotHeld,
    /// The store could not be reached, or gave no usable answer in time.
    Unavailable,
    /// This backend cannot do what was asked; the message names mode and backend.
    Unsupported,
    /// The URL, the configuration or the server's setup is wrong.
    Config,
    /// A key, a duration or another argument is not acceptable.
    InvalidInput,
    /// The store holds data under our names that is not ours or makes no sense.
    Corrupt,
    /// The provider has been shut down.
    Closed,
}

/// Whether the failed request may have changed the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    No,
    Unknown,
}

/// An error of the framework.
///
/// `Display` is one line for people: what failed, on what, why. The cause, if there is one, is the
/// [`source`](StdError::source).
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    applied: Applied,
    operation: Option<&'static str>,
    backend: Option<&'static str>,
    key: Option<String>,
    holders: Vec<Holder>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Builds an error of `kind` with a message that says what to do about it.
    ///
    /// Messages are lower case without a full stop. Only [`ErrorKind::Unavailable`] starts out
    /// retryable.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retryable: kind == ErrorKind::Unavailable,
            applied: Applied::No,
            operation: None,
            backend: None,
            key: None,
            holders: Vec::new(),
            source: None,
        }))
    }

    /// Keeps `source` as the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Says that the request may have been applied although it failed (a lost reply, a timeout).
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.0.applied = Applied::Unknown;
        self
    }

    /// Says that repeating the request cannot help, whatever the kind.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.retryable = false;
        self
    }

    /// Attaches who holds the lock.
    #[must_use]
    pub fn with_holders(mut self, holders: Vec<Holder>) -> Self {
        self.0.holders = holders;
        self
    }

    /// Stamps where the error happened; what is stamped already stays.
    #[must_use]
    pub fn in_context(
        mut self,
        operation: &'static str,
        backend: &'static str,
        key: Option<&str>,
    ) -> Self {
        self.0.operation.get_or_insert(operation);
        self.0.backend.get_or_insert(backend);
        if self.0.key.is_none() {
            self.0.key = key.map(str::to_owned);
        }
        self
    }

    /// Names the one key, as the store has it, that a call about many failed over.
    #[must_use]
    pub fn about(mut self, key: &str) -> Self {
        self.0.key = Some(key.to_owned());
        self
    }

    /// Lets the key be called otherwise, if there is one.
    pub(crate) fn with_key(mut self, name: impl FnOnce(&str) -> String) -> Self {
        self.0.key = self.0.key.as_deref().map(name);
        self
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the sentence that says what happened, without the context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Tells whether repeating the same call later can succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Tells whether the request may have been applied although it failed.
    pub fn is_ambiguous(&self) -> bool {
        self.0.applied == Applied::Unknown
    }

    /// Returns who held the lock, for [`ErrorKind::Held`] and [`ErrorKind::Timeout`].
    pub fn holders(&self) -> &[Holder] {
        &self.0.holders
    }

    /// Returns the key the failed call was about, as the caller wrote it.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Returns the name of the backend that failed.
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}")?;
            if let Some(key) = &self.0.key {
                write!(f, " {:?}", Shortened(key))?;
            }
            if let Some(backend) = self.0.backend {
                write!(f, " on {backend}")?;
            }
            f.write_str(": ")?;
        } else if let Some(key) = &self.0.key {
            write!(f, "{:?}: ", Shortened(key))?;
        }
        f.write_str(&self.0.message)?;
        if let [first, rest @ ..] = self.0.holders.as_slice() {
            write!(f, "; held by {first}")?;
            if !rest.is_empty() {
                write!(f, " and {} more", rest.len())?;
            }
        }
        Ok(())
    }
}

/// A text that cannot flood a log line.
struct Shortened<'a>(&'a str);

impl fmt::Debug for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARS: usize = 64;
        match self.0.char_indices().nth(CHARS) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// The line for people, then what code sees, then what caused it: a `main` that returns an error prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?}", self.0.kind)?;
        if self.0.retryable {
            f.write_str(", retryable")?;
        }
        if self.is_ambiguous() {
            f.write_str(", ambiguous")?;
        }
        f.write_str(")")?;
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_context_message_and_holders_on_one_line() {
        let error = Error::new(ErrorKind::Held, "another owner has the lock")
            .with_holders(vec![Holder::new().owned_by("ann@a:1"), Holder::new()])
            .in_context("try_lock", "memory", Some("job"))
            .in_context("other", "other", Some("other"));
        assert_eq!(
            error.to_string(),
            "try_lock \"job\" on memory: another owner has the lock; held by ann@a:1 and 1 more"
        );
    }

    #[test]
    fn a_program_that_ends_with_it_shows_the_line_for_people_first() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::new(ErrorKind::Unavailable, "nobody listens there")
            .with_source(cause)
            .in_context("connect", "redis", None);
        assert_eq!(
            format!("{error:?}"),
            "connect on redis: nobody listens there (Unavailable, retryable)\n  caused by: connection refused"
        );
    }

    #[test]
    fn only_unavailable_is_retryable_until_said_otherwise() {
        assert!(Error::new(ErrorKind::Unavailable, "x").is_retryable());
        assert!(!Error::new(ErrorKind::Unavailable, "x").permanent().is_retryable());
        assert!(!Error::new(ErrorKind::Corrupt, "x").is_retryable());
        assert!(Error::new(ErrorKind::Unavailable, "x").ambiguous().is_ambiguous());
    }
}
