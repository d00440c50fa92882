//! The store's side of the model: each call is one step under one mutex.

mod leave;
mod look;
mod take;
mod time;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use conformance_tests::async_trait;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;

use super::Flaw;
use super::store::Armed;
use super::store::Slot;
use super::store::State;
use super::store::Store;
use super::store::Watcher;

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
        profile.shared = flaw != Some(Flaw::ModesIgnored);
        profile.permits = profile.shared;
        profile.wakeup = Wakeup::Push;
        profile.watches_holders = true;
        // As on a store that pushes, polling is only the last resort. Looks fall on a common grid, so where
        // a case is to notice what a flaw does to hints it is a day: no look makes that good by chance.
        let looks_matter = matches!(flaw, None | Some(Flaw::PeekSaysHeld));
        let pause = Duration::from_secs(if looks_matter { 20 } else { 24 * 60 * 60 });
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

    fn tell(&self, state: &mut State, name: &str) {
        state.tell(name, if self.has(Flaw::WakesOne) { 1 } else { usize::MAX });
    }

    /// Does what a flaw does before it asks for the lock.
    async fn stumble(&self, name: &str) {
        if self.has(Flaw::CheckThenInsert) {
            let free = self.store.lock().keys.get(name).is_none_or(|slot| slot.holders.is_empty());
            tokio::task::yield_now().await;
            if free && let Some(slot) = self.store.lock().keys.get_mut(name) {
                slot.holders.clear();
            }
        }
        if self.has(Flaw::Favourites) {
            pause(self.number % 2 * 100).await;
        }
        if self.has(Flaw::AttemptWaits) {
            let held =
                self.store.lock().keys.get(name).is_some_and(|slot| !slot.holders.is_empty());
            pause(if held { 3000 } else { 0 }).await;
        }
    }
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
        self.stumble(&name).await;
        let drawn = self.has(Flaw::FenceDrawnFirst).then(|| self.draw(&name, claim));
        pause(drawn.map_or(0, |fence| fence % 3)).await;
        self.take(&mut self.store.lock(), &name, claim, drawn)
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
        let mut peeks: Vec<_> =
            claims.iter().map(|claim| self.peek_one(&mut state, claim)).collect();
        if self.has(Flaw::PeekUnordered) {
            peeks.sort_by_key(|peek| *peek != Peek::Free);
        }
        Ok(peeks)
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let mut state = self.store.lock();
        let slot = state.keys.entry(self.name(key)).or_default();
        self.checked(key, slot)?;
        Ok(self.inspect_step(slot, key))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        Ok(self.list_step(&mut self.store.lock(), prefix, cursor, limit))
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let name = self.name(key);
        Ok(self.store.step(|state| self.evict_step(state, &name)))
    }

    async fn purge(&self) -> Result<u64> {
        Ok(self.purge_step(&mut self.store.lock()))
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        let number = {
            let mut state = self.store.lock();
            state.watches += 1;
            state.watches
        };
        let waits = (reason == WatchFor::Release).then_some((claim.token, claim.mode));
        let watcher = Watcher { number, key: self.name(&claim.key), hint, waits };
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
        if self.has(Flaw::CloseFreesAll) {
            self.store.forget();
        }
        Ok(())
    }
}
