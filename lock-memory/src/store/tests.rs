//! The server on its own, under virtual time.

use lock_core::ErrorKind;
use lock_core::ManualClock;
use lock_core::Mode;
use lock_core::Owner;

use super::*;

mod model;

const TTL: Duration = Duration::from_secs(10);

struct Rig {
    hand: ManualClock,
    store: Store,
}

impl Rig {
    fn new() -> Self {
        let hand = Clock::manual();
        let store = Store::new(hand.clock());
        Self { hand, store }
    }

    fn attempt(&self, claim: &Claim) -> Result<Tried> {
        self.store.step(|state, now| state.attempt(now, claim, Anchor::Until(now.at + claim.ttl)))
    }

    fn granted(&self, claim: &Claim) -> Option<u64> {
        match self.attempt(claim).unwrap() {
            Tried::Granted { fence } => Some(fence.get()),
            Tried::Refused { .. } => None,
        }
    }

    fn ahead(&self, claim: &Claim) -> Option<u64> {
        match self.attempt(claim).unwrap() {
            Tried::Granted { fence } => panic!("granted with {fence}"),
            Tried::Refused { ahead, .. } => ahead,
        }
    }

    fn retry_in(&self, claim: &Claim) -> Option<Duration> {
        match self.attempt(claim).unwrap() {
            Tried::Granted { fence } => panic!("granted with {fence}"),
            Tried::Refused { retry_in, .. } => retry_in,
        }
    }

    fn keep(&self, claim: &Claim) -> Fate {
        self.store.step(|state, now| state.keep(now, claim, Anchor::Until(now.at + claim.ttl)))
    }

    fn release(&self, claim: &Claim) -> Release {
        self.store.step(|state, now| state.release(now, claim, None))
    }

    fn inspect(&self, key: &str) -> KeyState {
        self.store.step(|state, now| state.inspect(now, &LockKey::new(key).unwrap()))
    }

    fn peek(&self, claim: &Claim) -> Peek {
        self.store.step(|state, now| state.peek(now, claim))
    }

    fn evict(&self, key: &str) -> u64 {
        let key = LockKey::new(key).unwrap();
        self.store.step(|state, now| state.evict(now, &key, Eviction::LockOnly).holders)
    }

    fn purge(&self) -> u64 {
        self.store.step(|state, now| state.purge(now))
    }
}

fn claim(key: &str, mode: &str) -> Claim {
    let mut claim = Claim::new(LockKey::new(key).unwrap(), Owner::new("ann").unwrap(), TTL);
    claim.mode = mode.parse().unwrap();
    claim
}

fn exclusive() -> Claim {
    claim("k", "exclusive")
}

fn queued(mode: &str) -> Claim {
    let mut claim = claim("k", mode);
    claim.queue = true;
    claim
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_lease_ends_at_its_ttl_and_not_before() {
    let rig = Rig::new();
    let (first, second) = (exclusive(), exclusive());
    rig.granted(&first).unwrap();
    rig.hand.jump(TTL - ms(1));
    assert_eq!(rig.granted(&second), None);
    assert_eq!(rig.retry_in(&second), Some(ms(1)));
    rig.hand.jump(ms(1));
    assert!(rig.granted(&second).is_some());
    assert_eq!(rig.keep(&first), Fate::Gone);
    assert_eq!(rig.release(&first), Release::NotHeld);
    assert_eq!(rig.keep(&second), Fate::Holds);
}

#[test]
fn renewing_never_revives_the_expired_though_nobody_took_the_key() {
    let rig = Rig::new();
    let first = exclusive();
    rig.granted(&first).unwrap();
    rig.hand.jump(TTL);
    assert_eq!(rig.keep(&first), Fate::Gone);
    assert!(!rig.inspect("k").is_locked());
}

#[test]
fn a_repeat_returns_the_same_fence_and_a_full_lease() {
    let rig = Rig::new();
    let first = exclusive();
    let fence = rig.granted(&first);
    rig.hand.jump(TTL - ms(1));
    assert_eq!(rig.granted(&first), fence);
    rig.hand.jump(TTL - ms(1));
    assert_eq!(rig.granted(&exclusive()), None);
}

#[test]
fn a_repeat_raises_the_fence_to_a_floor_and_the_next_is_higher() {
    let rig = Rig::new();
    let mut first = exclusive();
    let fence = rig.granted(&first).unwrap();
    first.fence_floor = Some(Fence::new(fence - 1).unwrap());
    assert_eq!(rig.granted(&first), Some(fence));
    first.fence_floor = Some(Fence::new(fence + 1_000_000_000).unwrap());
    assert_eq!(rig.granted(&first), Some(fence + 1_000_000_000));
    rig.release(&first);
    assert_eq!(rig.granted(&exclusive()), Some(fence + 1_000_000_001));
}

#[test]
fn a_fence_beyond_the_limit_is_an_error_and_nothing_is_held() {
    let rig = Rig::new();
    let mut last = exclusive();
    last.fence_floor = Some(Fence::MAX);
    assert_eq!(rig.granted(&last), Some(Fence::MAX.get()));
    rig.release(&last);
    assert_eq!(rig.attempt(&exclusive()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!rig.inspect("k").is_locked());
}

#[test]
fn another_number_of_permits_or_another_mode_names_the_stored_one() {
    let rig = Rig::new();
    let mut again = claim("k", "permits:3");
    rig.granted(&again).unwrap();
    again.mode = Mode::Exclusive;
    for wrong in [claim("k", "permits:2"), again] {
        let error = rig.attempt(&wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("permits:3"), "{error}");
    }
    assert_eq!(rig.granted(&exclusive()), None);
}

#[test]
fn a_line_is_served_in_order_and_a_newcomer_waits_behind_it() {
    let rig = Rig::new();
    let (holder, first, second) = (exclusive(), queued("exclusive"), queued("exclusive"));
    rig.granted(&holder).unwrap();
    assert_eq!(rig.ahead(&first), Some(1));
    assert_eq!(rig.ahead(&second), Some(2));
    rig.release(&holder);
    assert_eq!(rig.ahead(&second), Some(1));
    assert_eq!(rig.granted(&exclusive()), None);
    assert_eq!(rig.keep(&first), Fate::Queued { ahead: 0 });
    assert!(rig.granted(&first).is_some());
    assert_eq!(rig.ahead(&second), Some(1));
}

#[test]
fn a_place_without_a_sign_of_life_is_dead_after_five_seconds() {
    let rig = Rig::new();
    let (holder, dead, alive) = (exclusive(), queued("exclusive"), queued("exclusive"));
    rig.granted(&holder).unwrap();
    rig.ahead(&dead);
    rig.ahead(&alive);
    rig.release(&holder);
    rig.hand.jump(ms(4_999));
    assert_eq!(rig.keep(&alive), Fate::Queued { ahead: 1 });
    assert_eq!(rig.retry_in(&alive), Some(ms(1)));
    rig.hand.jump(ms(1));
    assert!(rig.granted(&alive).is_some());
    assert_eq!(rig.keep(&dead), Fate::Gone);
}

#[test]
fn a_place_with_a_short_ttl_is_dead_after_that() {
    let rig = Rig::new();
    let (holder, mut dead) = (exclusive(), queued("exclusive"));
    dead.ttl = ms(100);
    rig.granted(&holder).unwrap();
    rig.ahead(&dead);
    rig.release(&holder);
    rig.hand.jump(ms(100));
    assert!(rig.granted(&exclusive()).is_some());
}

#[test]
fn withdrawing_leaves_the_order_of_the_others() {
    let rig = Rig::new();
    let (holder, first) = (exclusive(), queued("exclusive"));
    let (second, third) = (queued("exclusive"), queued("exclusive"));
    rig.granted(&holder).unwrap();
    for waiter in [&first, &second, &third] {
        rig.ahead(waiter);
    }
    assert_eq!(rig.release(&second), Release::Released);
    assert_eq!(rig.release(&second), Release::NotHeld);
    assert_eq!(rig.ahead(&third), Some(2));
    assert_eq!(rig.inspect("k").waiting, 2);
}

#[test]
fn readers_that_keep_coming_do_not_pass_a_writer_in_line() {
    let rig = Rig::new();
    let (reader, writer, late) = (claim("k", "shared"), queued("exclusive"), claim("k", "shared"));
    rig.granted(&reader).unwrap();
    rig.ahead(&writer);
    assert_eq!(rig.granted(&late), None);
    rig.release(&reader);
    assert!(rig.granted(&writer).is_some());
}

#[test]
fn readers_next_to_each_other_in_line_are_served_together() {
    let rig = Rig::new();
    let (writer, one, two) = (exclusive(), queued("shared"), queued("shared"));
    rig.granted(&writer).unwrap();
    rig.ahead(&one);
    rig.ahead(&two);
    rig.release(&writer);
    assert!(rig.granted(&two).is_some());
    assert!(rig.granted(&one).is_some());
}

#[test]
fn a_free_permit_serves_one_of_the_line() {
    let rig = Rig::new();
    let holders = [claim("k", "permits:2"), claim("k", "permits:2")];
    let (one, two) = (queued("permits:2"), queued("permits:2"));
    assert!(holders.iter().all(|holder| rig.granted(holder).is_some()));
    rig.ahead(&one);
    rig.ahead(&two);
    rig.release(&holders[0]);
    assert_eq!(rig.granted(&two), None);
    assert!(rig.granted(&one).is_some());
}

#[test]
fn purge_forgets_only_what_cannot_lower_a_fence() {
    let rig = Rig::new();
    let (first, mut high) = (claim("a", "exclusive"), claim("b", "exclusive"));
    let fence = rig.granted(&first).unwrap();
    high.fence_floor = Some(Fence::MAX);
    rig.granted(&high).unwrap();
    assert_eq!(rig.purge(), 0);
    rig.hand.jump(TTL);
    assert_eq!(rig.purge(), 2);
    assert_eq!(rig.purge(), 0);
    assert!(rig.granted(&claim("a", "exclusive")).unwrap() > fence);
    assert!(rig.attempt(&claim("b", "exclusive")).is_err(), "the fence of b was forgotten");
}

#[test]
fn the_store_forgets_old_keys_by_itself() {
    let rig = Rig::new();
    for number in 0..10 * CROWDED {
        let claim = claim(&number.to_string(), "exclusive");
        rig.granted(&claim).unwrap();
        rig.release(&claim);
        rig.hand.jump(ms(1));
    }
    assert!(rig.store.step(|state, _| state.records.len()) <= CROWDED);
}

#[test]
fn peek_says_free_only_to_a_claim_that_may_succeed() {
    let rig = Rig::new();
    let (reader, writer) = (claim("k", "shared"), queued("exclusive"));
    assert_eq!(rig.peek(&reader), Peek::Free);
    rig.granted(&reader).unwrap();
    assert_eq!(rig.peek(&claim("k", "shared")), Peek::Free);
    assert_eq!(rig.peek(&claim("k", "exclusive")), Peek::Crowded { retry_in: Some(TTL) });
    rig.ahead(&writer);
    let behind = queued("exclusive");
    rig.ahead(&behind);
    rig.release(&reader);
    assert_eq!(rig.peek(&writer), Peek::Free);
    assert!(matches!(rig.peek(&behind), Peek::Held { .. }), "it is the other's turn");
    assert!(matches!(rig.peek(&claim("k", "shared")), Peek::Crowded { .. }), "there is a line");
}

#[test]
fn list_pages_in_byte_order() {
    let rig = Rig::new();
    for key in ["p:b", "p:é", "q", "p:a", "p:B", "p:gone"] {
        rig.granted(&claim(key, "exclusive")).unwrap();
    }
    rig.evict("p:gone");
    let (mut keys, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = rig.store.step(|state, now| state.list(now, "p:", cursor.as_ref(), 2));
        keys.extend(page.items.into_iter().map(|item| item.key));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(keys, ["p:B", "p:a", "p:b", "p:é"]);
    assert_eq!(pages, 2);
}

#[test]
fn a_session_dies_with_all_it_holds_and_never_comes_back() {
    let rig = Rig::new();
    let (one, two) = (claim("one", "exclusive"), claim("two", "shared"));
    let id = rig.store.step(|state, now| state.open_session(now, TTL));
    for claim in [&one, &two] {
        rig.store.step(|state, now| state.try_stacking(now, claim, id)).unwrap();
    }
    rig.hand.jump(TTL - ms(1));
    assert!(rig.inspect("one").is_locked() && rig.inspect("two").is_locked());
    rig.hand.jump(ms(1));
    assert!(!rig.inspect("one").is_locked() && !rig.inspect("two").is_locked());
    assert_eq!(rig.store.step(|state, now| state.touch_session(now, id, TTL)), Err(SessionGone));
    assert!(rig.store.step(|state, now| state.open_session(now, TTL)) != id);
    assert!(!rig.inspect("one").is_locked());
}

/// The trap that clients with a session must not step into is really there.
#[test]
fn a_session_that_asks_again_stacks() {
    let rig = Rig::new();
    let id = rig.store.step(|state, now| state.open_session(now, TTL));
    let (first, second) = (exclusive(), exclusive());
    for claim in [&first, &second] {
        let tried = rig.store.step(|state, now| state.try_stacking(now, claim, id));
        assert!(matches!(tried, Ok(Tried::Granted { .. })));
    }
    assert_eq!(rig.store.step(|state, _| state.stacked()), 1);
    rig.store.step(|state, now| state.release(now, &first, Some(id)));
    assert!(rig.inspect("k").is_locked());
}

#[test]
fn ending_a_session_counts_what_went_with_it() {
    let rig = Rig::new();
    let id = rig.store.step(|state, now| state.open_session(now, TTL));
    for key in ["a", "b", "c"] {
        let claim = claim(key, "exclusive");
        rig.store.step(|state, now| state.try_stacking(now, &claim, id)).unwrap();
    }
    rig.granted(&claim("other", "exclusive")).unwrap();
    let key = LockKey::new("a").unwrap();
    let evicted = rig.store.step(|state, now| state.evict(now, &key, Eviction::EndSession));
    assert_eq!(evicted, Evicted::new(1, 2));
    assert!(rig.inspect("other").is_locked());
}
