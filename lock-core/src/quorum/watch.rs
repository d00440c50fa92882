//! Hints: armed at every member that can be reached, and given on when there is something to be had.
//!
//! A release at one member may be no more than a contender that takes its grants back. If that woke all who
//! wait, each would try, take its own grants back and wake the others, without end. So a hint is looked into
//! before it is given on: a look wakes nobody.
//!
//! Whoever holds does so at `need` members and is released there, so hints from all but `block - 1` of them
//! miss nobody. With fewer the hint is broken, and the engine looks and arms anew.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::group::Group;
use super::group::LOOK;
use super::node::Flight;
use super::round::Round;
use crate::Claim;
use crate::Hint;
use crate::Peek;
use crate::Result;
use crate::Watch;
use crate::WatchFor;
use crate::backend::Hinted;

impl Group {
    pub(crate) async fn watch(
        self: &Arc<Self>,
        claim: &Claim,
        reason: WatchFor,
        hint: Hint,
    ) -> Result<Watch> {
        let scout = (reason == WatchFor::Release).then(|| Scout {
            group: Arc::downgrade(self),
            claim: claim.clone(),
            state: AtomicU8::new(IDLE),
        });
        let (broken, block) = (AtomicUsize::new(0), self.block());
        let tower = Arc::new(Tower { hint, broken, block, scout });
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
    /// Looks before a hint is given on; a holder's is given on at once.
    scout: Option<Scout>,
}

/// Looks whether there is something to be had.
struct Scout {
    group: Weak<Group>,
    claim: Claim,
    state: AtomicU8,
}

/// Nobody looks.
const IDLE: u8 = 0;
/// Somebody looks.
const LOOKS: u8 = 1;
/// Somebody looks, and has to look again: what was released since may have come after the look.
const AGAIN: u8 = 2;

impl Tower {
    fn rang(self: &Arc<Self>) {
        let Some(scout) = &self.scout else { return self.hint.give() };
        let Some(group) = scout.group.upgrade() else { return };
        if scout.state.swap(AGAIN, Ordering::AcqRel) == IDLE {
            let tower = self.clone();
            group.spawn(async move { tower.look().await });
        }
    }

    async fn look(&self) {
        let Some(scout) = &self.scout else { return };
        loop {
            scout.state.store(LOOKS, Ordering::Release);
            let Some(group) = scout.group.upgrade() else { return };
            let peeks = group.peek(std::slice::from_ref(&scout.claim)).await;
            if matches!(peeks.as_deref(), Ok([Peek::Free])) {
                self.hint.give();
            }
            let (from, to) = (LOOKS, IDLE);
            if scout.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }

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
        self.tower.rang();
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
