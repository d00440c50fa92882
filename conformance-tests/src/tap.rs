//! A backend around a backend that counts its calls and disturbs them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_core::Watch;
use lock_core::WatchFor;
use tokio::sync::watch;

use crate::Link;
use crate::Weather;

/// Counts the calls to a backend and disturbs them like a bad line: the [`Link`] of a store that has
/// no wire.
///
/// A call that is dropped before it reached the store never will (S7), as on a connection that is
/// closed then.
#[derive(Debug)]
pub struct Tap {
    inner: SharedBackend,
    weather: watch::Sender<Weather>,
    deaf: AtomicBool,
    armed: Mutex<Vec<Armed>>,
    calls: Mutex<Vec<Call>>,
    busy: AtomicU64,
}

/// A hint that is armed, and what keeps it so.
type Armed = (Hint, Weak<Mutex<Option<Watch>>>);

/// One call that went through a [`Tap`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The name of the backend's method.
    pub method: &'static str,
    /// How many claims or keys it carried.
    pub items: usize,
}

impl Tap {
    /// Wraps `inner`.
    pub fn new(inner: SharedBackend) -> Self {
        let (weather, deaf) = (watch::Sender::new(Weather::Fair), AtomicBool::new(false));
        let (armed, calls) = (Mutex::default(), Mutex::default());
        Self { inner, weather, deaf, armed, calls, busy: AtomicU64::new(0) }
    }

    /// Drops all hints from now on, as a store whose push messages are lost.
    pub fn drop_hints(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Ends all subscriptions to hints that are armed now, as a store does that has forgotten what
    /// happened since, or a connection that breaks.
    pub fn break_hints(&self) {
        let armed = std::mem::take(&mut *self.armed.lock().unwrap_or_else(PoisonError::into_inner));
        for (hint, watch) in armed {
            if let Some(watch) = watch.upgrade() {
                drop(watch.lock().unwrap_or_else(PoisonError::into_inner).take());
                hint.broken();
            }
        }
    }

    /// Returns the calls so far and forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns how many calls are under way.
    pub fn calls_under_way(&self) -> u64 {
        self.busy.load(Ordering::SeqCst)
    }

    async fn carry<T>(
        &self,
        method: &'static str,
        items: usize,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call { method, items });
        self.busy.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(&self.busy);
        self.travel(|there, _| there).await?;
        let answer = call.await;
        self.travel(|_, back| back).await?;
        match *self.weather.borrow() {
            Weather::LosesReplies => Err(broken().ambiguous()),
            _ => answer,
        }
    }

    /// One way through the present weather.
    async fn travel(&self, way: fn(Duration, Duration) -> Duration) -> Result<()> {
        let weather = *self.weather.borrow();
        match weather {
            Weather::Slow { there, back } => Clock::system().sleep(way(there, back)).await,
            Weather::Hangs => self.better().await,
            _ => {}
        }
        match *self.weather.borrow() {
            Weather::Down => Err(broken().ambiguous()),
            _ => Ok(()),
        }
    }

    async fn better(&self) {
        let mut seen = self.weather.subscribe();
        // The sender lives in self, so this cannot fail.
        let _ = seen.wait_for(|weather| *weather != Weather::Hangs).await;
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection broke")
}

struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Link for Tap {
    fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

#[async_trait]
impl Backend for Tap {
    fn profile(&self) -> &Profile {
        self.inner.profile()
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        self.carry("attempt", 1, self.inner.attempt(claim)).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        self.carry("keep", claims.len(), self.inner.keep(claims)).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        self.carry("release", 1, self.inner.release(claim)).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        self.carry("peek", claims.len(), self.inner.peek(claims)).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        self.carry("inspect", 1, self.inner.inspect(key)).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.carry("list", limit, self.inner.list(prefix, cursor, limit)).await
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        self.carry("evict", 1, self.inner.evict(key, how)).await
    }

    async fn purge(&self) -> Result<u64> {
        self.carry("purge", 1, self.inner.purge()).await
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        if self.deaf.load(Ordering::SeqCst) {
            return Ok(Watch::none());
        }
        let watch = self.inner.watch(claim, reason, hint.clone());
        let watch = Arc::new(Mutex::new(Some(self.carry("watch", 1, watch).await?)));
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.retain(|(_, watch)| watch.strong_count() > 0);
        armed.push((hint, Arc::downgrade(&watch)));
        Ok(Watch::new(watch))
    }

    fn part(&self, key: &LockKey) -> u64 {
        self.inner.part(key)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn remembers_since(&self) -> Option<BootInstant> {
        self.inner.remembers_since()
    }
}

impl From<Tap> for SharedBackend {
    fn from(tap: Tap) -> Self {
        Arc::new(tap)
    }
}
