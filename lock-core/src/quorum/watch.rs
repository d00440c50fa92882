//! Hints: armed at every member that can be reached, and given on when there is something to be had.
//!
//! A release at one member may be no more than a contender that takes its grants back. If that woke all who
//! wait, each would try, take its own grants back and wake the others, without end. So a hint is looked into
//! before it is given on: a look wakes nobody. Hints from `need` members while one looks are a holder's release,
//! and given on at once: whoever looked first would lose each race to those who have just come.
//!
//! Whoever holds does so at `need` members and is released there, so hints from all but `block - 1` of them
//! miss nobody. With fewer the hint is broken, and the engine looks and arms anew.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
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
            need: self.need(),
            sight: Mutex::new(Sight { state: State::Idle, rang: vec![false; self.size()] }),
        });
        let (broken, block) = (AtomicUsize::new(0), self.block());
        let tower = Arc::new(Tower { hint, broken, block, scout });
        let armed = Armed::default();
        let budget = self.budget(claim.ttl);
        let mut round = Round::new(self, LOOK, |at, node| {
            let watch = node.watch(claim, reason, Bell::hang(&tower, at));
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
    need: usize,
    sight: Mutex<Sight>,
}

/// What a scout does, and who rang meanwhile.
struct Sight {
    state: State,
    rang: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Looks,
    /// It has to look again: what was released since may have come after the look.
    LooksAgain,
}

impl Scout {
    fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sight {
    /// Notes that a member rang, and tells whether enough have.
    fn rings(&mut self, member: usize, need: usize) -> bool {
        self.rang[member] = true;
        let enough = self.rang.iter().filter(|rang| **rang).count() >= need;
        if enough {
            self.rang.fill(false);
        }
        enough
    }

    /// Ends a look, unless there has to be another.
    fn ends(&mut self) -> bool {
        let ends = self.state == State::Looks;
        self.state = if ends { State::Idle } else { State::Looks };
        if ends {
            self.rang.fill(false);
        }
        ends
    }
}

impl Tower {
    fn rang(self: &Arc<Self>, member: usize) {
        let Some(scout) = &self.scout else { return self.hint.give() };
        let Some(group) = scout.group.upgrade() else { return };
        let mut sight = scout.sight();
        let enough = sight.rings(member, scout.need);
        let was_idle = sight.state == State::Idle;
        sight.state = if was_idle { State::Looks } else { State::LooksAgain };
        drop(sight);
        if enough {
            self.hint.give();
        }
        if was_idle {
            let tower = self.clone();
            group.spawn(async move { tower.look().await });
        }
    }

    async fn look(&self) {
        let Some(scout) = &self.scout else { return };
        loop {
            let Some(group) = scout.group.upgrade() else { return };
            let peeks = group.peek(std::slice::from_ref(&scout.claim)).await;
            if matches!(peeks.as_deref(), Ok([Peek::Free])) {
                self.hint.give();
            }
            drop(group);
            if scout.sight().ends() {
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
    member: usize,
    broken: AtomicBool,
}

impl Bell {
    fn hang(tower: &Arc<Tower>, member: usize) -> Hint {
        let (tower, broken) = (tower.clone(), AtomicBool::new(false));
        Hint::to(Arc::new(Self { tower, member, broken }))
    }
}

impl Hinted for Bell {
    fn hint(&self) {
        self.tower.rang(self.member);
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
