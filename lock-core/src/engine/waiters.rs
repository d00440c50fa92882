//! Those who wait for a held lock, and the one poller that looks on behalf of all of them.
//!
//! Hints wake a waiter early; the poller is the guarantee behind them. Looks fall on a common grid, so
//! that waiters of the same provider share one request.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Shared;
use crate::BootInstant;
use crate::Claim;
use crate::Fence;
use crate::Hint;
use crate::LockKey;
use crate::Peek;
use crate::PollPlan;
use crate::Profile;
use crate::Wakeup;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering;

/// Everyone of this provider who waits for a store to free a lock.
#[derive(Debug)]
pub(crate) struct Waiters {
    by_key: Mutex<HashMap<LockKey, Vec<Arc<Waiter>>>>,
    count: AtomicUsize,
    polling: AtomicBool,
    arrived: Arc<Notify>,
}

/// One contender that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    claim: Claim,
    hinted: AtomicBool,
    wake: Notify,
    looks: Mutex<Looks>,
}

/// When the poller looks next for one waiter.
#[derive(Debug)]
struct Looks {
    /// When the wait began, or others were last seen to have got the key.
    began: BootInstant,
    pause: Option<Duration>,
    next: BootInstant,
    fence: Option<Fence>,
}

impl Waiter {
    /// A hint that wakes this waiter.
    pub(crate) fn hint(self: &Arc<Self>) -> Hint {
        Hint::new(Waker::from(self.clone()))
    }

    pub(crate) fn notify(&self) {
        self.hinted.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Completes when there is a reason to try again; a hint that came before counts.
    pub(crate) async fn hinted(&self) {
        while !self.hinted.swap(false, Ordering::AcqRel) {
            self.wake.notified().await;
        }
    }

    fn looked(&self, peek: Option<Peek>, profile: &Profile, now: BootInstant) {
        let (retry_in, fence) = match peek {
            Some(Peek::Held { retry_in, fence }) => (retry_in, fence),
            Some(Peek::Crowded { retry_in }) => (retry_in, None),
            Some(Peek::Free) | None => (None, None),
        };
        let mut looks = self.looks();
        // Told by hints, or in line, it loses nothing by looking seldom. Who only looks has to be as quick
        // as those who have just come, or it would lose each race to them.
        if looks.sees(fence) && profile.wakeup == Wakeup::Poll && !self.claim.queue {
            looks.began = now;
        }
        looks.plan(&profile.poll, now, retry_in);
        drop(looks);
        // At a crowded key an attempt takes a place in line.
        if matches!(peek, Some(Peek::Free | Peek::Crowded { .. })) {
            self.notify();
        }
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

impl Looks {
    /// Notes the last fence, and tells whether somebody got the key since the look before.
    fn sees(&mut self, fence: Option<Fence>) -> bool {
        let Some(fence) = fence else { return false };
        self.fence.replace(fence).is_some_and(|before| before < fence)
    }

    /// Plans the next look, not later than when the holder's lease may end.
    fn plan(&mut self, plan: &PollPlan, now: BootInstant, retry_in: Option<Duration>) {
        let pause = plan.pause(now.saturating_since(self.began), self.pause);
        self.pause = Some(pause);
        // On a grid of its own pause, so that all who have backed off look together.
        let regular = on_grid(now + SHORTEST, pause);
        let step = plan.first.min(FINE);
        let expiry = retry_in.map(|left| on_grid(now + left.max(SHORTEST), step));
        self.next = expiry.map_or(regular, |expiry| expiry.min(regular));
    }
}

/// Even a lease that should have ended is not asked for without a pause.
const SHORTEST: Duration = Duration::from_millis(1);

/// How late a look may come after a lease has ended.
const FINE: Duration = Duration::from_millis(20);

/// The first instant of the grid at or after `at`.
fn on_grid(at: BootInstant, step: Duration) -> BootInstant {
    let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
    BootInstant::from_nanos(at.as_nanos().div_ceil(step).saturating_mul(step))
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            by_key: Mutex::default(),
            count: AtomicUsize::new(0),
            polling: AtomicBool::new(false),
            arrived: Arc::new(Notify::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LockKey, Vec<Arc<Waiter>>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait for `key`.
    pub(crate) fn wake_key(&self, key: &LockKey) {
        self.wake(key, |_| true);
    }

    /// Wakes those whom a release of `key` in this process may let in. A store that pushes tells the
    /// waiters in its line whose turn it is: to ask for all of them would cost a request each.
    pub(crate) fn released(&self, key: &LockKey, wakeup: Wakeup) {
        self.wake(key, |waiter| wakeup == Wakeup::Poll || !waiter.claim.queue);
    }

    fn wake(&self, key: &LockKey, meant: impl Fn(&Waiter) -> bool) {
        if self.count.load(Ordering::Acquire) > 0 {
            // Woken outside the mutex: a waker may run its task at once.
            let waiters = self.lock().get(key).cloned().unwrap_or_default();
            waiters.iter().filter(|waiter| meant(waiter)).for_each(|waiter| waiter.notify());
        }
    }

    /// Wakes all, so that they notice that the provider is closing.
    pub(crate) fn wake_all(&self) {
        let waiters: Vec<_> = self.lock().values().flatten().cloned().collect();
        waiters.iter().for_each(|waiter| waiter.notify());
        self.arrived.notify_one();
    }

    /// The waiters that are due for a look at `now`, or when the next one is; but for those whose key is `busy`.
    fn due(
        &self,
        now: BootInstant,
        busy: impl Fn(&LockKey) -> bool,
    ) -> Result<Vec<Arc<Waiter>>, BootInstant> {
        let mut next = BootInstant::FAR;
        let mut due = Vec::new();
        let by_key = self.lock();
        for waiter in by_key.iter().filter(|(key, _)| !busy(key)).flat_map(|(_, waiters)| waiters) {
            let at = waiter.looks().next;
            if at <= now {
                due.push(waiter.clone());
            } else {
                next = next.min(at);
            }
        }
        if due.is_empty() { Err(next) } else { Ok(due) }
    }
}

/// A waiter while it is registered.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    waiter: Arc<Waiter>,
    polled: bool,
}

impl Waiting {
    /// Registers a waiter for `claim`; `polled` tells whether the poller looks for it.
    pub(crate) fn new(shared: &Arc<Shared>, claim: &Claim, polled: bool) -> Self {
        let began = shared.now();
        let looks = Looks { began, pause: None, next: BootInstant::FAR, fence: None };
        let waiter = Arc::new(Waiter {
            claim: claim.clone(),
            hinted: AtomicBool::new(false),
            wake: Notify::new(),
            looks: Mutex::new(looks),
        });
        let waiters = &shared.waiters;
        waiters.count.fetch_add(1, Ordering::AcqRel);
        waiters.lock().entry(claim.key.clone()).or_default().push(waiter.clone());
        Self { shared: shared.clone(), waiter, polled }
    }

    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// Plans the next look after an attempt found the key held.
    pub(crate) fn plan(&self, retry_in: Option<Duration>) {
        if !self.polled {
            return;
        }
        let plan = &self.shared.profile.poll;
        self.waiter.looks().plan(plan, self.shared.now(), retry_in);
        self.shared.waiters.arrived.notify_one();
        if !self.shared.waiters.polling.swap(true, Ordering::AcqRel) {
            self.shared.executor.spawn(poll(Arc::downgrade(&self.shared)));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut by_key = self.shared.waiters.lock();
        if let Some(waiters) = by_key.get_mut(&self.waiter.claim.key) {
            waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            if waiters.is_empty() {
                by_key.remove(&self.waiter.claim.key);
            }
        }
        drop(by_key);
        self.shared.waiters.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Looks for all waiters until the engine is gone, at one part of the store beside the other.
async fn poll(shared: Weak<Shared>) {
    let (mut looks, mut busy) = (FuturesUnordered::new(), HashSet::new());
    while let Some(strong) = shared.upgrade() {
        let (clock, arrived) = (strong.clock().clone(), strong.waiters.arrived.clone());
        let part = |key: &LockKey| strong.backend.part(key);
        let next = match strong.waiters.due(strong.now(), |key| busy.contains(&part(key))) {
            Ok(mut due) => {
                due.sort_by_cached_key(|waiter| part(&waiter.claim.key));
                for peers in due.chunk_by(|a, b| part(&a.claim.key) == part(&b.claim.key)) {
                    let part = part(&peers[0].claim.key);
                    busy.insert(part);
                    looks.push(look(strong.clone(), peers.to_vec()).map(move |()| part));
                }
                continue;
            }
            Err(next) => next,
        };
        drop(strong);
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = arrived.notified() => {}
            Some(part) = looks.next() => {
                busy.remove(&part);
            }
        }
    }
}

async fn look(shared: Arc<Shared>, due: Vec<Arc<Waiter>>) {
    for batch in due.chunks(shared.profile.batch) {
        let claims: Vec<Claim> = batch.iter().map(|waiter| waiter.claim.clone()).collect();
        let peeks = shared.limited("peek", shared.backend.peek(&claims)).await;
        let now = shared.now();
        // Where looking can never succeed, trying has to do, and tells the caller what is wrong.
        let hopeless = match &peeks {
            Ok(peeks) => peeks.len() != batch.len(),
            Err(error) => !error.is_retryable(),
        };
        for (index, waiter) in batch.iter().enumerate() {
            let peek = peeks.as_ref().ok().and_then(|peeks| peeks.get(index)).copied();
            let peek = if hopeless { Some(Peek::Free) } else { peek };
            waiter.looked(peek, &shared.profile, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_share_a_grid_and_never_come_early() {
        let step = Duration::from_millis(5);
        let at = BootInstant::from_nanos(12_000_001);
        assert_eq!(on_grid(at, step), BootInstant::from_nanos(15_000_000));
        assert_eq!(on_grid(on_grid(at, step), step), on_grid(at, step));
    }
}
