//! The store's side of the model: each call is one step under one mutex.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use conformance_tests::async_trait;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::Hint;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Token;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;

use super::Flaw;
use super::store::Armed;
use super::store::Held;
use super::store::Slot;
use super::store::State;
use super::store::Store;
use super::store::Watcher;

/// How long a place in line lives without being refreshed, if its TTL is not shorter.
const PLACE: Duration = Duration::from_secs(5);

/// A connection to the store.
#[derive(Debug)]
pub(crate) struct Steps {
    store: Arc<Store>,
    flaw: Option<Flaw>,
    profile: Profile,
    number: u64,
}

impl Steps {
    pub(crate) fn new(store: Arc<Store>, flaw: Option<Flaw>) -> Self {
        let mut profile = Profile::new("model");
        profile.fair = true;
        profile.wakeup = Wakeup::Push;
        profile.watches_holders = true;
        // As on a store that pushes, polling is only the last resort.
        let pause = Duration::from_secs(3);
        profile.poll = PollPlan { first: pause, eager: Duration::ZERO, max: pause };
        if flaw == Some(Flaw::BatchOfOne) {
            profile.batch = 1;
        }
        let number = store.clients.fetch_add(1, Ordering::Relaxed);
        Self { store, flaw, profile, number }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn name(&self, key: &LockKey) -> String {
        let name = key.as_str();
        match self.flaw {
            Some(Flaw::FoldsCase) => name.to_lowercase(),
            Some(Flaw::TrimsKeys) => name.trim_end().to_owned(),
            Some(Flaw::CutsKeys) => name.chars().take(255).collect(),
            Some(Flaw::OneLock) => "all".to_owned(),
            _ => name.to_owned(),
        }
    }

    fn revives(&self) -> bool {
        self.has(Flaw::KeepRevives) || self.has(Flaw::KeepLingers)
    }

    fn repeats_the_dead(&self) -> bool {
        self.has(Flaw::RepeatAfterRelease) || self.has(Flaw::RepeatAfterExpiry)
    }

    fn lease(&self, claim: &Claim) -> Lease {
        let untold = self.has(Flaw::SmallTtlUntold);
        let least = if untold { Duration::ZERO } else { self.profile.ttl_min };
        let asked = if self.has(Flaw::TtlIgnored) { Duration::from_secs(60) } else { claim.ttl };
        Lease { since: now(), ttl: asked.max(least) }
    }

    fn end(&self, lease: Lease) -> BootInstant {
        match self.flaw {
            Some(Flaw::ExpiryIgnored) => BootInstant::FAR,
            Some(Flaw::FreesEarly) => lease.since + lease.ttl * 4 / 5,
            _ => lease.since + lease.ttl,
        }
    }

    fn expire(&self, slot: &mut Slot) {
        let now = now();
        if slot.held.as_ref().is_some_and(|held| held.until <= now) {
            let gone = slot.held.take();
            slot.forgot |= self.has(Flaw::FenceResetsOnExpiry);
            if self.revives() || self.has(Flaw::RepeatAfterExpiry) {
                slot.released = gone.map(|held| (held.token, held.fence));
            }
        }
        if !self.has(Flaw::LineKeepsDead) {
            slot.line.retain(|place| place.until > now);
        }
    }

    fn checked(&self, key: &LockKey, slot: &Slot) -> Result<()> {
        match self.flaw {
            Some(Flaw::LongKeysRefused) if key.as_str().len() > 255 => {
                Err(Error::new(ErrorKind::InvalidInput, "the key is too long"))
            }
            _ if !slot.foreign => Ok(()),
            Some(Flaw::CorruptIgnored) => Ok(()),
            Some(Flaw::CorruptPanics) => panic!("unexpected data"),
            _ => Err(Error::new(ErrorKind::Corrupt, "the record is not a lock of ours")),
        }
    }

    fn next_fence(&self, slot: &Slot, claim: &Claim) -> u64 {
        let clock =
            if self.has(Flaw::FenceWithoutClock) { 1 } else { Clock::system().unix_micros() };
        let next = if slot.forgot { slot.fence } else { clock.max(slot.fence + 1) };
        match claim.fence_floor {
            Some(floor) if !self.has(Flaw::FloorIgnored) => next.max(floor.get()),
            _ => next,
        }
    }

    fn draw(&self, name: &str, claim: &Claim) -> u64 {
        let mut state = self.store.lock();
        let slot = state.keys.entry(name.into()).or_default();
        slot.fence = self.next_fence(slot, claim);
        slot.fence
    }

    /// The acquiring step.
    fn take(&self, slot: &mut Slot, claim: &Claim, drawn: Option<u64>) -> Result<Attempt> {
        let lease = self.lease(claim);
        if let Some(held) = slot.held.as_mut().filter(|held| held.token == claim.token)
            && !self.has(Flaw::RepeatRefused)
        {
            if !self.has(Flaw::RepeatKeepsOldLease) {
                held.until = self.end(lease);
            }
            let floor = claim.fence_floor.filter(|_| !self.has(Flaw::FloorIgnored));
            held.fence = held.fence.max(floor.map_or(0, Fence::get));
            held.fence += u64::from(self.has(Flaw::RepeatGivesNewFence));
            slot.fence = slot.fence.max(held.fence);
            return Ok(Attempt::Acquired { fence: Fence::new(held.fence)?, lease });
        }
        if let Some((token, fence)) = slot.released.filter(|_| self.repeats_the_dead())
            && token == claim.token
        {
            return Ok(Attempt::Acquired { fence: Fence::new(fence)?, lease });
        }
        let position = slot.line.iter().position(|place| place.token == claim.token);
        let ahead = position.unwrap_or(slot.line.len());
        let turn = match self.flaw {
            Some(Flaw::LineOvertaken) => true,
            Some(Flaw::LineBackwards) => position.is_none_or(|n| n + 1 == slot.line.len()),
            _ => ahead == 0,
        };
        if (slot.held.is_some() || !turn) && !self.has(Flaw::NoExclusion) {
            return Ok(self.refuse(slot, claim, position, lease));
        }
        let fence = drawn.unwrap_or_else(|| self.next_fence(slot, claim));
        slot.line.retain(|place| place.token != claim.token);
        slot.fence = fence;
        slot.forgot = false;
        slot.held = Some(Held { fence, ..self.place(claim, lease) });
        Ok(Attempt::Acquired { fence: Fence::new(fence)?, lease })
    }

    fn place(&self, claim: &Claim, lease: Lease) -> Held {
        let (token, owner) = (claim.token, claim.owner.to_string());
        Held { token, owner, fence: 0, until: self.end(lease) }
    }

    fn refuse(
        &self,
        slot: &mut Slot,
        claim: &Claim,
        mut position: Option<usize>,
        lease: Lease,
    ) -> Attempt {
        if claim.queue {
            let place = Held { until: now() + PLACE.min(lease.ttl), ..self.place(claim, lease) };
            if let Some(old) = position.filter(|_| self.has(Flaw::LineLosesPlace)) {
                slot.line.remove(old);
                position = None;
            }
            match position {
                Some(n) => slot.line[n] = place,
                None => slot.line.push(place),
            }
            position = position.or(Some(slot.line.len() - 1));
        }
        let ahead = position.map(|n| self.ahead(slot, n));
        let retry_in = slot.held.as_ref().map(|held| held.until.saturating_since(now()));
        Attempt::Held { holders: self.holders(slot), retry_in, ahead }
    }

    fn ahead(&self, slot: &Slot, position: usize) -> u64 {
        let told = if self.has(Flaw::LineAheadWrong) { 0 } else { position as u64 };
        told + u64::from(slot.held.is_some())
    }

    fn holders(&self, slot: &Slot) -> Vec<Holder> {
        let wrong = self.has(Flaw::ShowsWrongHolder);
        let show = |held: &Held| {
            let holder = Holder::new().owned_by(if wrong { "somebody" } else { &held.owner });
            let fence = Fence::new(held.fence + u64::from(wrong)).expect("a fence of our own");
            holder.with_fence(fence).expiring_in(held.until.saturating_since(now()))
        };
        slot.held.iter().map(show).collect()
    }

    fn state(&self, name: &str, slot: &Slot) -> KeyState {
        let waiting = if self.has(Flaw::LineUncounted) { 0 } else { slot.line.len() as u64 };
        KeyState::new(name, self.holders(slot), waiting)
    }

    fn keep_one(&self, state: &mut State, claim: &Claim) -> Kept {
        let lease = self.lease(claim);
        let Some(slot) = state.keys.get_mut(&self.name(&claim.key)) else {
            return if self.has(Flaw::KeepSaysRenewed) {
                Kept::Renewed { lease }
            } else {
                Kept::Gone
            };
        };
        self.expire(slot);
        let end = match self.flaw {
            Some(Flaw::KeepIgnoresTtl) => now() + Duration::from_secs(60),
            _ => self.end(lease),
        };
        if let Some((token, fence)) = slot.released.filter(|_| self.revives())
            && token == claim.token
            && slot.held.is_none()
        {
            slot.held = Some(Held { fence, ..self.place(claim, lease) });
        }
        if let Some(held) = &mut slot.held
            && (held.token == claim.token || self.has(Flaw::KeepIgnoresToken))
        {
            held.token = claim.token;
            if !self.has(Flaw::KeepDoesNothing) {
                held.until = end;
            }
            return Kept::Renewed { lease };
        }
        let position = slot.line.iter().position(|place| place.token == claim.token);
        match position {
            Some(n) => {
                if !self.has(Flaw::LineIgnoresKeep) {
                    slot.line[n].until = now() + PLACE.min(lease.ttl);
                }
                Kept::Queued { ahead: self.ahead(slot, n) }
            }
            None if self.has(Flaw::KeepSaysRenewed) => Kept::Renewed { lease },
            None => Kept::Gone,
        }
    }

    fn release_step(&self, state: &mut State, claim: &Claim) -> Release {
        let name = self.name(&claim.key);
        if self.has(Flaw::ReleaseOfNothingBlocks) && !state.keys.contains_key(&name) {
            let lease = self.lease(claim);
            let held = Some(
                self.place(&Claim::new(claim.key.clone(), claim.owner.clone(), claim.ttl), lease),
            );
            state.keys.insert(name, Slot { held, ..Slot::default() });
            return Release::NotHeld;
        }
        let slot = state.keys.entry(name.clone()).or_default();
        self.expire(slot);
        if self.has(Flaw::ReleaseDoesNothing) {
            return Release::Released;
        }
        let places = slot.line.len();
        if !self.has(Flaw::LineForgetsRelease) {
            slot.line.retain(|place| place.token != claim.token);
        }
        let left = slot.line.len() < places;
        let any = self.has(Flaw::ReleaseIgnoresToken);
        let eaten = std::mem::take(&mut state.eaten);
        let freed = slot.held.take_if(|held| (held.token == claim.token || any) && !eaten);
        if let Some(held) = &freed {
            slot.released = Some((held.token, held.fence));
            slot.forgot |= self.has(Flaw::FenceResetsOnRelease);
        }
        if (freed.is_some() || left) && !self.has(Flaw::HintsMissing) {
            state.tell(&name);
        }
        let found = freed.is_some()
            || left
            || self.has(Flaw::ReleaseAlwaysReleased)
            || self.has(Flaw::LossHidden);
        if found { Release::Released } else { Release::NotHeld }
    }

    fn evict_step(&self, state: &mut State, name: &str) -> Evicted {
        let slot = state.keys.entry(name.into()).or_default();
        self.expire(slot);
        if self.has(Flaw::EvictOfFreeTakes) && slot.held.is_none() {
            let (token, owner) = (Token::random(), "evictor".to_owned());
            slot.held = Some(Held { token, owner, fence: 1, until: BootInstant::FAR });
        } else if !self.has(Flaw::EvictDoesNothing) {
            let hit = slot.held.take().is_some();
            slot.forgot |= self.has(Flaw::FenceResetsOnEvict);
            if !self.has(Flaw::EvictSilent) && !self.has(Flaw::LossHidden) {
                state.tell(name);
            }
            return Evicted::new(u64::from(hit || self.has(Flaw::EvictOvercounts)), 0);
        }
        Evicted::new(1, 0)
    }
}

fn now() -> BootInstant {
    Clock::system().now()
}

async fn pause(millis: u64) {
    Clock::system().sleep(Duration::from_millis(millis)).await;
}

#[async_trait]
impl Backend for Steps {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let name = self.name(&claim.key);
        if self.has(Flaw::CheckThenInsert) {
            let free = self.store.lock().keys.get(&name).is_none_or(|slot| slot.held.is_none());
            tokio::task::yield_now().await;
            if free && let Some(slot) = self.store.lock().keys.get_mut(&name) {
                slot.held = None;
            }
        }
        let drawn = self.has(Flaw::FenceDrawnFirst).then(|| self.draw(&name, claim));
        pause(drawn.map_or(0, |fence| fence % 3)).await;
        if self.has(Flaw::Favourites) {
            pause(self.number % 2 * 100).await;
        }
        if self.has(Flaw::AttemptWaits) {
            let held = self.store.lock().keys.get(&name).is_some_and(|slot| slot.held.is_some());
            pause(if held { 3000 } else { 0 }).await;
        }
        let mut state = self.store.lock();
        let slot = state.keys.entry(name).or_default();
        self.checked(&claim.key, slot)?;
        self.expire(slot);
        self.take(slot, claim, drawn)
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let mut state = self.store.lock();
        let mut kept: Vec<_> =
            claims.iter().map(|claim| self.keep_one(&mut state, claim)).collect();
        if self.has(Flaw::KeepUnordered) {
            kept.reverse();
        }
        Ok(kept)
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        Ok(self.store.step(|state| self.release_step(state, claim)))
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let mut state = self.store.lock();
        let mut look = |claim: &Claim| {
            let slot = state.keys.entry(self.name(&claim.key)).or_default();
            if !self.has(Flaw::InspectShowsExpired) {
                self.expire(slot);
            }
            let retry_in = slot.held.as_ref().map(|held| held.until.saturating_since(now()));
            let free = slot.held.is_none() && slot.line.is_empty();
            if free && !self.has(Flaw::PeekSaysHeld) { Peek::Free } else { Peek::Held { retry_in } }
        };
        let mut peeks: Vec<_> = claims.iter().map(&mut look).collect();
        if self.has(Flaw::PeekUnordered) {
            peeks.sort_by_key(|peek| *peek != Peek::Free);
        }
        Ok(peeks)
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let mut state = self.store.lock();
        let slot = state.keys.entry(self.name(key)).or_default();
        self.checked(key, slot)?;
        if !self.has(Flaw::InspectShowsExpired) {
            self.expire(slot);
        }
        if self.has(Flaw::InspectWrites)
            && let Some(held) = &mut slot.held
        {
            held.until = now() + Duration::from_secs(60);
        }
        let shown = self.state(key.as_str(), slot);
        if self.has(Flaw::InspectTakes) && slot.held.is_none() {
            let (token, owner) = (Token::random(), "inspector".to_owned());
            slot.held = Some(Held { token, owner, fence: 1, until: BootInstant::FAR });
        }
        Ok(shown)
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let mut state = self.store.lock();
        let after = cursor.map(|cursor| cursor.0).unwrap_or_default();
        let wild = self.has(Flaw::ListHasWildcards);
        let literal: String = prefix.chars().take_while(|c| !wild || !"_%".contains(*c)).collect();
        let free = self.has(Flaw::ListShowsFree);
        let mut items: Vec<_> = Vec::new();
        for (name, slot) in &mut state.keys {
            self.expire(slot);
            let shown = slot.held.is_some() || !slot.line.is_empty() || free;
            if name.starts_with(&literal) && *name > after && shown {
                items.push(self.state(name, slot));
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|state| Cursor(state.key.clone()));
        if self.has(Flaw::ListMisses) && more {
            items.pop();
        }
        if self.has(Flaw::ListUnordered) {
            items.sort_by_key(|state| state.key.to_lowercase());
        }
        Ok(Page { items, next })
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let name = self.name(key);
        Ok(self.store.step(|state| {
            if self.has(Flaw::EvictTakesPrefix) {
                for (_, slot) in state.keys.iter_mut().filter(|(key, _)| key.starts_with(&name)) {
                    slot.held = None;
                }
            }
            self.evict_step(state, &name)
        }))
    }

    async fn purge(&self) -> Result<u64> {
        let mut state = self.store.lock();
        if self.has(Flaw::PurgeDeletesLive) {
            state.keys.clear();
        }
        let (clock, before) = (Clock::system().unix_micros(), state.keys.len());
        for slot in state.keys.values_mut() {
            self.expire(slot);
        }
        let resets = self.has(Flaw::FenceResetsOnPurge);
        state.keys.retain(|_, slot| {
            let used = slot.held.is_some() || !slot.line.is_empty();
            used || !resets && slot.fence >= clock
        });
        Ok((before - state.keys.len()) as u64)
    }

    async fn watch(&self, claim: &Claim, _reason: WatchFor, hint: Hint) -> Result<Watch> {
        let number = {
            let mut state = self.store.lock();
            state.watches += 1;
            state.watches
        };
        let watcher = Watcher { number, key: self.name(&claim.key), hint };
        let store = self.store.clone();
        if self.has(Flaw::WatchArmedLate) {
            let store = store.clone();
            tokio::spawn(async move {
                pause(2).await;
                store.lock().watchers.push(watcher);
            });
        } else {
            store.lock().watchers.push(watcher);
        }
        let leaks = self.has(Flaw::WatchLeaks);
        Ok(Watch::new(Armed { store, number, leaks }))
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
