//! Writes that the store itself refuses to a stale holder.

use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::Txn;
use etcd_client::TxnOp;
use etcd_client::TxnResponse;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;

/// Makes a transaction that does `writes` unless a higher fence than `fence` has been seen at
/// `fence_key`, which is where the highest is kept: one key for each resource, without a lease.
///
/// Send it by your own client and give the answer to [`judge`]. The fence may come from any backend.
///
/// ```no_run
/// # async fn example(guard: &lock_core::LockGuard, mut client: etcd_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use etcd_client::TxnOp;
///
/// let write = TxnOp::put("stock/sku:123", "41", None);
/// let answer = client.txn(lock_etcd::fenced("fence/sku:123", guard.fence(), [write])).await?;
/// lock_etcd::judge(&answer)?;
/// # Ok(()) }
/// ```
pub fn fenced(
    fence_key: impl Into<Vec<u8>>,
    fence: Fence,
    writes: impl IntoIterator<Item = TxnOp>,
) -> Txn {
    let key = fence_key.into();
    let text = digits(fence);
    // Of a key that is not there etcd says that it is not greater.
    let seen = Compare::value(key.clone(), CompareOp::Greater, text.clone());
    let mut steps = vec![TxnOp::put(key.clone(), text, None)];
    steps.extend(writes);
    Txn::new().when([seen]).and_then([TxnOp::get(key, None)]).or_else(steps)
}

/// Tells whether the writes of a [`fenced`] transaction were done.
///
/// # Errors
///
/// `Lost` if a later holder has been here: nothing was written.
pub fn judge(answer: &TxnResponse) -> Result<()> {
    match answer.succeeded() {
        true => Err(Error::new(
            ErrorKind::Lost,
            "a holder with a higher fence has written already: nothing was written",
        )),
        false => Ok(()),
    }
}

/// The store compares texts: all have the same length.
fn digits(fence: Fence) -> String {
    format!("{:016}", fence.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_fences_sort_as_fences_do() {
        let fences = [1, 9, 10, 1 << 40, Fence::MAX.get()].map(|it| Fence::new(it).unwrap());
        assert!(fences.windows(2).all(|pair| digits(pair[0]) < digits(pair[1])));
        assert_eq!(digits(Fence::MAX).len(), 16);
    }
}
