//! Writes to ZooKeeper itself that a stale holder cannot make.

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;
use zookeeper_client::Client as Zk;
use zookeeper_client::Error as ZkError;
use zookeeper_client::MultiWriteError;
use zookeeper_client::MultiWriteResult;
use zookeeper_client::MultiWriter;

use crate::error::classify;

/// Writes in one transaction with a check that nobody with a higher fence has written before.
///
/// `guard` is a node of the caller's that stores the highest fence so far, as decimal digits; create it
/// empty beside what it protects. `operations` adds the writes to the transaction, and is called again if
/// another write came between. The fence may be of any backend.
///
/// ```no_run
/// # use lock_core::LockGuard;
/// # async fn example(zk: zookeeper_client::Client, guard: LockGuard) -> lock_core::Result<()> {
/// lock_zookeeper::write_fenced(&zk, "/stock/fence", guard.fence(), |write| {
///     write.add_set_data("/stock/sku-123", b"41", None)
/// })
/// .await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// `Lost` if a higher fence has been seen: nothing was written. `Corrupt` if the guard stores no
/// number. What the servers refuse, as for any other call.
///
/// # Cancel safety
///
/// Dropped, it has written all or nothing.
pub async fn write_fenced(
    zk: &Zk,
    guard: &str,
    fence: Fence,
    operations: impl Fn(&mut MultiWriter<'_>) -> Result<(), ZkError>,
) -> Result<Vec<MultiWriteResult>> {
    loop {
        let (seen, stat) = zk.get_data(guard).await.map_err(classify)?;
        if highest(&seen)? > fence.get() {
            return Err(Error::new(ErrorKind::Lost, "somebody with a higher fence has written"));
        }
        let mut write = zk.new_multi_writer();
        let number = fence.to_string();
        let added = write.add_set_data(guard, number.as_bytes(), Some(stat.version));
        added.and_then(|()| operations(&mut write)).map_err(classify)?;
        match write.commit().await {
            Ok(mut results) => {
                // The guard's own, which is none of the caller's.
                results.remove(0);
                return Ok(results);
            }
            // Another writer came between: it may have had a higher fence.
            Err(MultiWriteError::OperationFailed { index: 0, source: ZkError::BadVersion }) => {}
            Err(failure) => return Err(classify(failure.into())),
        }
    }
}

fn highest(stored: &[u8]) -> Result<u64> {
    let number = match stored {
        [] => Some(0),
        digits => str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()),
    };
    number.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the guard of a fenced write stores no number")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_stores_nothing_or_a_number() {
        assert_eq!(highest(b"").unwrap(), 0);
        assert_eq!(highest(b"17").unwrap(), 17);
        assert_eq!(highest(b"x").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
