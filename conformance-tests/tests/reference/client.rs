//! The side of the model that sits in the user's process.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use conformance_tests::Tap;
use conformance_tests::async_trait;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
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
use lock_core::Token;
use lock_core::Watch;
use lock_core::WatchFor;
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::MutexGuard as AsyncMutexGuard;

use super::Flaw;

/// A client: notes when requests leave, and sends them over the wire.
pub(crate) struct Client {
    wire: Arc<Tap>,
    flaw: Option<Flaw>,
    failed: AtomicBool,
    connection: AsyncMutex<()>,
    watched: Mutex<HashSet<Token>>,
}

impl Client {
    pub(crate) fn new(wire: Arc<Tap>, flaw: Option<Flaw>) -> Self {
        let (failed, connection) = (AtomicBool::new(false), AsyncMutex::default());
        Self { wire, flaw, failed, connection, watched: Mutex::default() }
    }

    /// Waits for the connection, if there is only one.
    async fn connected(&self) -> Option<AsyncMutexGuard<'_, ()>> {
        if self.flaw == Some(Flaw::OneConnection) {
            Some(self.connection.lock().await)
        } else {
            None
        }
    }

    fn keep_later(&self, claims: &[Claim]) {
        let (wire, claims) = (self.wire.clone(), claims.to_vec());
        tokio::spawn(async move {
            Clock::system().sleep(Duration::from_millis(3)).await;
            wire.keep(&claims).await
        });
    }

    fn carried<T>(&self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| match self.flaw {
            Some(Flaw::ErrorsPermanent) => error.permanent(),
            Some(Flaw::ErrorsCertain) => Error::new(error.kind(), error.message()),
            _ => error,
        })
    }

    /// Returns from when a lease counts whose request left at `sent`.
    fn since(&self, sent: BootInstant) -> BootInstant {
        if self.flaw == Some(Flaw::LeaseFromReceipt) { Clock::system().now() } else { sent }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.flaw == Some(Flaw::ShowsSecret) { "hunter2" } else { "***" };
        write!(f, "Client(user:{secret}@model)")
    }
}

#[async_trait]
impl Backend for Client {
    fn profile(&self) -> &Profile {
        self.wire.profile()
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let sent = Clock::system().now();
        if self.flaw == Some(Flaw::AttemptOutlivesDrop) {
            let (wire, claim) = (self.wire.clone(), claim.clone());
            let going = tokio::spawn(async move {
                Clock::system().sleep(Duration::from_millis(40)).await;
                wire.attempt(&claim).await
            });
            return going.await.expect("the attempt does not panic");
        }
        let _connection = self.connected().await;
        let mut attempt = self.carried(self.wire.attempt(claim).await)?;
        if let Attempt::Acquired { lease, .. } = &mut attempt {
            let future = if self.flaw == Some(Flaw::AttemptSinceFuture) { 10 } else { 0 };
            lease.since = self.since(sent) + Duration::from_secs(future);
        }
        Ok(attempt)
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let sent = Clock::system().now();
        if self.flaw == Some(Flaw::KeepLingers) {
            self.keep_later(claims);
        }
        let connection = self.connected().await;
        let answer = self.wire.keep(claims).await;
        drop(connection);
        let failed = self.failed.swap(answer.is_err(), Ordering::SeqCst);
        if failed && self.flaw == Some(Flaw::KeepGivesUp) {
            return Ok(vec![Kept::Gone; claims.len()]);
        }
        let mut kept = self.carried(answer)?;
        let future = if self.flaw == Some(Flaw::KeepSinceFuture) { 10 } else { 0 };
        for kept in &mut kept {
            if let Kept::Renewed { lease } = kept {
                lease.since = self.since(sent) + Duration::from_secs(future);
            }
        }
        Ok(kept)
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let answer = self.carried(self.wire.release(claim).await);
        let hidden = self.flaw == Some(Flaw::ReleaseErrorsHidden);
        if hidden { answer.or(Ok(Release::Released)) } else { answer }
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        self.wire.peek(claims).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        self.wire.inspect(key).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.wire.list(prefix, cursor, limit).await
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        self.wire.evict(key, how).await
    }

    async fn purge(&self) -> Result<u64> {
        self.wire.purge().await
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        let watched = || self.watched.lock().expect("nothing panics here").insert(claim.token);
        let again = reason == WatchFor::Release && !watched();
        if again && self.flaw == Some(Flaw::BrokenForGood) {
            return Ok(Watch::none());
        }
        self.wire.watch(claim, reason, hint).await
    }

    async fn close(&self) -> Result<()> {
        self.wire.close().await
    }
}
