//! Members in memory, and a quorum over them.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Background;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::ManualClock;
use lock_core::Member;
use lock_core::Owner;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_memory::Controls;
use lock_memory::Memory;
use lock_memory::Store;
use tokio::runtime::Handle;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The TTL of the claims: a vote has to leave two seconds of it.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// How long a round waits for a member by default.
pub(crate) const BUDGET: Duration = ms(100);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) struct Rig {
    pub(crate) hand: ManualClock,
    pub(crate) stores: Vec<Store>,
    /// The clients of the quorum.
    pub(crate) members: Vec<Memory>,
    pub(crate) quorum: Quorum,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::of(3)
    }

    pub(crate) fn of(size: usize) -> Self {
        Self::with(size, |options| options)
    }

    pub(crate) fn with(size: usize, set: impl FnOnce(QuorumOptions) -> QuorumOptions) -> Self {
        let hand = Clock::manual();
        let stores: Vec<_> = (0..size).map(|_| Store::new(hand.clock())).collect();
        let members: Vec<_> = stores.iter().map(Memory::new).collect();
        let quorum = Quorum::new(named(&members), set(options(&hand))).unwrap();
        Self { hand, stores, members, quorum }
    }

    /// Another client of the same members.
    pub(crate) fn other(&self) -> Quorum {
        let members: Vec<_> = self.stores.iter().map(Memory::new).collect();
        Quorum::new(named(&members), options(&self.hand)).unwrap()
    }

    pub(crate) fn controls(&self, member: usize) -> Controls {
        self.members[member].controls()
    }

    /// Fails one member from now on, unseen by its store.
    pub(crate) fn fail(&self, member: usize) {
        self.controls(member).fail_all(refused());
    }

    pub(crate) fn heal(&self, member: usize) {
        self.controls(member).heal();
    }

    /// The holders of the key at each member, seen by a client that nothing disturbs.
    pub(crate) async fn at_members(&self) -> Vec<Vec<Holder>> {
        let mut all = Vec::new();
        for store in &self.stores {
            let state = Memory::new(store).inspect(&key()).await.unwrap();
            all.push(state.holders);
        }
        all
    }

    /// At which members the key is held.
    pub(crate) async fn held_at(&self) -> Vec<usize> {
        let all = self.at_members().await;
        (0..all.len()).filter(|at| !all[*at].is_empty()).collect()
    }

    /// Lets all that is under way come to rest while time stands still.
    pub(crate) async fn rest(&self) {
        self.hand.advance(Duration::ZERO).await;
    }

    /// Acquires, and fails if it is held.
    pub(crate) async fn acquire(&self, claim: &Claim) -> (Fence, Lease) {
        granted(self.quorum.attempt(claim).await.unwrap())
    }

    /// Takes the key at one member on behalf of somebody who has no majority.
    pub(crate) async fn occupy(&self, member: usize, owner: &str, ttl: Duration) -> Claim {
        let claim = Claim::new(key(), Owner::new(owner).unwrap(), ttl);
        granted(Memory::new(&self.stores[member]).attempt(&claim).await.unwrap());
        claim
    }

    /// Runs `call` while time moves on by `by`.
    pub(crate) async fn during<T>(&self, by: Duration, call: impl Future<Output = T>) -> T {
        tokio::join!(call, self.hand.advance(by)).0
    }
}

fn options(hand: &ManualClock) -> QuorumOptions {
    let background = Background::Runtime(Handle::current());
    QuorumOptions::new().clock(hand.clock()).background(background)
}

fn named(members: &[Memory]) -> Vec<Member> {
    let member = |(at, memory): (usize, &Memory)| {
        Member::new(format!("m{}", at + 1), Arc::new(memory.clone()))
    };
    members.iter().enumerate().map(member).collect()
}

pub(crate) fn key() -> LockKey {
    LockKey::new("job").unwrap()
}

pub(crate) fn claim() -> Claim {
    Claim::new(key(), Owner::new("ann").unwrap(), TTL)
}

/// A failure that may pass and surely did nothing.
pub(crate) fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused")
}

pub(crate) fn granted(attempt: Attempt) -> (Fence, Lease) {
    match attempt {
        Attempt::Acquired { fence, lease } => (fence, lease),
        held @ Attempt::Held { .. } => panic!("{held:?}"),
    }
}
