//! Counts what is asked of a store: at the waist for ours, by hand for bare statements.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use lock::Attempt;
use lock::Backend;
use lock::Claim;
use lock::Cursor;
use lock::Evicted;
use lock::Eviction;
use lock::Hint;
use lock::Kept;
use lock::KeyState;
use lock::LockKey;
use lock::Page;
use lock::Peek;
use lock::Profile;
use lock::Release;
use lock::Result;
use lock::SharedBackend;
use lock::Watch;
use lock::WatchFor;
use lock::async_trait;

use crate::order::Requests;

/// Counters of one client.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    all: AtomicU64,
    watches: AtomicU64,
    keeps: AtomicU64,
    kept: AtomicU64,
}

impl Counts {
    pub(crate) fn request(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one batch of renewals.
    pub(crate) fn keep(&self, locks: usize) {
        self.request();
        self.keeps.fetch_add(1, Ordering::Relaxed);
        self.kept.fetch_add(locks as u64, Ordering::Relaxed);
    }

    fn watch(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> Requests {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            all: read(&self.all),
            watches: read(&self.watches),
            keeps: read(&self.keeps),
            kept: read(&self.kept),
        }
    }
}

/// A backend that counts its calls and passes them on.
#[derive(Debug)]
pub(crate) struct Counting {
    inner: SharedBackend,
    counts: Arc<Counts>,
}

impl Counting {
    pub(crate) fn new(inner: SharedBackend, counts: Arc<Counts>) -> Self {
        Self { inner, counts }
    }
}

#[async_trait]
impl Backend for Counting {
    fn profile(&self) -> &Profile {
        self.inner.profile()
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        self.counts.request();
        self.inner.attempt(claim).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        self.counts.keep(claims.len());
        self.inner.keep(claims).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        self.counts.request();
        self.inner.release(claim).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        self.counts.request();
        self.inner.peek(claims).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        self.counts.request();
        self.inner.inspect(key).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.counts.request();
        self.inner.list(prefix, cursor, limit).await
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        self.counts.request();
        self.inner.evict(key, how).await
    }

    async fn purge(&self) -> Result<u64> {
        self.counts.request();
        self.inner.purge().await
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        self.counts.watch();
        self.inner.watch(claim, reason, hint).await
    }

    fn part(&self, key: &LockKey) -> u64 {
        self.inner.part(key)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
