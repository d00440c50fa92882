//! A store on a clock moved by hand, two clients of it, and claims.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Wake;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Fence;
use lock_core::Hint;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::ManualClock;
use lock_core::Owner;
use lock_core::Watch;
use lock_core::WatchFor;
use lock_memory::Memory;
use lock_memory::Store;

pub(crate) const TTL: Duration = Duration::from_secs(10);

pub(crate) struct Rig {
    pub(crate) hand: ManualClock,
    pub(crate) a: Memory,
    pub(crate) b: Memory,
}

/// Two clients with a lease per lock.
pub(crate) fn leases() -> Rig {
    let hand = Clock::manual();
    let store = Store::new(hand.clock());
    Rig { a: Memory::new(&store), b: Memory::new(&store), hand }
}

/// Two clients with a session each, which ends after [`TTL`].
pub(crate) fn sessions() -> Rig {
    let hand = Clock::manual();
    let store = Store::new(hand.clock());
    let client = || Memory::with_session(&store, TTL);
    Rig { a: client(), b: client(), hand }
}

pub(crate) fn claim(key: &str, mode: &str) -> Claim {
    let mut claim = Claim::new(self::key(key), Owner::new("ann").unwrap(), TTL);
    claim.mode = mode.parse().unwrap();
    claim
}

pub(crate) fn exclusive() -> Claim {
    claim("k", "exclusive")
}

pub(crate) fn queued() -> Claim {
    let mut claim = exclusive();
    claim.queue = true;
    claim
}

pub(crate) fn key(name: &str) -> LockKey {
    LockKey::new(name).unwrap()
}

/// Returns what was granted, if it was.
pub(crate) async fn attempt(client: &Memory, claim: &Claim) -> Option<(Fence, Lease)> {
    match client.attempt(claim).await.unwrap() {
        Attempt::Acquired { fence, lease } => Some((fence, lease)),
        Attempt::Held { .. } => None,
    }
}

pub(crate) async fn grant(client: &Memory, claim: &Claim) -> (Fence, Lease) {
    attempt(client, claim).await.unwrap()
}

pub(crate) async fn locked(client: &Memory, name: &str) -> bool {
    client.inspect(&key(name)).await.unwrap().is_locked()
}

/// Counts the hints it gets.
#[derive(Default)]
pub(crate) struct Ear(AtomicU64);

impl Ear {
    pub(crate) async fn on(client: &Memory, claim: &Claim) -> (Arc<Self>, Watch) {
        let ear = Arc::new(Self::default());
        let watch = client.watch(claim, WatchFor::Release, Hint::new(ear.clone().into()));
        let watch = watch.await.unwrap();
        (ear, watch)
    }

    pub(crate) fn heard(&self) -> u64 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
