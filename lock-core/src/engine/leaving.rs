//! How a hold ends: its last guard lets go, its minimum is over, its process lets it live on, or the
//! provider shuts down.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::held::Held;
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
    Last,
    /// The last guard, but the lock has to stay taken for so long.
    Linger(Duration),
}

impl Held {
    /// Lets one guard go and tells what came of it.
    #[tracing::instrument(
        level = "debug",
        skip_all,
        fields(backend = self.shared.profile.name, key = self.key(), fence = self.fence.get())
    )]
    pub(crate) async fn unlock(self: &Arc<Self>) -> Result<()> {
        let outcome = match self.leave() {
            Leaving::Shared => Ok(()),
            Leaving::Lost(loss) => Err(lost(loss)),
            Leaving::Last => Call::new(&self.shared, release_now(self.clone())).await,
            Leaving::Linger(left) => self.linger(left).await,
        };
        outcome.map_err(|error| self.stamp(error, "unlock"))
    }

    pub(crate) fn min_hold_left(&self, now: BootInstant) -> Duration {
        (self.acquired_at + self.min_hold).saturating_since(now)
    }

    /// Lets one guard go without waiting for anything.
    pub(crate) fn release_in_background(self: &Arc<Self>) {
        match self.leave() {
            Leaving::Shared | Leaving::Lost(_) => {}
            Leaving::Last => self.shared.release_later(self.release_claim()),
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
        drop(state);
        drop(self.retire());
        if linger { Leaving::Linger(left) } else { Leaving::Last }
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
        Call::new(&self.shared, shorten(self.clone())).await
    }

    fn release_after(self: &Arc<Self>, left: Duration) {
        let held = self.clone();
        let sleep = self.shared.clock().sleep(left);
        self.shared.executor.spawn_debt(async move {
            tokio::select! {
                () = sleep => {}
                () = held.is_over() => return,
            }
            if held.state().term.finish(Phase::Released) {
                drop(held.retire());
                held.shared.release_later(held.release_claim());
            }
        });
    }

    /// Ends the hold because the provider shuts down.
    ///
    /// A minimum hold that nobody guards any more goes on, for the shutdown waits for it.
    pub(crate) fn close(self: &Arc<Self>) {
        let minimum_left = !self.min_hold_left(self.now()).is_zero();
        let unguarded = self.guards.load(Ordering::Acquire) == 0;
        if unguarded && minimum_left && self.keeps_to_the_end() {
            return;
        }
        if !self.state().term.finish(Phase::Lost(Loss::Closed)) {
            return;
        }
        if minimum_left && !self.keeps_to_the_end() {
            drop(self.retire());
            self.shared.executor.spawn_debt(drop_result(shorten(self.clone())));
        } else {
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
        let mut state = self.live(self.now()).map_err(lost)?;
        // In one step, so that nobody enters a hold that is about to leave.
        if self.guards.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            let message = "the lock is shared with other guards of its owner: release them first";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        state.term.finish(Phase::Released);
        drop(state);
        drop(self.retire());
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
