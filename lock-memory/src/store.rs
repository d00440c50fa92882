//! The simulated server: one state machine that all its clients share.
//!
//! Each call is one step under one short mutex, at one instant of the store's clock (S1, S3). Nothing
//! is awaited inside, and hints are given only after the mutex is free again.

mod outcome;
mod record;
mod session;
#[cfg(test)]
mod tests;
mod watchers;

use std::collections::HashMap;
use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Release;
use lock_core::Result;

pub(crate) use outcome::Fate;
pub(crate) use outcome::Own;
pub(crate) use outcome::Tried;
use record::Record;
use record::View;
pub(crate) use session::Anchor;
pub(crate) use session::SessionGone;
pub(crate) use session::SessionId;
use session::Sessions;
pub(crate) use watchers::Bell;
use watchers::Watcher;

use crate::sync::Mutex;

/// How long a hint that was given counts without its waiter trying again: as long as a place in line.
const PATIENCE: Duration = Duration::from_secs(5);

/// From how many keys on the store looks by itself for some to forget.
const CROWDED: usize = 4096;

/// A store in memory. Cloning gives another handle on the same store.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

pub(crate) struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

impl Store {
    /// Creates an empty store that lives by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, state: Mutex::default() }))
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Carries out one step, then gives the hints that came of it.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&mut State, Now<'_>) -> T) -> T {
        let clock = &self.0.clock;
        // Read inside the mutex, so that time never runs backwards from step to step.
        self.timeless(|state| step(state, Now { at: clock.now(), clock }))
    }

    /// Carries out a step that need not know the time.
    pub(crate) fn timeless<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let (out, bells) = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            (step(&mut state), std::mem::take(&mut state.bells))
        };
        bells.iter().for_each(Bell::ring);
        out
    }

    /// Since when it remembers what it granted; `None` if it was never restarted.
    pub(crate) fn remembers_since(&self) -> Option<BootInstant> {
        self.timeless(|state| state.began)
    }

    /// Disarms a hint; if its waiter never used it, the next one gets it.
    pub(crate) fn disarm(&self, key: &LockKey, id: u64) {
        let Some(watcher) = self.timeless(|state| state.disarm(key, id)) else { return };
        if watcher.was_waiting() {
            self.step(|state, now| state.wake(now, key));
        }
        // The watcher is dropped here, outside the mutex: wakers run code.
    }
}

impl Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(self.clock()).finish()
    }
}

/// The instant of a step. The wall clock is read only by the steps that draw or compare fences.
#[derive(Clone, Copy)]
pub(crate) struct Now<'a> {
    pub(crate) at: BootInstant,
    clock: &'a Clock,
}

impl Now<'_> {
    pub(crate) fn micros(self) -> u64 {
        self.clock.unix_micros()
    }
}

/// What the server knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    records: HashMap<LockKey, Record, foldhash::fast::RandomState>,
    sessions: Sessions,
    /// Hints to give once the mutex is free.
    bells: Vec<Bell>,
    watchers: u64,
    purge_at: usize,
    stacked: u64,
    /// When it began to remember, if it was restarted.
    began: Option<BootInstant>,
}

/// What every client asks.
impl State {
    pub(crate) fn attempt(&mut self, now: Now<'_>, claim: &Claim, anchor: Anchor) -> Result<Tried> {
        let view = View { now: now.at, sessions: &self.sessions };
        if let Some(record) = self.records.get_mut(&claim.key) {
            return record.attempt(view, now, claim, anchor, &mut self.bells);
        }
        if self.records.len() >= self.purge_at.max(CROWDED) {
            self.purge(now);
            self.purge_at = self.records.len() * 2;
        }
        let view = View { now: now.at, sessions: &self.sessions };
        let record = self.records.entry(claim.key.clone()).or_default();
        record.attempt(view, now, claim, anchor, &mut self.bells)
    }

    pub(crate) fn keep(&mut self, now: Now<'_>, claim: &Claim, anchor: Anchor) -> Fate {
        let view = View { now: now.at, sessions: &self.sessions };
        self.records.get_mut(&claim.key).map_or(Fate::Gone, |it| it.keep(view, claim, anchor))
    }

    pub(crate) fn release(
        &mut self,
        now: Now<'_>,
        claim: &Claim,
        session: Option<SessionId>,
    ) -> Release {
        let view = View { now: now.at, sessions: &self.sessions };
        let record = self.records.get_mut(&claim.key);
        let bells = &mut self.bells;
        match record.is_some_and(|it| it.release(view, claim.token, session, bells)) {
            true => Release::Released,
            false => Release::NotHeld,
        }
    }

    pub(crate) fn peek(&self, now: Now<'_>, claim: &Claim) -> Peek {
        let record = self.records.get(&claim.key);
        record.map_or(Peek::Free, |record| record.peek(self.view(now), claim))
    }

    pub(crate) fn inspect(&self, now: Now<'_>, key: &LockKey) -> KeyState {
        let view = self.view(now);
        let nobody = || KeyState::new(key.as_str(), Vec::new(), 0);
        self.records.get(key).map_or_else(nobody, |record| record.inspect(view, key))
    }

    pub(crate) fn list(
        &self,
        now: Now<'_>,
        prefix: &str,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Page {
        let view = self.view(now);
        let wanted = |key: &str| {
            key.starts_with(prefix) && after.is_none_or(|Cursor(last)| key > last.as_str())
        };
        let used = self.records.iter().filter(|(_, record)| record.is_in_use(view));
        let mut found: Vec<_> = used.filter(|(key, _)| wanted(key.as_str())).collect();
        found.sort_unstable_by_key(|(key, _)| *key);
        let more = found.len() > limit.max(1);
        found.truncate(limit.max(1));
        let last = found.last().filter(|_| more);
        let next = last.map(|(key, _)| Cursor(key.as_str().to_owned()));
        Page { items: found.iter().map(|(key, record)| record.inspect(view, key)).collect(), next }
    }

    pub(crate) fn evict(&mut self, now: Now<'_>, key: &LockKey, how: Eviction) -> Evicted {
        let sessions = match how {
            Eviction::EndSession => self.sessions_on(now, key),
            _ => Vec::new(),
        };
        let view = View { now: now.at, sessions: &self.sessions };
        let bells = &mut self.bells;
        let record = self.records.get_mut(key);
        let holders = record.map_or(0, |record| record.evict(view, |_| true, bells));
        let others = sessions.into_iter().map(|id| self.end_session(now, id)).sum();
        Evicted::new(holders, others)
    }

    pub(crate) fn purge(&mut self, now: Now<'_>) -> u64 {
        let view = View { now: now.at, sessions: &self.sessions };
        let micros = now.micros();
        let mut gone = 0;
        self.records.retain(|_, record| {
            let dead = record.expire(view);
            let forget = record.is_forgettable(micros);
            gone += if forget { 1 } else { dead };
            !forget
        });
        self.sessions.purge(now.at);
        u64::try_from(gone).unwrap_or(u64::MAX)
    }

    fn view(&self, now: Now<'_>) -> View<'_> {
        View { now: now.at, sessions: &self.sessions }
    }
}

/// What clients with a session ask besides.
impl State {
    pub(crate) fn open_session(&mut self, now: Now<'_>, timeout: Duration) -> SessionId {
        self.sessions.open(now.at, timeout)
    }

    pub(crate) fn check_session(&self, now: Now<'_>, id: SessionId) -> Result<(), SessionGone> {
        self.sessions.check(now.at, id)
    }

    pub(crate) fn touch_session(
        &mut self,
        now: Now<'_>,
        id: SessionId,
        timeout: Duration,
    ) -> Result<(), SessionGone> {
        self.sessions.touch(now.at, id, timeout)
    }

    /// Takes the key for the session as `pg_try_advisory_lock` does: a session that has it already gets
    /// it once more, whatever its modes and tokens. Clients have to know better than to ask.
    pub(crate) fn try_stacking(
        &mut self,
        now: Now<'_>,
        claim: &Claim,
        id: SessionId,
    ) -> Result<Tried> {
        let own = |held: &&mut record::Held| held.anchor == Anchor::Session(id);
        let record = self.records.get_mut(&claim.key);
        let Some(held) = record.and_then(|record| record.holders.iter_mut().find(own)) else {
            return self.attempt(now, claim, Anchor::Session(id));
        };
        held.stacked += 1;
        self.stacked += 1;
        Ok(Tried::Granted { fence: held.fence })
    }

    /// Returns what the session really holds of `key`.
    pub(crate) fn held_by_session(
        &self,
        now: Now<'_>,
        key: &LockKey,
        id: SessionId,
    ) -> Result<Vec<Own>, SessionGone> {
        self.sessions.check(now.at, id)?;
        let holders = self.records.get(key).map_or(&[][..], |record| &record.holders);
        let own = holders.iter().filter(|held| held.anchor == Anchor::Session(id));
        Ok(own.map(|held| held.own(self.view(now))).collect())
    }

    /// Ends a session with all its locks, tells everybody concerned, and counts the locks.
    pub(crate) fn end_session(&mut self, now: Now<'_>, id: SessionId) -> u64 {
        let view = View { now: now.at, sessions: &self.sessions };
        let bells = &mut self.bells;
        let own = |held: &record::Held| held.anchor == Anchor::Session(id);
        let ended = self.records.values_mut().map(|record| record.evict(view, own, bells)).sum();
        self.sessions.end(id);
        ended
    }

    /// Returns how often a session was granted what it held already.
    pub(crate) fn stacked(&self) -> u64 {
        self.stacked
    }

    fn sessions_on(&self, now: Now<'_>, key: &LockKey) -> Vec<SessionId> {
        let live = |id: &SessionId| self.sessions.check(now.at, *id).is_ok();
        let holders = self.records.get(key).map_or(&[][..], |record| &record.holders);
        holders.iter().filter_map(|held| held.anchor.session()).filter(live).collect()
    }
}

/// Hints.
impl State {
    /// Arms a hint. The time is not asked for: what a dead holder is taken for here, its next attempt puts
    /// right.
    pub(crate) fn arm(&mut self, claim: &Claim, bell: Bell) -> u64 {
        self.watchers += 1;
        let record = match self.records.get_mut(&claim.key) {
            Some(record) => record,
            None => self.records.entry(claim.key.clone()).or_default(),
        };
        let holds = record.holders.iter().any(|held| held.token == claim.token);
        record.watchers.arm(self.watchers, claim.token, claim.mode, holds, bell);
        self.watchers
    }

    fn disarm(&mut self, key: &LockKey, id: u64) -> Option<Watcher> {
        self.records.get_mut(key)?.watchers.disarm(id)
    }

    fn wake(&mut self, now: Now<'_>, key: &LockKey) {
        let view = View { now: now.at, sessions: &self.sessions };
        if let Some(record) = self.records.get_mut(key) {
            record.wake(view, &mut self.bells);
        }
    }
}

/// What a test does behind the clients' backs.
impl State {
    pub(crate) fn expire(&mut self, key: &LockKey) {
        if let Some(record) = self.records.get_mut(key) {
            record.holders.clear();
        }
    }

    pub(crate) fn steal(&mut self, now: Now<'_>, claim: &Claim) -> Result<Fence> {
        let record = self.records.entry(claim.key.clone()).or_default();
        record.holders.clear();
        record.force(now.micros(), claim, Anchor::Until(now.at + claim.ttl))
    }

    pub(crate) fn forget(&mut self) {
        self.records.values_mut().for_each(Record::forget);
        self.sessions.clear();
    }

    pub(crate) fn restart(&mut self, now: Now<'_>) {
        self.forget();
        self.began = Some(now.at);
    }
}
