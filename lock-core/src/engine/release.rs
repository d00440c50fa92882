//! Giving back: at once and confirmed, or later and until certain.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::held::Held;
use crate::Backoff;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Kept;
use crate::LeaseKind;
use crate::Release;
use crate::Result;

/// Between two tries of a release.
const RETRY: Backoff =
    Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jittered();

/// How often a caller who waits for a release waits for it to be repeated. After that it goes on in
/// the background: nobody should wait for seconds for something that the TTL ends anyway.
const PATIENCE: usize = 2;

/// How long a release on a session is repeated at least: while the session lives nothing else ends
/// the lock, and no session outlives this without having been reached.
const SESSION: Duration = Duration::from_secs(60);

/// Releases a hold that is over for its guards, and confirms it.
pub(crate) async fn release_now(held: Arc<Held>) -> Result<()> {
    let (shared, claim) = (held.shared(), held.claim());
    let mut delays = RETRY.delays().take(PATIENCE);
    let mut unsure = false;
    loop {
        let error = match release_once(shared, claim).await {
            Ok(Release::Released) => return Ok(()),
            // An earlier try that seemed to fail did it.
            Ok(Release::NotHeld) if unsure => return Ok(()),
            Ok(Release::NotHeld) => return Err(not_held_any_more()),
            Err(error) => error,
        };
        unsure |= error.is_ambiguous();
        let delay = delays.next().filter(|_| error.is_retryable());
        let Some(delay) = delay else {
            shared.release_later(claim.clone());
            return Err(unconfirmed(&error));
        };
        shared.clock().sleep(delay).await;
    }
}

fn not_held_any_more() -> Error {
    Error::new(
        ErrorKind::Lost,
        "the lock was lost before it was released: the store no longer had it",
    )
}

fn unconfirmed(cause: &Error) -> Error {
    let message = format!(
        "the release is not confirmed and goes on in the background, the TTL ends the lock at the \
         latest: {}",
        cause.message()
    );
    Error::new(ErrorKind::Unavailable, message).with_source(cause.clone()).ambiguous()
}

async fn release_once(shared: &Arc<Shared>, claim: &Claim) -> Result<Release> {
    let released = shared.limited("unlock", shared.backend.release(claim)).await;
    if released.is_ok() {
        shared.waiters.wake_key(&claim.key);
    }
    released
}

/// Releases until it is certain, or until the TTL has done it.
pub(crate) async fn release_surely(shared: Arc<Shared>, claim: Claim) {
    let patience = match shared.profile.lease {
        LeaseKind::PerLock => claim.ttl,
        LeaseKind::Session => claim.ttl.max(SESSION),
    };
    let give_up = shared.now() + patience;
    let mut delays = RETRY.delays();
    loop {
        let Err(error) = release_once(&shared, &claim).await else { return };
        let delay = delays.next().unwrap_or(SESSION);
        if !error.is_retryable() || shared.now() + delay > give_up {
            let (backend, key) = (shared.profile.name, shared.strip(claim.key.as_str()));
            tracing::warn!(backend, key, %error, "release not confirmed: the TTL ends the lock");
            return;
        }
        shared.clock().sleep(delay).await;
    }
}

/// Shortens the lease of a hold that is over for its guards to what its minimum hold leaves.
pub(crate) async fn shorten(held: Arc<Held>, left: Duration) -> Result<()> {
    let shared = held.shared();
    // A renewal on its way would lengthen the lease again if it came second.
    held.keep_is_over().await;
    let claim = Claim { ttl: left.max(shared.profile.ttl_min), ..held.claim().clone() };
    let claims = [claim];
    match shared.limited("unlock", shared.backend.keep(&claims)).await?.first() {
        Some(Kept::Renewed { .. }) => Ok(()),
        _ => Err(not_held_any_more()),
    }
}
