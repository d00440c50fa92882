//! Leader election: a lock that is contended for again whenever it is lost.
//!
//! Nothing but [`LockProvider::lock`] is needed: it outlives failures of the store while it waits, the
//! hold tells its own end in time (G4), and dropping anything releases (G5).

use std::future::Future;

use crate::Error;
use crate::Hold;
use crate::LockGuard;
use crate::LockOptions;
use crate::LockProvider;
use crate::Result;
use crate::Wait;
use crate::ext::finish;

/// Contends for `key` until a body has ended while it led.
pub(crate) async fn elect<P, T, E, F, Fut>(
    provider: &P,
    key: &str,
    options: &LockOptions,
    mut body: F,
) -> Result<T, E>
where
    P: LockProvider + ?Sized,
    E: From<Error>,
    F: FnMut(Hold) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut options = options.clone();
    options.wait.get_or_insert(Wait::Forever);
    let backend = provider.profile().name;
    loop {
        let guard = provider.lock(key, &options).await?;
        let fence = guard.fence().get();
        tracing::info!(backend, key, fence, "leading");
        if let Some(ended) = lead(guard, &mut body).await {
            tracing::info!(backend, key, fence, "stepped down");
            return ended;
        }
        tracing::info!(backend, key, fence, "leadership lost, contending again");
    }
}

/// Runs `body` while it leads; `None` if leadership was lost first.
async fn lead<T, E, F, Fut>(guard: LockGuard, body: &mut F) -> Option<Result<T, E>>
where
    E: From<Error>,
    F: FnMut(Hold) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let output = tokio::select! {
        biased;
        _ = guard.lost() => return None,
        output = body(guard.hold()) => output,
    };
    if output.is_err() && !guard.is_valid() {
        // The body noticed the loss by itself, in the same moment.
        return None;
    }
    Some(finish(guard, output).await)
}
