//! One way to lock and unlock, as the loops of the benchmark use it.

use std::future::Future;

use crate::failure::Outcome;
use crate::order::Requests;

/// A way to lock: the framework, the bare statements, or a peer.
///
/// The loops are generic over it, so that none pays for a virtual call or a box that its users would not
/// pay for.
pub(crate) trait Way: Send + Sync + 'static {
    /// What stands for a held lock.
    type Guard: Send + Sync + 'static;

    /// Acquires `key`, waiting for as long as it takes.
    fn lock(&self, key: &str) -> impl Future<Output = Outcome<Self::Guard>> + Send;

    /// Releases it.
    fn unlock(&self, guard: Self::Guard) -> impl Future<Output = Outcome> + Send;

    /// Renews by hand what nothing renews by itself; called once a cycle.
    fn keep(&self, _guards: &[Self::Guard]) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// Tells what has been asked of the store so far, where that is counted.
    fn requests(&self) -> Option<Requests> {
        None
    }
}
