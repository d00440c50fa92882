//! Giving back: at once and confirmed, or later and until certain.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::held::Held;
use crate::Backoff;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Kept;
use crate::LeaseKind;
use crate::Release;
use crate::Result;
use crate::Wait;

/// Between two tries of a release.
const RETRY: Backoff =
    Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jittered();

/// How long a release on a session is repeated at least: while the session lives nothing else ends
/// the lock, and no session outlives this without having been reached.
const SESSION: Duration = Duration::from_secs(60);

/// Releases a hold that is over for its guards, and confirms it.
pub(crate) async fn release_now(held: Arc<Held>, now: BootInstant) -> Result<()> {
    let shared = held.shared();
    match release_patiently(shared, held.claim(), now).await {
        Ok(Release::Released) => Ok(()),
        Ok(Release::NotHeld) => Err(not_held_any_more()),
        Err(error) => {
            shared.release_later(held.release_claim());
            Err(unconfirmed(&error))
        }
    }
}

/// Releases as often as a caller has patience for: nobody should wait for seconds for something that
/// the TTL ends anyway.
pub(crate) async fn release_patiently(
    shared: &Arc<Shared>,
    claim: &Claim,
    now: BootInstant,
) -> Result<Release> {
    let mut pace = shared.pace(&Wait::Never, now);
    let mut unsure = false;
    loop {
        let error = match release_once(shared, claim).await {
            // An earlier try that seemed to fail did it.
            Ok(Release::NotHeld) if unsure => return Ok(Release::Released),
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        unsure |= error.is_ambiguous();
        let again = error.is_retryable().then(|| pace.next_retry(shared.now()));
        let Some(at) = again.flatten() else { return Err(error) };
        shared.clock().sleep_until(at).await;
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
    let released = shared.limited("release", shared.backend.release(claim)).await;
    if released.is_ok() {
        shared.waiters.released(&claim.key, shared.profile.wakeup);
    }
    released
}

/// Releases until it is certain, or until the TTL has done it.
pub(crate) async fn release_surely(shared: Arc<Shared>, claim: Claim) {
    let give_up = shared.now() + patience(&shared, claim.ttl);
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

/// How long a release is worth repeating: on a store with leases the TTL does it, on a session nothing.
fn patience(shared: &Shared, ttl: Duration) -> Duration {
    match shared.profile.lease {
        LeaseKind::PerLock => ttl,
        LeaseKind::Session => ttl.max(SESSION),
    }
}

/// Shortens the lease of a hold that is over for its guards to what its minimum hold leaves. If the
/// store does not confirm that, it is released in the background when the minimum is over.
pub(crate) async fn shorten(held: Arc<Held>) -> Result<()> {
    let shared = held.shared();
    // A renewal on its way would lengthen the lease again if it came second.
    held.keep_is_over().await;
    let kept = shared.repeated("unlock", || keep_for_the_minimum(&held)).await;
    match kept.and_then(|kept| shared.expect_answers(kept, 1)).as_deref() {
        Ok([Kept::Renewed { .. }]) => {
            let now = shared.now();
            // An answer that was late has begun what was left of the minimum when it was sent anew.
            if held.min_hold_left(now).is_zero() { release_now(held, now).await } else { Ok(()) }
        }
        Ok(_) => Err(not_held_any_more()),
        Err(error) => {
            let minimum = shared.clock().sleep(held.min_hold_left(shared.now()));
            let release = release_surely(shared.clone(), held.release_claim());
            shared.executor.spawn_debt(async move {
                minimum.await;
                release.await;
            });
            Err(unconfirmed(error))
        }
    }
}

async fn keep_for_the_minimum(held: &Held) -> Result<Vec<Kept>> {
    let shared = held.shared();
    let ttl = held.min_hold_left(shared.now()).max(shared.profile.ttl_min);
    shared.backend.keep(&[Claim { ttl, ..held.claim().clone() }]).await
}
