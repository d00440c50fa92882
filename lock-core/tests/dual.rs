//! A lock over two stores in memory, in virtual time: exclusion, fences and failures on the way from one
//! store to another.

#![expect(clippy::unwrap_used, reason = "a rig that fails has to end its test")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Background;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Dual;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::FenceKind;
use lock_core::Kept;
use lock_core::LeaseKind;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::ManualClock;
use lock_core::Member;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::QuorumOptions;
use lock_core::Release;
use lock_core::SharedBackend;
use lock_memory::Call;
use lock_memory::Memory;
use lock_memory::Store;
use lock_memory::When;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

mod common;

use common::Op;
use common::Order;
use common::SECOND;
use common::Scripted;
use common::ms;

const TTL: Duration = Duration::from_secs(10);

struct Rig {
    hand: ManualClock,
    old: Store,
    new: Store,
}

impl Rig {
    fn new() -> Self {
        let hand = Clock::manual();
        let (old, new) = (Store::new(hand.clock()), Store::new(hand.clock()));
        Self { hand, old, new }
    }

    /// A replica that names the old store first, and one that names it last.
    fn dual(&self) -> Dual {
        self.of(&Memory::new(&self.old), &Memory::new(&self.new))
    }

    fn laud(&self) -> Dual {
        let [new, old] = [("new", &self.new), ("old", &self.old)].map(member);
        Dual::with_options(new, old, self.options()).unwrap()
    }

    fn of(&self, old: &Memory, new: &Memory) -> Dual {
        let old = Member::new("old", Arc::new(old.clone()));
        Dual::with_options(old, Member::new("new", Arc::new(new.clone())), self.options()).unwrap()
    }

    fn options(&self) -> QuorumOptions {
        let background = Background::Runtime(Handle::current());
        QuorumOptions::new().clock(self.hand.clock()).background(background)
    }

    async fn held(&self) -> (bool, bool) {
        let held = async |store| Memory::new(store).inspect(&key()).await.unwrap().is_locked();
        (held(&self.old).await, held(&self.new).await)
    }

    async fn rest(&self) {
        self.hand.advance(Duration::ZERO).await;
    }

    async fn during<T>(&self, by: Duration, call: impl Future<Output = T>) -> T {
        tokio::join!(call, self.hand.advance(by)).0
    }
}

fn member((name, store): (&str, &Store)) -> Member {
    Member::new(name, Arc::new(Memory::new(store)))
}

fn key() -> LockKey {
    LockKey::new("job").unwrap()
}

fn claim() -> Claim {
    Claim::new(key(), Owner::new("ann").unwrap(), TTL)
}

async fn acquire(backend: &dyn Backend, claim: &Claim) -> Fence {
    match backend.attempt(claim).await.unwrap() {
        Attempt::Acquired { fence, .. } => fence,
        held => panic!("{held:?}"),
    }
}

async fn refused(backend: &dyn Backend) -> bool {
    matches!(backend.attempt(&claim()).await.unwrap(), Attempt::Held { .. })
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused")
}

#[tokio::test]
async fn excludes_the_old_alone_the_new_alone_and_duals_in_either_order() {
    let rig = Rig::new();
    let (old, new) = (Memory::new(&rig.old), Memory::new(&rig.new));
    let (dual, laud) = (rig.dual(), rig.laud());
    for (holder, others) in [
        (&dual as &dyn Backend, vec![&old as &dyn Backend, &new, &laud]),
        (&laud, vec![&old, &new, &dual]),
        (&old, vec![&dual, &laud]),
        (&new, vec![&dual, &laud]),
    ] {
        let held = claim();
        acquire(holder, &held).await;
        for other in others {
            assert!(rig.during(SECOND, refused(other)).await, "{holder:?} and {other:?}");
        }
        assert!(matches!(
            holder.keep(std::slice::from_ref(&held)).await.unwrap()[..],
            [Kept::Renewed { .. }]
        ));
        assert_eq!(holder.release(&held).await.unwrap(), Release::Released);
        rig.rest().await;
        assert_eq!(rig.held().await, (false, false));
    }
}

/// The clock stands still, so that only written fences lift those that follow.
#[tokio::test]
async fn fences_rise_over_the_whole_move() {
    let rig = Rig::new();
    let (old, new) = (Memory::new(&rig.old), Memory::new(&rig.new));
    let (dual, laud) = (rig.dual(), rig.laud());
    let way: [&dyn Backend; 14] = [
        &old, &old, &old, &dual, &old, &laud, &dual, // the first deploy
        &dual, &laud, &new, &new, &dual, &new, &new, // the second
    ];
    let mut last = None;
    for (step, backend) in way.into_iter().enumerate() {
        let claim = claim();
        let fence = acquire(backend, &claim).await;
        assert!(last < Some(fence), "step {step}: {fence} after {last:?}");
        last = Some(fence);
        backend.release(&claim).await.unwrap();
    }
}

#[tokio::test]
async fn opposite_orders_neither_deadlock_nor_livelock() {
    const SECONDS: u32 = 10;
    let rig = Rig::new();
    let until = rig.hand.clock().now() + SECOND * SECONDS;
    let replica = |number: u64| {
        let (old, new) = (Memory::new(&rig.old), Memory::new(&rig.new));
        // Half of them are nearer to the one store, half to the other.
        let (slow, fast) = if number.is_multiple_of(2) { (&old, &new) } else { (&new, &old) };
        for call in [Call::Attempt, Call::Release] {
            slow.controls().delay(call, When::Before, ms(3));
            fast.controls().delay(call, When::Before, ms(1));
        }
        let dual: SharedBackend = if number.is_multiple_of(2) {
            Arc::new(rig.of(&old, &new))
        } else {
            Arc::new(rig.of(&new, &old))
        };
        let background = Background::Runtime(Handle::current());
        let options = EngineOptions::new().clock(rig.hand.clock()).background(background);
        (Engine::new(dual, options).unwrap(), rig.hand.clock())
    };
    let loops: Vec<_> = (0..6)
        .map(replica)
        .map(|(engine, clock)| {
            tokio::spawn(async move {
                let mut grants = 0_u32;
                while clock.now() < until {
                    let guard = engine.lock("job", &LockOptions::new()).await.unwrap();
                    clock.sleep(ms(1)).await;
                    guard.unlock().await.unwrap();
                    grants += 1;
                }
                grants
            })
        })
        .collect();
    rig.hand.advance(SECOND * (SECONDS + 20)).await;
    assert!(loops.iter().all(JoinHandle::is_finished), "one waits for ever");
    let grants: Vec<u32> = join_all(loops).await.into_iter().map(Result::unwrap).collect();
    let rate = f64::from(grants.iter().sum::<u32>()) / f64::from(SECONDS);
    println!("6 duals in opposite orders, 1 and 3 ms away: {rate} grants/s, {grants:?}");
    assert!(rate >= 10.0 && grants.iter().all(|it| *it > 0), "{rate} grants/s, {grants:?}");
    assert_eq!(rig.held().await, (false, false));
}

#[tokio::test]
async fn an_error_names_the_store_that_is_down_and_nothing_stays_held() {
    for (call, when) in [(Some(Call::Attempt), When::After), (None, When::Before)] {
        let rig = Rig::new();
        let (old, new) = (Memory::new(&rig.old), Memory::new(&rig.new));
        match call {
            Some(call) => new.controls().fail_next(call, when, down()),
            None => new.controls().fail_all(down()),
        }
        let error = rig.of(&old, &new).attempt(&claim()).await.unwrap_err();
        assert_eq!(error.to_string(), "1 of 2 members failed: new: connection refused");
        assert!(error.is_retryable(), "{error:?}");
        rig.rest().await;
        assert_eq!(rig.held().await, (false, false));
    }
}

#[tokio::test]
async fn the_lease_is_the_shorter() {
    let hand = Clock::manual();
    let stores = [(); 2].map(|()| Arc::new(Scripted::new(&hand)));
    let [old, new] = stores.clone().map(|store| -> SharedBackend { store });
    let dual = Dual::with_options(old, new, QuorumOptions::new().clock(hand.clock())).unwrap();
    let claim = claim();
    acquire(&dual, &claim).await;
    stores[0].order(Op::Keep, Order::Grant(SECOND * 7));
    stores[1].order(Op::Keep, Order::Grant(SECOND * 4));
    let kept = dual.keep(&[claim]).await.unwrap();
    assert!(matches!(kept[..], [Kept::Renewed { lease }] if lease.ttl == SECOND * 4), "{kept:?}");
}

#[tokio::test]
async fn what_one_store_lost_is_lost() {
    let rig = Rig::new();
    let dual = rig.dual();
    let held = claim();
    acquire(&dual, &held).await;
    Memory::new(&rig.old).controls().expire("job").unwrap();
    assert_eq!(dual.keep(std::slice::from_ref(&held)).await.unwrap(), [Kept::Gone]);
    assert_eq!(dual.release(&held).await.unwrap(), Release::NotHeld);
    rig.rest().await;
    assert_eq!(rig.held().await, (false, false));
}

#[tokio::test]
async fn shows_and_evicts_whoever_is_in_the_way_in_either_store() {
    let rig = Rig::new();
    let dual = rig.dual();
    for store in [&rig.old, &rig.new] {
        acquire(&Memory::new(store), &claim()).await;
        assert!(dual.inspect(&key()).await.unwrap().is_locked());
        assert_eq!(dual.list("", None, 10).await.unwrap().items.len(), 1);
        let peeks = dual.peek(&[claim()]).await.unwrap();
        assert_eq!(peeks, [Peek::Held { retry_in: Some(TTL), fence: None }]);
        let evicted = dual.evict(&key(), Eviction::LockOnly).await.unwrap();
        assert_eq!(evicted, Evicted::new(1, 0));
    }
    let held = claim();
    acquire(&dual, &held).await;
    assert_eq!(dual.inspect(&key()).await.unwrap().holders.len(), 1, "one holder, not two");
    dual.release(&held).await.unwrap();
    assert_eq!(dual.peek(&[claim()]).await.unwrap(), [Peek::Free]);
}

#[tokio::test]
async fn one_store_that_is_held_is_enough_to_know() {
    let rig = Rig::new();
    let (old, new) = (Memory::new(&rig.old), Memory::new(&rig.new));
    acquire(&old, &claim()).await;
    for call in [Call::Attempt, Call::Peek] {
        new.controls().delay(call, When::Before, SECOND);
    }
    let dual = rig.of(&old, &new);
    assert!(matches!(dual.peek(&[claim()]).await.unwrap()[..], [Peek::Held { .. }]));
    assert!(refused(&dual).await);
}

#[tokio::test]
async fn other_modes_are_refused() {
    let dual = Rig::new().dual();
    let mut reader = claim();
    reader.mode = Mode::Shared;
    let error = dual.attempt(&reader).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_hint_comes_from_either_store() {
    let rig = Rig::new();
    let options = || {
        EngineOptions::new()
            .clock(rig.hand.clock())
            .background(Background::Runtime(Handle::current()))
    };
    for store in [&rig.old, &rig.new] {
        let alone = Engine::new(Arc::new(Memory::new(store)), options()).unwrap();
        let dual = Engine::new(Arc::new(rig.dual()), options()).unwrap();
        let guard = alone.lock("job", &LockOptions::new()).await.unwrap();
        let waiting = tokio::spawn(async move { dual.lock("job", &LockOptions::new()).await });
        rig.hand.advance(ms(10)).await;
        let freed = rig.hand.clock().now();
        guard.unlock().await.unwrap();
        rig.rest().await;
        assert_eq!(rig.hand.clock().now(), freed);
        assert!(waiting.is_finished(), "woken by the hint, not by a look");
        drop(waiting.await.unwrap().unwrap());
        rig.rest().await;
    }
}

#[test]
fn one_store_twice_and_native_fences_are_refused() {
    let hand = Clock::manual();
    let one: SharedBackend = Arc::new(Memory::new(&Store::new(hand.clock())));
    let error = Dual::new(one.clone(), one.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.to_string(), "memory 2 is a member twice: remove one");
    let mut native = Scripted::new(&hand);
    native.profile.fence = FenceKind::Native;
    let error = Dual::new(one, Member::new("etcd", Arc::new(native))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("fence_base"), "{error}");
}

#[test]
fn a_session_makes_it_a_session() {
    let hand = Clock::manual();
    let session = Memory::with_session(&Store::new(hand.clock()), SECOND * 3);
    let (old, new): (SharedBackend, SharedBackend) =
        (Arc::new(Memory::new(&Store::new(hand.clock()))), Arc::new(session));
    let dual = Dual::new(old, new).unwrap();
    assert_eq!((dual.profile().lease, dual.profile().ttl_min), (LeaseKind::Session, SECOND * 3));
}
