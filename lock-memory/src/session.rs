//! A client whose locks all hang on one session in the store, as on Postgres or etcd.
//!
//! The store would let a session take a key that it has already, so this side decides: a table says
//! what the session holds, at most one request a key is under way, and after a lost reply the table is
//! settled with the store before anything else is asked of that key. A dead session takes its table
//! with it; the next one starts empty.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Release;
use lock_core::Result;

use crate::controls::Call;
use crate::store::Anchor;
use crate::store::Fate;
use crate::store::Now;
use crate::store::Own;
use crate::store::SessionGone;
use crate::store::SessionId;
use crate::store::State;
use crate::store::Tried;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::Notify;
use crate::wire::Wire;

#[derive(Debug)]
pub(crate) struct Session {
    timeout: Duration,
    live: Mutex<Option<Live>>,
    /// Rung when a key is no longer busy.
    calm: Notify,
}

#[derive(Debug)]
struct Live {
    id: SessionId,
    /// When the last keep-alive that was acknowledged had been sent.
    since: BootInstant,
    keys: HashMap<LockKey, Entry>,
}

/// What this side knows of one key.
#[derive(Debug, Default)]
struct Entry {
    /// A request for the key is under way.
    busy: bool,
    /// A reply was lost or said something unexpected: the store knows better.
    doubtful: bool,
    held: Vec<Own>,
}

/// How to ask the store for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// The session holds nothing of it.
    Take,
    /// The session holds some of it: ask for one more holder by its token, or for a place in line.
    Join,
}

impl Session {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, live: Mutex::new(None), calm: Notify::new() }
    }

    pub(crate) async fn attempt(&self, wire: &Wire, claim: &Claim) -> Result<Attempt> {
        // A session may have died since it was last used; one that was just opened has no reason to.
        for _ in 0..2 {
            let id = self.open(wire).await?;
            if let Ok(attempt) = self.attempt_in(wire, id, claim).await? {
                return Ok(attempt);
            }
            self.bury(id);
        }
        Err(Error::new(ErrorKind::Unavailable, "the session ended during the call"))
    }

    async fn attempt_in(
        &self,
        wire: &Wire,
        id: SessionId,
        claim: &Claim,
    ) -> Result<Result<Attempt, SessionGone>> {
        let Ok(mut turn) = self.enter(wire, id, &claim.key).await? else {
            return Ok(Err(SessionGone));
        };
        let Some(ask) = turn.decide(claim) else { return Ok(Ok(turn.refuse())) };
        let sent = wire.now();
        let touch = self.is_stale(id, sent).then_some(self.timeout);
        turn.unsure = true;
        let step = |state: &mut State, now: Now<'_>| take(state, now, claim, id, ask, touch);
        let Ok(tried) = wire.call(Call::Attempt, step).await? else { return Ok(Err(SessionGone)) };
        turn.unsure = false;
        if touch.is_some() {
            self.touched(id, sent);
        }
        Ok(turn.conclude(claim, tried?).ok_or(SessionGone))
    }

    pub(crate) async fn keep(&self, wire: &Wire, claims: &[Claim]) -> Result<Vec<Kept>> {
        let gone = || vec![Kept::Gone; claims.len()];
        let Some(id) = self.current() else { return Ok(gone()) };
        let sent = wire.now();
        let timeout = self.timeout;
        let reply =
            wire.call(Call::Keep, |state, now| keep(state, now, claims, id, timeout)).await?;
        let Ok(fates) = reply else {
            self.bury(id);
            return Ok(gone());
        };
        let Some(lease) = self.touched(id, sent) else { return Ok(gone()) };
        claims.iter().zip(&fates).for_each(|(claim, fate)| self.learn(id, claim, *fate));
        Ok(fates.into_iter().map(|fate| fate.with_lease(lease)).collect())
    }

    pub(crate) async fn release(&self, wire: &Wire, claim: &Claim) -> Result<Release> {
        let Some(id) = self.current() else { return Ok(Release::NotHeld) };
        let Ok(mut turn) = self.enter(wire, id, &claim.key).await? else {
            return Ok(Release::NotHeld);
        };
        turn.unsure = true;
        let released =
            wire.call(Call::Release, |state, now| state.release(now, claim, Some(id))).await?;
        turn.unsure = false;
        turn.entry(|entry| entry.held.retain(|own| own.token != claim.token));
        Ok(released)
    }

    /// Ends the session in the store, with all that it holds.
    pub(crate) fn close(&self, wire: &Wire) {
        if let Some(id) = self.current() {
            wire.store().step(|state, now| state.end_session(now, id));
            self.bury(id);
        }
    }

    pub(crate) fn current(&self) -> Option<SessionId> {
        self.live().as_ref().map(|live| live.id)
    }

    /// Returns the session, opening one if there is none.
    async fn open(&self, wire: &Wire) -> Result<SessionId> {
        if let Some(id) = self.current() {
            return Ok(id);
        }
        let since = wire.now();
        let timeout = self.timeout;
        let id = wire.call(Call::Open, |state, now| state.open_session(now, timeout)).await?;
        // Another call may have opened one meanwhile; then ours ends by itself, empty.
        let fresh = || Live { id, since, keys: HashMap::new() };
        Ok(self.live().get_or_insert_with(fresh).id)
    }

    /// Waits until no request for `key` is under way and makes ours the one that is.
    async fn enter<'a>(
        &'a self,
        wire: &Wire,
        id: SessionId,
        key: &'a LockKey,
    ) -> Result<Result<Turn<'a>, SessionGone>> {
        let turn = loop {
            // Made before the look, so that it cannot miss the end of what is under way.
            let calm = self.calm.notified();
            match self.try_enter(id, key) {
                Ok(Some(turn)) => break turn,
                Ok(None) => calm.await,
                Err(gone) => return Ok(Err(gone)),
            }
        };
        if turn.entry(|entry| entry.doubtful) == Some(true) {
            let held = wire.call(Call::Settle, |state, now| state.held_by_session(now, key, id));
            let Ok(held) = held.await? else { return Ok(Err(SessionGone)) };
            turn.entry(|entry| (entry.held, entry.doubtful) = (held, false));
        }
        Ok(Ok(turn))
    }

    fn try_enter<'a>(
        &'a self,
        id: SessionId,
        key: &'a LockKey,
    ) -> Result<Option<Turn<'a>>, SessionGone> {
        let mut live = self.live();
        let live = live.as_mut().filter(|live| live.id == id).ok_or(SessionGone)?;
        let entry = live.keys.entry(key.clone()).or_default();
        if entry.busy {
            return Ok(None);
        }
        entry.busy = true;
        Ok(Some(Turn { session: self, id, key, unsure: false }))
    }

    /// Whether the last keep-alive is so old that an attempt should bring a new one along.
    fn is_stale(&self, id: SessionId, now: BootInstant) -> bool {
        let live = self.live();
        let live = live.as_ref().filter(|live| live.id == id);
        live.is_some_and(|live| now.saturating_since(live.since) > self.timeout / 3)
    }

    /// Notes an acknowledged keep-alive and returns the lease, if the session is still ours.
    fn touched(&self, id: SessionId, sent: BootInstant) -> Option<Lease> {
        if let Some(live) = self.live().as_mut().filter(|live| live.id == id) {
            live.since = live.since.max(sent);
        }
        self.lease(id)
    }

    fn lease(&self, id: SessionId) -> Option<Lease> {
        let live = self.live();
        let live = live.as_ref().filter(|live| live.id == id)?;
        Some(Lease { since: live.since, ttl: self.timeout })
    }

    fn learn(&self, id: SessionId, claim: &Claim, fate: Fate) {
        if fate == Fate::Gone {
            // A grant may have overtaken this reply, so it is no reason to strike the token out.
            self.with_entry(id, &claim.key, |entry| {
                entry.doubtful |= entry.held.iter().any(|own| own.token == claim.token);
            });
        }
    }

    /// Forgets a dead session with all it held.
    fn bury(&self, id: SessionId) {
        self.live().take_if(|live| live.id == id);
        self.calm.notify_waiters();
    }

    fn with_entry<T>(
        &self,
        id: SessionId,
        key: &LockKey,
        look: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let mut live = self.live();
        let live = live.as_mut().filter(|live| live.id == id)?;
        live.keys.get_mut(key).map(look)
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one request for a key that is under way.
#[derive(Debug)]
struct Turn<'a> {
    session: &'a Session,
    id: SessionId,
    key: &'a LockKey,
    /// A request has been sent whose effect is not known yet; dropped now, the key stays in doubt (S7).
    unsure: bool,
}

impl Turn<'_> {
    /// Says how to ask the store, or that there is no need to.
    fn decide(&self, claim: &Claim) -> Option<Ask> {
        let decide = |entry: &mut Entry| {
            let joins = claim.queue || entry.held.iter().any(|own| own.token == claim.token);
            match entry.held.iter().any(|own| own.mode == Mode::Exclusive) {
                true if !joins => None,
                _ if entry.held.is_empty() => Some(Ask::Take),
                _ => Some(Ask::Join),
            }
        };
        self.entry(decide).unwrap_or(Some(Ask::Take))
    }

    /// Answers for the store: this very client holds the key.
    fn refuse(&self) -> Attempt {
        let holders = |entry: &mut Entry| entry.held.iter().map(|own| own.holder.clone()).collect();
        let holders = self.entry(holders).unwrap_or_default();
        Attempt::Held { holders, retry_in: None, ahead: None }
    }

    /// Notes what the store said; nothing if the session has died since.
    fn conclude(&self, claim: &Claim, tried: Tried) -> Option<Attempt> {
        let lease = self.session.lease(self.id)?;
        if let Tried::Granted { fence } = tried {
            self.entry(|entry| entry.hold(claim, fence))?;
        }
        Some(tried.with_lease(lease))
    }

    fn entry<T>(&self, look: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.session.with_entry(self.id, self.key, look)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut live = self.session.live();
        if let Some(live) = live.as_mut().filter(|live| live.id == self.id)
            && let Some(entry) = live.keys.get_mut(self.key)
        {
            entry.busy = false;
            entry.doubtful |= self.unsure;
            if entry.held.is_empty() && !entry.doubtful {
                live.keys.remove(self.key);
            }
        }
        drop(live);
        self.session.calm.notify_waiters();
    }
}

impl Entry {
    fn hold(&mut self, claim: &Claim, fence: Fence) {
        if self.held.iter().any(|own| own.token == claim.token) {
            return;
        }
        let holder = Holder::new().owned_by(claim.owner.as_str()).in_mode(claim.mode);
        let holder = holder.with_fence(fence);
        self.held.push(Own { token: claim.token, mode: claim.mode, holder });
    }
}

/// The attempt as the server carries it out: the keep-alive first, if one is due.
fn take(
    state: &mut State,
    now: Now<'_>,
    claim: &Claim,
    id: SessionId,
    ask: Ask,
    touch: Option<Duration>,
) -> Result<Result<Tried>, SessionGone> {
    match touch {
        Some(timeout) => state.touch_session(now, id, timeout)?,
        None => state.check_session(now, id)?,
    }
    Ok(match ask {
        Ask::Take => state.try_stacking(now, claim, id),
        Ask::Join => state.attempt(now, claim, Anchor::Session(id)),
    })
}

/// The keep-alive as the server carries it out.
fn keep(
    state: &mut State,
    now: Now<'_>,
    claims: &[Claim],
    id: SessionId,
    timeout: Duration,
) -> Result<Vec<Fate>, SessionGone> {
    state.touch_session(now, id, timeout)?;
    Ok(claims.iter().map(|claim| state.keep(now, claim, Anchor::Session(id))).collect())
}
