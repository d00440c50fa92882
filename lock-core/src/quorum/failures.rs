//! What went wrong at which member, and the one error that comes of it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::group::Group;
use super::node::no_answer;
use super::round::Round;
use crate::Error;
use crate::ErrorKind;

/// What went wrong at each member that failed: the [`source`](StdError::source) of the error of a
/// [`Quorum`](crate::Quorum) or a [`Dual`](crate::Dual).
#[derive(Clone, Debug)]
pub struct MemberErrors(Vec<(String, Error)>);

impl MemberErrors {
    /// Returns the name and the error of each member that failed.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.0.iter().map(|(name, error)| (name.as_str(), error))
    }
}

/// For who opens the members of a combination and has to say which could not be.
impl FromIterator<(String, Error)> for MemberErrors {
    fn from_iter<T: IntoIterator<Item = (String, Error)>>(failures: T) -> Self {
        Self(failures.into_iter().collect())
    }
}

impl fmt::Display for MemberErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, error)) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            // Who talks to several servers names the one, which may be the member itself.
            let message = error.message();
            let itself = message.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
            write!(f, "{separator}{name}: {}", itself.unwrap_or(message))?;
        }
        Ok(())
    }
}

impl StdError for MemberErrors {}

impl Group {
    /// The error of a round that came to nothing. Where `budget` was waited for, it counts those who have
    /// not answered: a round that ended because too many had failed has not waited for the others.
    pub(super) fn failure<T: Send>(&self, round: &Round<'_, T>, budget: Duration) -> Error {
        let waited = round.failed() < self.block();
        let failed = |(at, node): (usize, &std::sync::Arc<super::node::Node>)| {
            let error = match round.answer(at) {
                Some(answer) => answer.as_ref().err().cloned(),
                None => (waited && round.is_pending(at)).then(|| no_answer(budget)),
            };
            Some((node.name.clone(), error?))
        };
        self.sum_up(self.nodes().iter().enumerate().filter_map(failed).collect())
    }

    /// One error for several: permanent only if enough members failed for good, ambiguous if one is.
    pub(super) fn sum_up(&self, failures: Vec<(String, Error)>) -> Error {
        let failures = MemberErrors(failures);
        let permanent = failures.iter().filter(|(_, error)| !error.is_retryable());
        let kinds: Vec<_> = permanent.map(|(_, error)| error.kind()).collect();
        let for_good = kinds.len() >= self.block();
        let kind = kinds.first().filter(|_| for_good).copied().unwrap_or(ErrorKind::Unavailable);
        let message = format!("{} of {} members failed: {failures}", failures.0.len(), self.size());
        let ambiguous = failures.iter().any(|(_, error)| error.is_ambiguous());
        let error = Error::new(kind, message).with_source(failures);
        let error = if for_good { error.permanent() } else { error };
        if ambiguous { error.ambiguous() } else { error }
    }
}
