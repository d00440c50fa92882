//! The narrow waist: what a store has to do, each call one atomic step.
//!
//! A backend knows its store and nothing else. It never waits for a lock, retries, sleeps, times out
//! or logs (S6): the engine does that, once, for all.

use std::any::Any;
use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Weak;
use std::task::Waker;
use std::time::Duration;

use async_trait::async_trait;

use crate::BootInstant;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Holder;
use crate::Lease;
use crate::LockKey;
use crate::Mode;
use crate::Owner;
use crate::Profile;
use crate::Result;
use crate::Token;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering;

/// A store, as the engine uses it.
///
/// # Clauses
///
/// Each is checked by cases of the conformance suite that cite it.
///
/// - **S1** Each call is one atomic step of the store.
/// - **S2** Repeating a call with the same claim repeats its outcome, with the same fence; the lease is
///   re-armed in full or the older one is returned honestly.
/// - **S3** The store's clock decides expiry; no client's wall clock is ever written.
/// - **S4** A foreign or stale token changes nothing.
/// - **S5** The fence strictly rises per key and is drawn inside the acquiring step.
/// - **S6** No policy sleep, retry, time-out or log inside. An actor that owns a connection may give up
///   a request when the lease it serves has ended, for a dropped call does not stop an actor.
/// - **S7** Dropping a call leaves the store before or after the step; a connection in an unknown state
///   is proven clean or closed.
/// - **S8** Errors are classified: retryable only if repetition helps, ambiguous if it may have been
///   applied.
/// - **S9** Unknown stored data is [`Corrupt`](crate::ErrorKind::Corrupt), never a panic.
/// - **S10** `inspect`, `peek` and `list` write nothing; `purge` touches only the expired.
/// - **S11** A lease never outlives what [`Lease`] said; renewing never revives the expired.
/// - **S12** After an error nothing is held that was not held before.
///
/// Calls are dropped only after a time-out ([`watch`](Self::watch) at any time, and made again); the
/// engine then releases the claim once the call is over.
/// Closing a connection does not prove that the server will not yet carry out what was sent on it: a
/// store with a lease per lock bounds that by the TTL, a session store has to rule it out (end the old
/// session, or compare a mark) before it answers a release with [`Release::NotHeld`].
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// Returns the facts about the store. Constant for the life of the backend.
    fn profile(&self) -> &Profile;

    /// Tries once to acquire, without waiting.
    ///
    /// With [`Claim::queue`], a claim that finds the key held takes its place in the store's line, and
    /// repeating the call asks whether it is its turn. An attempt that finds its own token already
    /// holding re-arms the lease and returns the same fence.
    async fn attempt(&self, claim: &Claim) -> Result<Attempt>;

    /// Renews what is held and refreshes what is in line; one answer per claim, in order.
    ///
    /// The lease to run from now on is [`Claim::ttl`]; it may be shorter than before.
    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>>;

    /// Releases the claim's token and leaves the line.
    async fn release(&self, claim: &Claim) -> Result<Release>;

    /// Looks once on behalf of all `claims` that wait; one answer per claim, in order.
    ///
    /// A claim that stands in the store's line is told [`Peek::Free`] only when it is its turn.
    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>>;

    /// Tells who holds `key` and how many wait in the store's line.
    async fn inspect(&self, key: &LockKey) -> Result<KeyState>;

    /// Lists held or waited-for keys that begin with `prefix`, in byte order, at most `limit` a page.
    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Takes the lock away from whoever holds it; the next fence is higher.
    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted>;

    /// Removes what expired holders and waiters left behind and returns how many records went.
    async fn purge(&self) -> Result<u64>;

    /// Arms a hint for `claim`: when this returns, no later release can be missed.
    ///
    /// Hints may be spurious, late or missing; the engine polls behind them. They are given, and
    /// watches dropped, outside every mutex of the backend: a hint may run code that calls it.
    /// Dropping the [`Watch`] disarms it. A store that cannot hint returns [`Watch::none`]. When a
    /// subscription breaks, the backend says [`Hint::broken`] instead of mending it at its own pace.
    ///
    /// Watching for [`WatchFor::Eviction`] is asked only of backends whose profile
    /// [`watches_holders`](Profile::watches_holders), once for each acquisition: it must not cost a
    /// request.
    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch>;

    /// Tells on which part of the store `key` lives, where one part may hang while the others answer.
    ///
    /// Keys of different parts do not share a [`keep`](Self::keep) or a [`peek`](Self::peek). Costs no request:
    /// it is what is known now.
    fn part(&self, key: &LockKey) -> u64 {
        let _ = key;
        0
    }

    /// Ends connections and sessions; what is still held is released by the store.
    async fn close(&self) -> Result<()>;

    /// Tells since when the store remembers all that it granted: since its last start, if it loses its
    /// locks when it restarts; `None` if it never does.
    ///
    /// Costs no request: it is what was learnt when the connection of the latest answer was made. A quorum
    /// asks after each answer, and does not count a store that may have forgotten locks that still live.
    fn remembers_since(&self) -> Option<BootInstant> {
        None
    }
}

/// What somebody wants of one key: the unit of every call to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The lock's full name.
    pub key: LockKey,
    /// What the store compares.
    pub token: Token,
    /// How it excludes others.
    pub mode: Mode,
    /// The lease to run, on a store where each lock has one. On a session it is at least
    /// [`Profile::ttl_min`], and the [`Lease`] returned is the session's, shorter or longer: the engine
    /// itself ends a lock there whose own TTL runs out.
    pub ttl: Duration,
    /// Who to show as the holder.
    pub owner: Owner,
    /// Whether to stay in the store's line if the key is held.
    pub queue: bool,
    /// A fence that the granted one has to exceed or equal: a quorum writes its highest back.
    pub fence_floor: Option<Fence>,
}

impl Claim {
    /// Builds an exclusive claim with a token of its own and no place in line.
    pub fn new(key: LockKey, owner: Owner, ttl: Duration) -> Self {
        Self {
            key,
            token: Token::random(),
            mode: Mode::Exclusive,
            ttl,
            owner,
            queue: false,
            fence_floor: None,
        }
    }

    /// Returns how long a place in the store's line lives without being refreshed: the TTL, but at the
    /// most 5 s, so that the dead are skipped in seconds.
    pub fn place_ttl(&self) -> Duration {
        self.ttl.min(PLACE_TTL)
    }

    /// Checks that this claim does not contradict another that the store has: the same token in
    /// another mode, or another number of permits.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, naming the stored mode.
    pub fn check_beside(&self, token: Token, stored: Mode) -> Result<()> {
        let same = stored == self.mode;
        let permits = matches!((stored, self.mode), (Mode::Permits { .. }, Mode::Permits { .. }));
        if same || !(permits || token == self.token) {
            return Ok(());
        }
        let wanted = self.mode;
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the store has this lock as {stored}, it can't be {wanted} at the same time"),
        ))
    }
}

/// The longest life of a place in line that nobody refreshes.
const PLACE_TTL: Duration = Duration::from_secs(5);

/// What came of an attempt. Contention is a value, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the engine and combinators must handle each outcome")]
pub enum Attempt {
    /// The claim holds the lock.
    Acquired {
        /// Higher than every earlier one of the key.
        fence: Fence,
        /// The lease the store runs.
        lease: Lease,
    },
    /// Others hold it or stand before this claim.
    Held {
        /// Who, as far as one step can tell; may be empty.
        holders: Vec<Holder>,
        /// When the earliest holder's lease ends unless renewed.
        retry_in: Option<Duration>,
        /// How many hold or stand before this claim, if the key has a line, or gets one by it.
        ahead: Option<u64>,
    },
}

/// What became of one claim in [`Backend::keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the engine and combinators must handle each outcome")]
pub enum Kept {
    /// It still holds, with this lease.
    Renewed {
        /// The lease the store runs now.
        lease: Lease,
    },
    /// It still waits; zero ahead means that it is its turn.
    Queued {
        /// How many stand before it.
        ahead: u64,
    },
    /// The store knows no such claim, or it has expired.
    Gone,
    /// Nothing can be said of this claim, though there are answers for others of the batch: of several
    /// stores too few answered alike. It is asked again while its lease lasts.
    Unknown,
}

/// What a release found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the engine and combinators must handle each outcome")]
pub enum Release {
    /// The token held the lock, or stood in line, and does no more.
    Released,
    /// The token held nothing.
    NotHeld,
}

/// What a waiter needs to know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the engine and combinators must handle each outcome")]
pub enum Peek {
    /// An attempt may succeed now.
    Free,
    /// It would not.
    Held {
        /// When the earliest holder's lease ends unless renewed.
        retry_in: Option<Duration>,
        /// The highest fence granted so far, where the look shows it: when it rises, others get the key.
        fence: Option<Fence>,
    },
    /// It would not, and never might: others stand in line, or hold in another mode and let more of
    /// their kind in. Said to a claim without a place by a store that has a line: it should take one.
    Crowded {
        /// As for [`Held`](Self::Held).
        retry_in: Option<Duration>,
    },
}

/// Who holds a key and how many wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyState {
    /// The lock's name.
    pub key: String,
    /// Everyone who holds it now.
    pub holders: Vec<Holder>,
    /// How many wait in the store's line; waiters that only poll are not seen by the store.
    pub waiting: u64,
}

impl KeyState {
    /// Describes `key`.
    pub fn new(key: impl Into<String>, holders: Vec<Holder>, waiting: u64) -> Self {
        Self { key: key.into(), holders, waiting }
    }

    /// Tells whether anybody holds the key.
    pub fn is_locked(&self) -> bool {
        !self.holders.is_empty()
    }
}

/// Where a listing goes on; opaque to all but its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an opaque string")]
pub struct Cursor(pub String);

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "backends build it")]
pub struct Page {
    /// The keys, in byte order.
    pub items: Vec<KeyState>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// How to take a lock away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// This lock only, if the store can; a session store asks the holder first.
    #[default]
    LockOnly,
    /// End the holder's whole session at once, with all its other locks.
    EndSession,
}

/// What an eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// How many holders of the key lost it.
    pub holders: u64,
    /// How many other locks went with their sessions.
    pub others: u64,
}

impl Evicted {
    /// Reports what an eviction did.
    pub const fn new(holders: u64, others: u64) -> Self {
        Self { holders, others }
    }
}

/// What a [`Backend::watch`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a claim either waits or holds")]
pub enum WatchFor {
    /// The claim waits or stands in line: the hint means "try again".
    Release,
    /// The claim holds: the hint means "keep me now".
    Eviction,
}

/// A cheap way for a backend to say "look again". It never blocks and may be given from any thread.
#[derive(Clone)]
pub struct Hint(Target);

#[derive(Clone)]
enum Target {
    Shared(Arc<dyn Hinted>),
    /// A holder; a hint that somebody forgot must not keep its hold alive.
    Holder(Weak<dyn Hinted>),
}

/// What takes hints without a waker of its own.
pub(crate) trait Hinted: Send + Sync {
    fn hint(&self);
    fn broken(&self);
    fn is_broken(&self) -> bool;
}

impl Hint {
    /// Makes a hint that wakes `waker`.
    pub fn new(waker: Waker) -> Self {
        Self::to(Arc::new(Waking { waker, broken: AtomicBool::new(false) }))
    }

    pub(crate) fn to(hinted: Arc<dyn Hinted>) -> Self {
        Self(Target::Shared(hinted))
    }

    pub(crate) fn to_holder(holder: Weak<dyn Hinted>) -> Self {
        Self(Target::Holder(holder))
    }

    /// Gives the hint. Repeating it is harmless.
    pub fn give(&self) {
        self.tell(|hinted| hinted.hint());
    }

    /// Gives the hint and says that it is the last: its subscription has broken, and what happened
    /// since is unknown. The engine looks and arms again, at its own pace.
    pub fn broken(&self) {
        self.tell(|hinted| hinted.broken());
    }

    /// Tells whether [`broken`](Self::broken) has been said.
    pub fn is_broken(&self) -> bool {
        self.tell(|hinted| hinted.is_broken()).unwrap_or(false)
    }

    fn tell<T>(&self, tell: impl FnOnce(&dyn Hinted) -> T) -> Option<T> {
        match &self.0 {
            Target::Shared(hinted) => Some(tell(&**hinted)),
            Target::Holder(holder) => holder.upgrade().map(|holder| tell(&*holder)),
        }
    }
}

struct Waking {
    waker: Waker,
    broken: AtomicBool,
}

impl Hinted for Waking {
    fn hint(&self) {
        self.waker.wake_by_ref();
    }

    fn broken(&self) {
        self.broken.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

impl Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_broken() { "Hint(broken)" } else { "Hint" })
    }
}

/// Keeps a hint armed while it lives.
pub struct Watch(Option<Box<dyn Any + Send + Sync>>);

impl Watch {
    /// Keeps `subscription` until this watch is dropped; its `Drop` disarms the hint.
    pub fn new(subscription: impl Any + Send + Sync) -> Self {
        Self(Some(Box::new(subscription)))
    }

    /// Says that there will be no hints.
    pub const fn none() -> Self {
        Self(None)
    }
}

impl Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watch(armed)" } else { "Watch(none)" })
    }
}

/// Shares a backend between engines, and lets a combinator hold several.
pub type SharedBackend = Arc<dyn Backend>;
