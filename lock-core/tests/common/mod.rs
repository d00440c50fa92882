//! A scripted store for the engine's own tests: one exclusive lock per key, and an answer to order.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Background;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::Hint;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LeaseKind;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::ManualClock;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Token;
use lock_core::Watch;
use lock_core::WatchFor;
use lock_core::async_trait;
use tokio::runtime::Handle;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Attempt,
    Keep,
    Release,
    Peek,
    Watch,
    Evict,
    Close,
}

/// What happens to the next call of a kind; without an order, the store does as it should.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// As it should.
    Obey,
    /// Nothing is done, and it never answers.
    Hang,
    /// It panics.
    Panic,
    /// Nothing is done, and it fails.
    Fail(Error),
    /// It is done, and the answer is lost.
    LoseReply,
    /// It is done, and the answer takes so long.
    Delay(Duration),
    /// It is done, and answered for no claim at all.
    AnswerNothing,
    /// A renewal is done with a shorter lease than was asked for.
    Grant(Duration),
}

/// The store.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) profile: Profile,
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: HashMap<LockKey, Row>,
    last_fence: u64,
    log: Vec<(Op, Option<Token>)>,
    orders: HashMap<Op, VecDeque<Order>>,
    always: HashMap<Op, Order>,
    hints: Vec<Hint>,
}

#[derive(Debug)]
struct Row {
    token: Token,
    fence: Fence,
    until: BootInstant,
}

impl Scripted {
    pub(crate) fn new(hand: &ManualClock) -> Self {
        Self::by(hand.clock())
    }

    /// A store that lives by `clock`.
    pub(crate) fn by(clock: Clock) -> Self {
        Self { profile: Profile::new("scripted"), clock, inner: Mutex::default() }
    }

    /// A store where locks do not end by themselves.
    pub(crate) fn session(hand: &ManualClock) -> Self {
        let mut store = Self::new(hand);
        store.profile.lease = LeaseKind::Session;
        store
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics inside")
    }

    /// Orders what the next call without an order does.
    pub(crate) fn order(&self, op: Op, order: Order) {
        self.inner().orders.entry(op).or_default().push_back(order);
    }

    /// Orders what every call does that has no order of its own; [`Order::Obey`] ends it.
    pub(crate) fn always(&self, op: Op, order: Order) {
        self.inner().always.insert(op, order);
    }

    /// How often `op` was called.
    pub(crate) fn calls(&self, op: Op) -> usize {
        self.inner().log.iter().filter(|(called, _)| *called == op).count()
    }

    /// All calls in order.
    pub(crate) fn log(&self) -> Vec<(Op, Option<Token>)> {
        self.inner().log.clone()
    }

    /// Whether somebody holds `key` now.
    pub(crate) fn is_held(&self, key: &str) -> bool {
        let now = self.clock.now();
        let key = LockKey::new(key).expect("a good key");
        self.inner().rows.get(&key).is_some_and(|row| row.until > now)
    }

    /// Lets somebody else take `key` for `ttl`.
    pub(crate) fn occupy(&self, key: &str, ttl: Duration) {
        let key = LockKey::new(key).expect("a good key");
        let (token, until) = (Token::random(), self.clock.now() + ttl);
        let row = Row { token, fence: Fence::new(1).expect("a good fence"), until };
        self.inner().rows.insert(key, row);
    }

    /// Lets the next one take `key` from whoever has it, for an hour.
    pub(crate) fn hand_on(&self, key: &str) {
        self.occupy(key, SECOND * 3600);
        let mut inner = self.inner();
        inner.last_fence += 2;
        let fence = Fence::new(inner.last_fence).expect("a good fence");
        let key = LockKey::new(key).expect("a good key");
        inner.rows.entry(key).and_modify(|row| row.fence = fence);
    }

    /// Frees `key` without telling anybody.
    pub(crate) fn vacate(&self, key: &str) {
        self.inner().rows.remove(&LockKey::new(key).expect("a good key"));
    }

    /// Breaks all subscriptions.
    pub(crate) fn break_watches(&self) {
        let hints = std::mem::take(&mut self.inner().hints);
        hints.iter().for_each(Hint::broken);
    }

    /// Gives all hints that were ever armed.
    pub(crate) fn hint(&self) {
        let hints = self.inner().hints.clone();
        hints.iter().for_each(Hint::give);
    }

    fn called(&self, op: Op, token: Option<Token>) -> Order {
        let mut inner = self.inner();
        inner.log.push((op, token));
        let ordered = inner.orders.get_mut(&op).and_then(VecDeque::pop_front);
        let always = inner.always.get(&op).cloned();
        ordered.or(always).unwrap_or(Order::Obey)
    }

    /// Does `step` as ordered and answers as ordered.
    async fn obey<T>(&self, order: Order, step: impl FnOnce() -> T + Send) -> Result<T>
    where
        T: Send,
    {
        match order {
            Order::Hang => pending().await,
            Order::Panic => panic!("as ordered"),
            Order::Fail(error) => return Err(error),
            _ => {}
        }
        let answer = step();
        match order {
            Order::LoseReply => Err(lost_reply()),
            Order::Delay(delay) => {
                self.clock.sleep(delay).await;
                Ok(answer)
            }
            _ => Ok(answer),
        }
    }

    fn attempt_now(&self, claim: &Claim, since: BootInstant) -> Attempt {
        let mut inner = self.inner();
        let lease = Lease { since, ttl: claim.ttl };
        let until = self.end(since + claim.ttl);
        let fence = Fence::new(inner.last_fence + 2).expect("a good fence");
        match inner.rows.get_mut(&claim.key) {
            Some(row) if row.until > since && row.token == claim.token => {
                row.until = until;
                Attempt::Acquired { fence: row.fence, lease }
            }
            Some(row) if row.until > since => Attempt::Held {
                holders: vec![Holder::new()],
                retry_in: Some(row.until.saturating_since(since)),
                ahead: None,
            },
            _ => {
                inner.last_fence = fence.get();
                let row = Row { token: claim.token, fence, until };
                inner.rows.insert(claim.key.clone(), row);
                Attempt::Acquired { fence, lease }
            }
        }
    }

    fn end(&self, until: BootInstant) -> BootInstant {
        if self.profile.lease == LeaseKind::Session { BootInstant::FAR } else { until }
    }

    fn keep_now(&self, claim: &Claim, since: BootInstant, ttl: Duration) -> Kept {
        let until = self.end(since + ttl);
        match self.inner().rows.get_mut(&claim.key) {
            Some(row) if row.until > since && row.token == claim.token => {
                row.until = until;
                Kept::Renewed { lease: Lease { since, ttl } }
            }
            _ => Kept::Gone,
        }
    }

    fn release_now(&self, claim: &Claim) -> Release {
        let mut inner = self.inner();
        match inner.rows.get(&claim.key) {
            Some(row) if row.token == claim.token => {
                let live = row.until > self.clock.now();
                inner.rows.remove(&claim.key);
                if live { Release::Released } else { Release::NotHeld }
            }
            _ => Release::NotHeld,
        }
    }
}

/// A failure that may pass and surely did nothing.
pub(crate) fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused")
}

fn lost_reply() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection broke").ambiguous()
}

#[async_trait]
impl Backend for Scripted {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let order = self.called(Op::Attempt, Some(claim.token));
        let since = self.clock.now();
        self.obey(order, || self.attempt_now(claim, since)).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let order = self.called(Op::Keep, claims.first().map(|claim| claim.token));
        let since = self.clock.now();
        let ttl = |claim: &Claim| if let Order::Grant(ttl) = &order { *ttl } else { claim.ttl };
        let keep = |claim| self.keep_now(claim, since, ttl(claim));
        let nothing = matches!(order, Order::AnswerNothing);
        let all = || claims.iter().map(keep).collect::<Vec<_>>();
        let kept = self.obey(order.clone(), all).await?;
        Ok(if nothing { Vec::new() } else { kept })
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let order = self.called(Op::Release, Some(claim.token));
        self.obey(order, || self.release_now(claim)).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let order = self.called(Op::Peek, None);
        let peek = |claim: &Claim| {
            let now = self.clock.now();
            match self.inner().rows.get(&claim.key).filter(|row| row.until > now) {
                Some(row) => Peek::Held {
                    retry_in: Some(row.until.saturating_since(now)),
                    fence: Some(row.fence),
                },
                None => Peek::Free,
            }
        };
        self.obey(order, || claims.iter().map(peek).collect()).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let holders = if self.is_held(key.as_str()) { vec![Holder::new()] } else { Vec::new() };
        Ok(KeyState::new(key.as_str(), holders, 0))
    }

    async fn list(&self, _prefix: &str, _cursor: Option<Cursor>, _limit: usize) -> Result<Page> {
        Ok(Page::default())
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let order = self.called(Op::Evict, None);
        let evict = || u64::from(self.inner().rows.remove(key).is_some());
        Ok(Evicted::new(self.obey(order, evict).await?, 0))
    }

    async fn purge(&self) -> Result<u64> {
        Ok(0)
    }

    async fn watch(&self, claim: &Claim, _reason: WatchFor, hint: Hint) -> Result<Watch> {
        let order = self.called(Op::Watch, Some(claim.token));
        let arm = || self.inner().hints.push(hint);
        self.obey(order, arm).await?;
        Ok(Watch::new(()))
    }

    async fn close(&self) -> Result<()> {
        let order = self.called(Op::Close, None);
        self.obey(order, || ()).await
    }
}

/// An engine over `store` in virtual time, on the test's own runtime.
pub(crate) fn engine(store: &Arc<Scripted>, hand: &ManualClock) -> Engine {
    let options =
        EngineOptions::new().clock(hand.clock()).background(Background::Runtime(Handle::current()));
    Engine::new(store.clone(), options).expect("good options")
}

/// A hand on virtual time, a store and an engine over it.
pub(crate) fn setup() -> (ManualClock, Arc<Scripted>, Engine) {
    setup_with(Scripted::new)
}

/// As [`setup`], over another store.
pub(crate) fn setup_with(
    make: impl FnOnce(&ManualClock) -> Scripted,
) -> (ManualClock, Arc<Scripted>, Engine) {
    let hand = Clock::manual();
    let store = Arc::new(make(&hand));
    let engine = engine(&store, &hand);
    (hand, store, engine)
}

/// A TTL of 10 s and no wait.
pub(crate) fn plain() -> LockOptions {
    LockOptions::new().ttl(SECOND * 10).wait(Duration::ZERO)
}

/// Lets all tasks come to rest while time stands still.
pub(crate) async fn rest(hand: &ManualClock) {
    hand.advance(Duration::ZERO).await;
}
