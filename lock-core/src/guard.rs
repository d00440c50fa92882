//! What a holder has in hand: the guard that releases, and the view of the hold that others may share.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::BootInstant;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Handle;
use crate::Mode;
use crate::Owner;
use crate::Result;
use crate::engine::Held;
use crate::engine::Phase;

/// Why a hold ended before it was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The deadline came before a renewal was confirmed, or the maximum hold was over.
    Expired,
    /// The store no longer knew the lock: it was forced open, forgotten, or expired there.
    Evicted,
    /// The provider was shut down.
    Closed,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "no renewal was confirmed before its deadline",
            Self::Evicted => "the store no longer had it",
            Self::Closed => "the provider was shut down",
        })
    }
}

/// A lock that is held while this lives.
///
/// It dereferences to [`Hold`], which tells the fence and how long it is valid.
///
/// # Drop
///
/// Dropping it releases the lock in the background: not at once, without blocking, without a runtime,
/// and silently if that fails (the lock then ends by its TTL). Use [`unlock`](Self::unlock) to know.
/// A process that ends right after a drop may end before the release is sent: call
/// [`shutdown`](crate::LockProvider::shutdown) first.
#[must_use = "dropping the guard releases the lock"]
pub struct LockGuard {
    hold: Hold,
    armed: bool,
}

impl LockGuard {
    /// Wraps a hold that has already counted this guard.
    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self { hold: Hold(held), armed: true }
    }

    /// Returns a view of the hold that can be shared with those who only need to know.
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Renews the lock now and runs it with `ttl` from here on.
    ///
    /// A shorter TTL is believed at once, a longer one when the store has confirmed it.
    ///
    /// # Errors
    ///
    /// `Lost` if it is lost, `InvalidInput` for a TTL that cannot be, `Unavailable` if the store did not
    /// confirm; the hold then lasts as long as it did.
    ///
    /// # Cancel safety
    ///
    /// The renewal may or may not happen; the guard never believes in more than was confirmed.
    pub async fn extend(&self, ttl: Duration) -> Result<()> {
        self.hold.0.extend(ttl).await
    }

    /// Releases the lock and tells what came of it.
    ///
    /// With re-entry only the last guard releases; the others return at once.
    ///
    /// # Errors
    ///
    /// `Ok` means released. `Lost` means that it was lost before: what was done under it may have
    /// overlapped with another holder. An error that [`is_ambiguous`](Error::is_ambiguous) means that
    /// the store did not confirm; the release goes on in the background, and the TTL ends it at the
    /// latest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, even before it is polled, still releases in the background.
    pub async fn unlock(mut self) -> Result<()> {
        self.armed = false;
        self.hold.0.unlock().await
    }

    /// Lets the lock live on without this process: nobody renews it, and it ends at its TTL unless the
    /// handle is used to renew or release it.
    ///
    /// # Errors
    ///
    /// `Unsupported` on stores where locks end with the session, `Lost` if it is lost, `InvalidInput`
    /// if other guards of the same owner share it. The guard is dropped then.
    pub fn into_handle(mut self) -> Result<Handle> {
        let handle = self.hold.0.detach()?;
        self.armed = false;
        Ok(handle)
    }
}

impl Deref for LockGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.armed {
            self.hold.0.release_in_background();
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(f, "LockGuard")
    }
}

/// One acquisition as its holder sees it. Cloning it does not keep the lock.
#[derive(Clone)]
pub struct Hold(pub(crate) Arc<Held>);

impl Hold {
    /// Returns the key, as the caller wrote it.
    pub fn key(&self) -> &str {
        self.0.key()
    }

    /// Returns who holds it.
    pub fn owner(&self) -> &Owner {
        &self.0.claim().owner
    }

    /// Returns how it excludes others.
    pub fn mode(&self) -> Mode {
        self.0.claim().mode
    }

    /// Returns the number to send with every write to the protected resource.
    pub fn fence(&self) -> Fence {
        self.0.fence()
    }

    /// Returns the TTL that the store granted last, which may differ from the one asked for.
    pub fn ttl(&self) -> Duration {
        self.0.term().granted()
    }

    /// Tells whether the lock can be relied on now (G1). False from the deadline on, also when the
    /// runtime was blocked or the machine slept.
    pub fn is_valid(&self) -> bool {
        !self.valid_for().is_zero()
    }

    /// Returns for how long it can be relied on if nothing more is heard from the store; zero once it
    /// is lost or released.
    pub fn valid_for(&self) -> Duration {
        self.valid_until().saturating_since(self.0.now())
    }

    /// Returns the deadline by the boot clock; boot itself once it is lost or released.
    pub fn valid_until(&self) -> BootInstant {
        self.0.term().valid_until()
    }

    /// Returns when [`at_risk`](Self::at_risk) will fire unless the lock is renewed before.
    pub fn at_risk_at(&self) -> BootInstant {
        self.0.term().at_risk_at()
    }

    /// Returns an error if the lock cannot be relied on; for a `?` before each irrevocable step.
    ///
    /// # Errors
    ///
    /// `Lost`, saying why.
    pub fn check(&self) -> Result<()> {
        if self.is_valid() {
            return Ok(());
        }
        let loss = match self.0.term().phase() {
            Phase::Lost(loss) => loss,
            _ => Loss::Expired,
        };
        Err(self.lost_error(loss))
    }

    /// Completes when the deadline is near and no renewal has been confirmed: time to stop cleanly.
    /// Completes at once if it is at risk or over already.
    ///
    /// # Cancel safety
    ///
    /// Waits only; dropping it changes nothing.
    pub async fn at_risk(&self) {
        self.0.until(|term| (term.phase() != Phase::Held).then_some(())).await;
    }

    /// Completes when the lock is lost, at its deadline at the latest (G4). Never completes once the
    /// lock has been released.
    ///
    /// # Cancel safety
    ///
    /// Waits only; dropping it changes nothing.
    pub async fn lost(&self) -> Loss {
        let lost = |phase| if let Phase::Lost(loss) = phase { Some(loss) } else { None };
        self.0.until(|term| lost(term.phase())).await
    }

    /// Waits until the deadline is no longer `known` and returns the new one, or `None` once the lock
    /// is lost or released.
    ///
    /// # Cancel safety
    ///
    /// Waits only; dropping it changes nothing.
    pub async fn renewed(&self, known: BootInstant) -> Option<BootInstant> {
        let over = BootInstant::from_nanos(0);
        let moved = |until| (until != known || until == over).then_some(until);
        let until = self.0.until(|term| moved(term.valid_until())).await;
        (until != over).then_some(until)
    }

    pub(crate) fn lost_error(&self, loss: Loss) -> Error {
        let error = Error::new(ErrorKind::Lost, format!("the lock was lost: {loss}"));
        self.0.stamp(error, "hold")
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("key", &self.key())
            .field("owner", &self.owner().as_str())
            .field("mode", &self.mode())
            .field("fence", &self.fence().get())
            .field("valid_for", &self.valid_for())
            .finish()
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "Hold")
    }
}
