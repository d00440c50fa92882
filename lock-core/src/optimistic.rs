//! Changes without a lock: read a version, write only if it is still the same, else begin again.

use std::iter::Take;

use backon::ExponentialBackoff;

use crate::Backoff;
use crate::Clock;
use crate::Error;
use crate::ErrorKind;
use crate::Result;

/// Counts the tries of an optimistic change, and pauses between them.
///
/// Each try has to read anew what it bases its write on. Good where conflicts are rare; where many
/// writers want the same row, a lock or a locking read wastes less.
///
/// ```
/// use lock_core::{Backoff, Tries};
/// # use std::time::Duration;
/// # async fn read() -> lock_core::Result<(i64, i64)> { Ok((9, 1)) }
/// # async fn write(_: i64, _: i64) -> lock_core::Result<u64> { Ok(1) }
///
/// async fn sell() -> lock_core::Result<i64> {
///     let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(200));
///     let mut tries = Tries::new(10, backoff.jittered());
///     loop {
///         let (quantity, version) = read().await?;
///         // UPDATE stock SET quantity = ?, version = version + 1 WHERE sku = '123' AND version = ?
///         if write(quantity - 1, version).await? > 0 {
///             return Ok(quantity - 1);
///         }
///         tries.conflict().await?;
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(sell()).unwrap();
/// ```
#[derive(Debug)]
pub struct Tries {
    max: usize,
    pauses: Take<ExponentialBackoff>,
}

impl Tries {
    /// Allows for `max` tries, one at least, with the pauses of `backoff` between them.
    pub fn new(max: usize, backoff: Backoff) -> Self {
        let max = max.max(1);
        Self { max, pauses: backoff.delays().take(max - 1) }
    }

    /// Pauses, because another writer came between the read and the write, and nothing was changed.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if that was the last try.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the try counts as over.
    pub async fn conflict(&mut self) -> Result<()> {
        let Some(pause) = self.pauses.next() else {
            let message = format!("another writer came first in each of {} tries", self.max);
            return Err(Error::new(ErrorKind::Timeout, message));
        };
        Clock::system().sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;

    async fn tried(max: usize, conflicts: usize) -> (Result<()>, usize) {
        let mut tries = Tries::new(max, Backoff::fixed(Duration::from_millis(1)));
        for count in 1.. {
            if count > conflicts {
                return (Ok(()), count);
            }
            if let Err(error) = tries.conflict().await {
                return (Err(error), count);
            }
        }
        unreachable!("the tries come to an end")
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
    async fn a_task_makes_changes_to_what_it_borrows() {
        let version = Arc::new(AtomicU64::new(0));
        let change = |version: Arc<AtomicU64>| async move { raise(&version).await };
        let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(change(version.clone()))).collect();
        for task in tasks {
            task.await.expect("no task panics").expect("one of them gets on each time");
        }
        assert_eq!(version.load(Ordering::SeqCst), 4);
    }

    async fn raise(version: &AtomicU64) -> Result<()> {
        let mut tries = Tries::new(100, Backoff::fixed(Duration::from_millis(1)).jittered());
        loop {
            let read = version.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            let (now, seq) = (read + 1, Ordering::SeqCst);
            if version.compare_exchange(read, now, seq, seq).is_ok() {
                return Ok(());
            }
            tries.conflict().await?;
        }
    }
}
