//! Requests that outlive their caller.

use std::future::Future;

use super::Shared;
use crate::Unattended;

impl Shared {
    /// Polls a request in its caller's task, and goes on with it in the background if the caller is dropped.
    ///
    /// A shutdown waits for it.
    pub(super) async fn see_through<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let _debt = self.executor.owe();
        let leave = |rest| self.executor.spawn_debt(async move { drop(rest.await) });
        Unattended::new(request, leave).await
    }
}
