//! Hints: armed at every member that can be reached, given on as soon as one comes.
//!
//! Whoever holds does so at `need` members and is released there, so hints from all but `block - 1` of them
//! miss nobody. With fewer the hint is broken, and the engine looks and arms anew.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::group::Group;
use super::group::LOOK;
use super::node::Flight;
use super::round::Round;
use crate::Claim;
use crate::Hint;
use crate::Result;
use crate::Watch;
use crate::WatchFor;
use crate::backend::Hinted;

impl Group {
    pub(crate) async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        let tower = Arc::new(Tower { hint, broken: AtomicUsize::new(0), block: self.block() });
        let armed = Armed::default();
        let budget = self.budget(claim.ttl);
        let mut round = Round::new(self, LOOK, |_, node| {
            let watch = node.watch(claim, reason, Bell::hang(&tower));
            Some(arm(watch, armed.0.clone(), tower.clone()))
        });
        let enough = |round: &Round<'_, ()>| {
            round.good().count() >= self.need() || round.failed() >= self.block()
        };
        round.until(budget, enough).await;
        if round.good().count() < self.need() {
            return Err(self.failure(&round, budget));
        }
        Ok(Watch::new(armed))
    }
}

/// Arms one, and keeps it also if nobody waits for it any more.
fn arm(watch: Flight<Watch>, kept: Arc<Mutex<Kept>>, tower: Arc<Tower>) -> Flight<()> {
    Box::pin(async move {
        match watch.await {
            Ok(watch) => {
                let mut kept = lock(&kept);
                if !kept.over {
                    kept.watches.push(watch);
                }
                Ok(())
            }
            Err(error) => {
                tower.one_broke();
                Err(error)
            }
        }
    })
}

/// The watches of all members; dropping it disarms them, and those that are still to come.
#[derive(Default)]
struct Armed(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    watches: Vec<Watch>,
    over: bool,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut kept = lock(&self.0);
        kept.over = true;
        let watches = std::mem::take(&mut kept.watches);
        // Disarmed outside the mutex: that may run code.
        drop(kept);
        drop(watches);
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the hints of all members arrive.
struct Tower {
    hint: Hint,
    broken: AtomicUsize,
    block: usize,
}

impl Tower {
    /// Counts a member that gives no hints any more.
    fn one_broke(&self) {
        if self.broken.fetch_add(1, Ordering::AcqRel) + 1 == self.block {
            self.hint.broken();
        }
    }
}

/// What one member rings.
struct Bell {
    tower: Arc<Tower>,
    broken: AtomicBool,
}

impl Bell {
    fn hang(tower: &Arc<Tower>) -> Hint {
        Hint::to(Arc::new(Self { tower: tower.clone(), broken: AtomicBool::new(false) }))
    }
}

impl Hinted for Bell {
    fn hint(&self) {
        self.tower.hint.give();
    }

    fn broken(&self) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            self.tower.one_broke();
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}
