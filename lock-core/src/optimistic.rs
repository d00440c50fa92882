//! Changes without a lock: read a version, write only if it is still the same, else begin again.

use crate::Backoff;
use crate::Clock;
use crate::Error;
use crate::ErrorKind;

/// What one try of an optimistic change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a try has these two outcomes")]
pub enum Change<T> {
    /// It is done.
    Done(T),
    /// Another writer came between the read and the write: nothing was changed.
    Conflict,
}

impl<T> Change<T> {
    /// Judges an `UPDATE … WHERE id = ? AND version = ?` by the number of rows that it hit.
    pub fn of_rows(rows: u64, done: T) -> Self {
        if rows == 0 { Self::Conflict } else { Self::Done(done) }
    }
}

/// Tries `change` up to `tries` times, with the pauses of `backoff` after conflicts.
///
/// Each try has to read anew what it bases its write on. Good where conflicts are rare; where many
/// writers want the same row, a lock or a locking read wastes less.
///
/// ```
/// use lock_core::{Backoff, Change, optimistic};
/// # use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backoff = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(50)).jittered();
/// let mut version = 0;
/// let stored = optimistic(5, backoff, async || {
///     version += 1;
///     // UPDATE stock SET quantity = ?, version = version + 1 WHERE id = ? AND version = ?
///     let rows = if version < 3 { 0 } else { 1 };
///     Ok::<_, lock_core::Error>(Change::of_rows(rows, version))
/// });
/// assert_eq!(stored.await.unwrap(), 3);
/// # });
/// ```
///
/// # Errors
///
/// What `change` returns, at once; [`Timeout`](ErrorKind::Timeout) if each try met a conflict.
///
/// # Cancel safety
///
/// As that of `change`; nothing is done between two tries.
pub async fn optimistic<T, E: From<Error>>(
    tries: usize,
    backoff: Backoff,
    mut change: impl AsyncFnMut() -> Result<Change<T>, E>,
) -> Result<T, E> {
    let mut pauses = backoff.delays().take(tries.saturating_sub(1));
    loop {
        if let Change::Done(done) = change().await? {
            return Ok(done);
        }
        let Some(pause) = pauses.next() else {
            let message = format!("another writer came first in each of {} tries", tries.max(1));
            return Err(Error::new(ErrorKind::Timeout, message).into());
        };
        Clock::system().sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn tried(tries: usize, conflicts: usize) -> (Result<(), Error>, usize) {
        let mut count = 0;
        let backoff = Backoff::fixed(Duration::from_millis(1));
        let outcome = optimistic(tries, backoff, async || {
            count += 1;
            Ok(Change::of_rows(u64::from(count > conflicts), ()))
        });
        (outcome.await, count)
    }

    #[tokio::test]
    async fn conflicts_are_tried_again_as_often_as_allowed() {
        let (done, count) = tried(3, 2).await;
        assert_eq!((done.is_ok(), count), (true, 3));
        let (failed, count) = tried(3, 3).await;
        assert_eq!((failed.unwrap_err().kind(), count), (ErrorKind::Timeout, 3));
        assert_eq!(tried(0, 1).await.1, 1, "once at least");
    }

    #[tokio::test]
    async fn a_failure_is_no_conflict() {
        let backoff = Backoff::fixed(Duration::from_millis(1));
        let mut count = 0;
        let failed = optimistic(9, backoff, async || {
            count += 1;
            Err::<Change<()>, _>(Error::new(ErrorKind::Unavailable, "no"))
        });
        assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(count, 1);
    }
}
