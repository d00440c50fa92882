//! The way from a client to its store: where calls are counted and faults strike.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use tokio::sync::Notify;

use crate::controls::Call;
use crate::controls::When;
use crate::store::Bell;
use crate::store::Now;
use crate::store::State;
use crate::store::Store;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering;

#[derive(Debug)]
pub(crate) struct Wire {
    store: Store,
    counts: [AtomicU64; Call::ALL.len()],
    /// Whether the slow way has to be taken: a rule is set, or the client is closed.
    hindered: AtomicBool,
    rules: Mutex<Rules>,
    muted: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Rules {
    once: VecDeque<Rule>,
    always: Vec<Rule>,
    closed: bool,
}

/// One fault and the calls that it strikes; all of them if `call` is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) call: Option<Call>,
    pub(crate) when: When,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Fail(Error),
    Hang(Arc<Gate>),
    Delay(Duration),
}

/// Where a call hangs.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) reached: Notify,
    pub(crate) open: Notify,
}

impl Wire {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            counts: Default::default(),
            hindered: AtomicBool::new(false),
            rules: Mutex::default(),
            muted: Arc::default(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.store.clock().now()
    }

    /// When a request leaves; `None` if nothing hinders it, for then it arrives the same instant.
    pub(crate) fn sent(&self) -> Option<BootInstant> {
        self.hindered.load(Ordering::Acquire).then(|| self.now())
    }

    /// Carries out one step of the store as `call`, unless a fault prevents it.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it hangs, it leaves the store before the step or after it (S7).
    pub(crate) async fn call<T>(
        &self,
        call: Call,
        step: impl FnOnce(&mut State, Now<'_>) -> T,
    ) -> Result<T> {
        self.send(call, |store| store.step(step)).await
    }

    /// As [`call`](Self::call), for a step that need not know the time.
    pub(crate) async fn call_timeless<T>(
        &self,
        call: Call,
        step: impl FnOnce(&mut State) -> T,
    ) -> Result<T> {
        self.send(call, |store| store.timeless(step)).await
    }

    async fn send<T>(&self, call: Call, step: impl FnOnce(&Store) -> T) -> Result<T> {
        self.counts[call as usize].fetch_add(1, Ordering::Relaxed);
        if !self.hindered.load(Ordering::Acquire) {
            return Ok(step(&self.store));
        }
        self.pass(call, When::Before).await?;
        let out = step(&self.store);
        self.pass(call, When::After).await?;
        Ok(out)
    }

    async fn pass(&self, call: Call, when: When) -> Result<()> {
        match self.strike(call, when)? {
            None => {}
            Some(Fault::Delay(delay)) => self.store.clock().sleep(delay).await,
            Some(Fault::Hang(gate)) => {
                gate.reached.notify_one();
                gate.open.notified().await;
            }
            // A failure after the effect is a lost reply: nobody can know what it did (S8).
            Some(Fault::Fail(error)) if when == When::After => return Err(error.ambiguous()),
            Some(Fault::Fail(error)) => return Err(error),
        }
        Ok(())
    }

    /// Takes the fault that strikes here, if any: one that strikes once goes first.
    fn strike(&self, call: Call, when: When) -> Result<Option<Fault>> {
        let mut rules = self.rules();
        if rules.closed && when == When::Before {
            return Err(Error::new(ErrorKind::Closed, "the client has been closed"));
        }
        let strikes = |rule: &Rule| rule.when == when && rule.call.is_none_or(|it| it == call);
        if let Some(at) = rules.once.iter().position(strikes) {
            return Ok(rules.once.remove(at).map(|rule| rule.fault));
        }
        Ok(rules.always.iter().find(|rule| strikes(rule)).map(|rule| rule.fault.clone()))
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Controls`](crate::Controls) sets.
impl Wire {
    pub(crate) fn strike_once(&self, rule: Rule) {
        self.rules().once.push_back(rule);
        self.hindered.store(true, Ordering::Release);
    }

    pub(crate) fn strike_always(&self, rule: Rule) {
        self.rules().always.push(rule);
        self.hindered.store(true, Ordering::Release);
    }

    pub(crate) fn close(&self) {
        self.rules().closed = true;
        self.hindered.store(true, Ordering::Release);
    }

    pub(crate) fn heal(&self) {
        let mut rules = self.rules();
        rules.once.clear();
        rules.always.clear();
        self.hindered.store(rules.closed, Ordering::Release);
        self.mute(false);
    }

    pub(crate) fn mute(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    pub(crate) fn bell(&self, hint: lock_core::Hint) -> Bell {
        Bell { hint, muted: self.muted.clone() }
    }

    pub(crate) fn count(&self, call: Call) -> u64 {
        self.counts[call as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn reset_counts(&self) {
        self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}
