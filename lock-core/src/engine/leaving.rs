//! How a hold ends: its last guard lets go, its minimum is over, its process lets it live on, or the
//! provider shuts down.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::held::Held;
use super::held::as_nanos;
use super::held::lost;
use super::release::release_now;
use super::release::shorten;
use super::term::Phase;
use crate::BootInstant;
use crate::Error;
use crate::ErrorKind;
use crate::Handle;
use crate::LeaseKind;
use crate::Loss;
use crate::Result;
use crate::sync::atomic::Ordering;

/// What a guard finds when it lets go.
enum Leaving {
    /// Other guards still hold.
    Shared,
    Lost(Loss),
    /// The last guard, which let go at that instant.
    Last(BootInstant),
    /// The last guard, but the lock has to stay taken for so long.
    Linger(Duration),
}

impl Held {
    /// Lets one guard go and tells what came of it.
    pub(crate) async fn unlock(self: &Arc<Self>) -> Result<()> {
        let backend = self.shared.profile.name;
        let fence = self.fence.get();
        let span = tracing::debug_span!("unlock", backend, key = self.key(), fence);
        self.unlock_in().instrument(span).await
    }

    async fn unlock_in(self: &Arc<Self>) -> Result<()> {
        let outcome = match self.leave() {
            Leaving::Shared => Ok(()),
            Leaving::Lost(loss) => Err(lost(loss)),
            Leaving::Last(now) => {
                self.shared.executor.see_through(release_now(self.clone(), now)).await
            }
            Leaving::Linger(left) => self.linger(left).await,
        };
        outcome.map_err(|error| self.stamp(error, "unlock"))
    }

    pub(crate) fn min_hold_left(&self, now: BootInstant) -> Duration {
        let min_hold = Duration::from_nanos(self.min_hold.load(Ordering::Acquire));
        (self.acquired_at + min_hold).saturating_since(now)
    }

    /// Lets the lock stay taken for `min_hold` from its acquisition, if that is longer than it would.
    pub(crate) fn lasts_at_least(&self, min_hold: Duration) {
        self.min_hold.fetch_max(as_nanos(min_hold), Ordering::AcqRel);
    }

    /// Lets one guard go without waiting for anything.
    pub(crate) fn release_in_background(self: &Arc<Self>) {
        match self.leave() {
            Leaving::Shared | Leaving::Lost(_) => {}
            Leaving::Last(_) => self.shared.release_later(self.release_claim()),
            Leaving::Linger(left) if self.keeps_to_the_end() => self.release_after(left),
            Leaving::Linger(_) => {
                self.shared.executor.spawn_debt(drop_result(shorten(self.clone())));
            }
        }
    }

    fn leave(&self) -> Leaving {
        let now = self.now();
        let last = self.guards.fetch_sub(1, Ordering::AcqRel) == 1;
        let left = self.min_hold_left(now);
        let linger = last && !left.is_zero();
        let mut state = match self.live(now) {
            Ok(state) => state,
            Err(loss) => return Leaving::Lost(loss),
        };
        if !last {
            return Leaving::Shared;
        }
        if linger && self.keeps_to_the_end() {
            state.term.outlive_its_guards();
            return Leaving::Linger(left);
        }
        state.term.finish(Phase::Released);
        drop(self.retire(state, now));
        if linger { Leaving::Linger(left) } else { Leaving::Last(now) }
    }

    /// Whether a minimum hold needs this process, because the lock ends with its session.
    fn keeps_to_the_end(&self) -> bool {
        self.shared.profile.lease == LeaseKind::Session
    }

    async fn linger(self: &Arc<Self>, left: Duration) -> Result<()> {
        if self.keeps_to_the_end() {
            self.release_after(left);
            return Ok(());
        }
        self.shared.executor.see_through(shorten(self.clone())).await
    }

    fn release_after(self: &Arc<Self>, left: Duration) {
        let held = self.clone();
        let sleep = self.shared.clock().sleep(left);
        self.shared.executor.spawn_debt(async move {
            tokio::select! {
                () = sleep => {}
                () = held.is_over() => return,
            }
            let mut state = held.state();
            if state.term.finish(Phase::Released) {
                drop(held.retire(state, held.now()));
                held.shared.release_later(held.release_claim());
            }
        });
    }

    /// Ends the hold because the provider shuts down.
    ///
    /// A minimum hold that nobody guards any more goes on, for the shutdown waits for it.
    pub(crate) fn close(self: &Arc<Self>) {
        let now = self.now();
        let minimum_left = !self.min_hold_left(now).is_zero();
        let unguarded = self.guards.load(Ordering::Acquire) == 0;
        if unguarded && minimum_left && self.keeps_to_the_end() {
            return;
        }
        let mut state = self.state();
        if !state.term.finish(Phase::Lost(Loss::Closed)) {
            return;
        }
        if minimum_left && !self.keeps_to_the_end() {
            drop(self.retire(state, now));
            self.shared.executor.spawn_debt(drop_result(shorten(self.clone())));
        } else {
            drop(state);
            self.lost(Loss::Closed);
        }
    }

    /// Lets the lock go on without this process.
    pub(crate) fn detach(&self) -> Result<Handle> {
        if self.keeps_to_the_end() {
            let message = format!(
                "locks of backend {} end with the session that took them, so they cannot be detached",
                self.shared.profile.name
            );
            return Err(self.stamp(Error::new(ErrorKind::Unsupported, message), "detach"));
        }
        self.leave_detached().map_err(|error| self.stamp(error, "detach"))?;
        Ok(self.handle())
    }

    fn leave_detached(&self) -> Result<()> {
        let now = self.now();
        let mut state = self.live(now).map_err(lost)?;
        // In one step, so that nobody enters a hold that is about to leave.
        if self.guards.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            let message = "the lock is shared with other guards of its owner: release them first";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        state.term.finish(Phase::Released);
        drop(self.retire(state, now));
        Ok(())
    }

    fn handle(&self) -> Handle {
        Handle {
            key: self.key().to_owned(),
            token: self.claim.token,
            mode: self.claim.mode,
            fence: self.fence,
            owner: self.claim.owner.clone(),
        }
    }
}

async fn drop_result(future: impl Future<Output = Result<()>>) {
    drop(future.await);
}
