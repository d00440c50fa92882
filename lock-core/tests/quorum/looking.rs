//! What is shown is what a majority shows.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Wake;
use std::task::Waker;

use lock_core::Attempt;
use lock_core::Backend as _;
use lock_core::Background;
use lock_core::Claim;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::LockKey;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::SharedBackend;
use lock_core::WatchFor;
use lock_memory::Call;
use lock_memory::When;
use tokio::runtime::Handle;

use crate::common::Scripted;
use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::TTL;
use crate::rig::claim;
use crate::rig::key;

#[tokio::test]
async fn inspect_shows_whoever_holds_a_majority() {
    let rig = Rig::new();
    rig.occupy(2, "bob", TTL).await;
    let (fence, _) = rig.acquire(&claim()).await;
    let state = rig.quorum.inspect(&key()).await.unwrap();
    assert_eq!(state.holders.len(), 1, "{state:?}");
    assert_eq!(state.holders[0].owner.as_deref(), Some("ann"));
    assert_eq!((state.holders[0].fence, state.holders[0].expires_in), (Some(fence), Some(TTL)));
}

#[tokio::test]
async fn a_minority_is_shown_only_while_it_may_be_a_majority() {
    let rig = Rig::new();
    rig.occupy(1, "bob", TTL).await;
    assert!(!rig.quorum.inspect(&key()).await.unwrap().is_locked());
    assert!(rig.quorum.list("", None, 10).await.unwrap().items.is_empty());
    rig.fail(2);
    assert!(rig.quorum.inspect(&key()).await.unwrap().is_locked());
    assert_eq!(rig.quorum.list("", None, 10).await.unwrap().items.len(), 1);
    rig.fail(0);
    assert_eq!(rig.quorum.inspect(&key()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(rig.quorum.list("", None, 10).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn peek_is_free_when_a_majority_is() {
    let rig = Rig::new();
    let peek = async || rig.quorum.peek(&[claim()]).await;
    rig.occupy(0, "bob", TTL).await;
    assert_eq!(peek().await.unwrap(), [Peek::Free]);
    rig.occupy(1, "bob", SECOND).await;
    assert_eq!(peek().await.unwrap(), [Peek::Held { retry_in: Some(SECOND), fence: None }]);
    rig.fail(2);
    assert_eq!(
        peek().await.unwrap(),
        [Peek::Held { retry_in: Some(TTL), fence: None }],
        "both have to be free"
    );
    rig.fail(1);
    assert_eq!(peek().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

async fn listed(quorum: &Quorum, limit: usize) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), None);
    for _ in 0..100 {
        let page = quorum.list("", cursor, limit).await.unwrap();
        assert!(page.items.len() <= limit, "{page:?}");
        names.extend(page.items.into_iter().map(|state| state.key));
        cursor = page.next;
        if cursor.is_none() {
            return names;
        }
    }
    panic!("the listing does not end")
}

#[tokio::test]
async fn list_merges_the_pages_of_all_members() {
    let rig = Rig::new();
    let named = |name: &str| Claim::new(LockKey::new(name).unwrap(), Owner::new("a").unwrap(), TTL);
    let all: Vec<String> = (10..30).map(|n| format!("k{n}")).collect();
    for (at, name) in all.iter().enumerate() {
        // Each at two members at least, not always the same, with strays in between.
        rig.fail(at % 3);
        rig.acquire(&named(name)).await;
        rig.heal(at % 3);
        let stray = lock_memory::Memory::new(&rig.stores[at % 3]);
        stray.attempt(&named(&format!("{name}-stray"))).await.unwrap();
    }
    for limit in [1, 2, 3, 7, 20, 100] {
        assert_eq!(listed(&rig.quorum, limit).await, all, "by pages of {limit}");
    }
    rig.controls(1).delay(Call::List, When::Before, SECOND);
    let with_one_hanging = rig.during(SECOND * 5, listed(&rig.quorum, 3)).await;
    assert!(all.iter().all(|name| with_one_hanging.contains(name)), "{with_one_hanging:?}");
    let error = rig.quorum.list("", Some(lock_core::Cursor("k10".into())), 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn evict_needs_a_majority_and_tells_whom_it_hit() {
    let rig = Rig::new();
    let evict = async || rig.quorum.evict(&key(), Eviction::LockOnly).await;
    rig.acquire(&claim()).await;
    rig.fail(0);
    assert_eq!(evict().await.unwrap(), Evicted::new(1, 0));
    assert_eq!(rig.held_at().await, [0]);
    assert_eq!(evict().await.unwrap(), Evicted::new(0, 0));
    rig.fail(1);
    assert!(evict().await.unwrap_err().is_ambiguous());
}

#[tokio::test]
async fn purge_counts_what_went_everywhere() {
    let rig = Rig::new();
    let claim = claim();
    rig.acquire(&claim).await;
    rig.hand.advance(TTL).await;
    assert_eq!(rig.quorum.purge().await.unwrap(), 3);
}

struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rings(&self) -> u32 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

fn bell() -> (Arc<Bell>, Hint) {
    let bell = Arc::new(Bell(AtomicU32::new(0)));
    (bell.clone(), Hint::new(Waker::from(bell)))
}

#[tokio::test]
async fn a_hint_of_any_member_is_given_on() {
    let rig = Rig::new();
    let held = claim();
    rig.acquire(&held).await;
    rig.fail(0);
    let (bell, hint) = bell();
    let _watch = rig.quorum.watch(&claim(), WatchFor::Release, hint.clone()).await.unwrap();
    rig.controls(1).drop_hints();
    rig.other().release(&held).await.unwrap();
    rig.rest().await;
    assert!(bell.rings() > 0, "m3 is left to tell");
    assert!(!hint.is_broken());
}

#[tokio::test]
async fn a_watch_that_too_few_members_take_is_an_error() {
    let rig = Rig::new();
    rig.fail(0);
    rig.fail(1);
    let (_, hint) = bell();
    let error = rig.quorum.watch(&claim(), WatchFor::Release, hint).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_hint_is_broken_when_too_few_members_are_left_to_give_it() {
    let rig = Rig::new();
    let scripted: Vec<_> = (0..3).map(|_| Arc::new(Scripted::new(&rig.hand))).collect();
    let members: Vec<SharedBackend> = scripted.iter().map(|it| it.clone() as _).collect();
    let background = Background::Runtime(Handle::current());
    let options = QuorumOptions::new().clock(rig.hand.clock()).background(background);
    let quorum = Quorum::new(members, options).unwrap();
    let (bell, hint) = bell();
    let _watch = quorum.watch(&claim(), WatchFor::Release, hint.clone()).await.unwrap();
    scripted[0].break_watches();
    assert!(!hint.is_broken(), "two of three hear of every release");
    scripted[1].hint();
    rig.rest().await;
    assert_eq!(bell.rings(), 1);
    scripted[1].break_watches();
    assert!(hint.is_broken());
    assert_eq!(bell.rings(), 1);
}

#[tokio::test]
async fn a_hint_of_what_is_not_to_be_had_is_not_given_on() {
    let rig = Rig::new();
    // Ann holds two of three, so that m3 changes hands with every vain attempt.
    rig.fail(2);
    rig.acquire(&claim()).await;
    rig.heal(2);
    let (bell, hint) = bell();
    let _watch = rig.quorum.watch(&claim(), WatchFor::Release, hint).await.unwrap();
    for _ in 0..5 {
        let attempt = rig.during(SECOND, rig.other().attempt(&claim())).await.unwrap();
        assert!(matches!(attempt, Attempt::Held { .. }), "{attempt:?}");
    }
    rig.rest().await;
    assert_eq!(bell.rings(), 0);
}

#[tokio::test]
async fn a_holder_is_told_of_an_eviction_at_once() {
    let rig = Rig::new();
    let held = claim();
    rig.acquire(&held).await;
    let (bell, hint) = bell();
    let _watch = rig.quorum.watch(&held, WatchFor::Eviction, hint).await.unwrap();
    rig.other().evict(&key(), Eviction::LockOnly).await.unwrap();
    assert!(bell.rings() > 0);
}

#[tokio::test]
async fn a_watch_that_is_armed_late_is_kept_and_disarmed_with_the_rest() {
    let rig = Rig::new();
    let hung = rig.controls(2).hang_next(Call::Watch, When::Before);
    let held = claim();
    rig.acquire(&held).await;
    let (bell, hint) = bell();
    let watch = rig.quorum.watch(&claim(), WatchFor::Release, hint).await.unwrap();
    hung.resume();
    rig.rest().await;
    // Only m3 can tell now.
    rig.controls(0).drop_hints();
    rig.controls(1).drop_hints();
    rig.other().release(&held).await.unwrap();
    rig.rest().await;
    assert!(bell.rings() > 0, "armed late");
    rig.acquire(&held).await;
    drop(watch);
    rig.other().release(&held).await.unwrap();
    rig.rest().await;
    assert_eq!(bell.rings(), 0, "disarmed");
}

#[tokio::test]
async fn closing_closes_every_member() {
    let rig = Rig::new();
    rig.quorum.close().await.unwrap();
    let error = rig.quorum.attempt(&claim()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
