//! What this client has in the store, by token.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use lock_core::Claim;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Token;
use tokio::sync::OwnedMutexGuard;

use crate::keys;
use crate::lease::Class;
use crate::line::Blocker;
use crate::names::Names;

/// All claims of one client that have, or may have, a key in the store.
#[derive(Default)]
pub(crate) struct Claims(Mutex<State>);

#[derive(Default)]
struct State {
    entries: HashMap<Token, Arc<Entry>>,
    names: Names,
}

/// One claim.
pub(crate) struct Entry {
    /// Its key in the store.
    pub(crate) own: Vec<u8>,
    name: Token,
    /// Calls about one token go one after another, so that a release never overtakes the attempt it
    /// undoes.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<Mine>,
}

/// The turn of a call about one claim.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// What is known of one claim.
#[derive(Clone, Default)]
pub(crate) struct Mine {
    /// The create revision of its key; none until an attempt has put it.
    pub(crate) revision: Option<i64>,
    /// The mode in which it was put.
    pub(crate) mode: Option<Mode>,
    /// Whether an attempt was told that it holds.
    pub(crate) holds: bool,
    /// The leases of attempts that got no answer: the server may still carry them out.
    pub(crate) unsure: Vec<i64>,
    /// On which lease its key hangs.
    pub(crate) lease: Option<Hanging>,
    /// The store's revision at which it was last seen there.
    pub(crate) seen: i64,
    /// What it waits for, and the revision at which that was true.
    pub(crate) blocked: Option<(Blocker, i64)>,
    /// Something of it may be in the store, or come there, of which nothing more is known.
    pub(crate) doubtful: bool,
    /// It has been forgotten: its name may be another's.
    over: bool,
}

/// On which lease a key hangs.
#[derive(Clone)]
pub(crate) struct Hanging {
    pub(crate) class: Arc<Class>,
    pub(crate) id: i64,
    /// What the lease promised then.
    pub(crate) lease: Lease,
}

impl Claims {
    pub(crate) fn find(&self, token: Token) -> Option<Arc<Entry>> {
        self.lock().entries.get(&token).cloned()
    }

    /// Waits for the turn of an attempt.
    pub(crate) async fn enter(&self, claim: &Claim) -> (Arc<Entry>, Turn) {
        loop {
            let entry = self.find_or_new(claim);
            if let Some(turn) = entry.turn().await {
                return (entry, turn);
            }
        }
    }

    /// Waits for the turn of a call about what is known; `None` if nothing is, nor will be.
    pub(crate) async fn enter_known(&self, token: Token) -> Option<(Arc<Entry>, Turn)> {
        loop {
            let entry = self.find(token)?;
            if let Some(turn) = entry.turn().await {
                return Some((entry, turn));
            }
        }
    }

    fn find_or_new(&self, claim: &Claim) -> Arc<Entry> {
        let State { entries, names } = &mut *self.lock();
        let new = || Arc::new(Entry::new(&claim.key, names.take(&claim.key)));
        entries.entry(claim.token).or_insert_with(new).clone()
    }

    /// Forgets a claim of which the caller has the turn, and which has nothing in the store.
    pub(crate) fn forget(&self, claim: &Claim, entry: &Entry) {
        let mut mine = entry.state();
        mine.over = true;
        let certain = !mine.doubtful && mine.unsure.is_empty();
        drop(mine);
        let mut state = self.lock();
        let gone = state.entries.remove(&claim.token);
        if certain {
            state.names.give_back(claim.key.clone(), entry.name);
        }
        drop(state);
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(lock: &LockKey, name: Token) -> Self {
        let (turn, state) = Default::default();
        Self { own: keys::own(lock, name), name, turn, state }
    }

    /// Waits for its turn; `None` if it has been forgotten by then.
    async fn turn(&self) -> Option<Turn> {
        let turn = self.turn.clone().lock_owned().await;
        (!self.state().over).then_some(turn)
    }

    pub(crate) fn mine(&self) -> Mine {
        self.state().clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Mine> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mine {
    /// Notes that its key is there.
    pub(crate) fn stands(&mut self, revision: i64, mode: Mode) {
        (self.revision, self.mode) = (Some(revision), Some(mode));
    }

    /// Notes that a key may still be put on `lease`.
    pub(crate) fn unsure(&mut self, lease: &Hanging) {
        if !self.unsure.contains(&lease.id) {
            self.unsure.push(lease.id);
        }
    }

    /// Notes that its key is gone, or may be.
    pub(crate) fn lost(&mut self) {
        (self.revision, self.holds, self.blocked) = (None, false, None);
        self.doubtful = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lock_core::Owner;

    use super::*;

    fn claim() -> Claim {
        let (key, owner) = (LockKey::new("k").unwrap(), Owner::new("ann").unwrap());
        Claim::new(key, owner, Duration::from_secs(9))
    }

    async fn own(claims: &Claims, doubt: impl FnOnce(&mut Mine)) -> Vec<u8> {
        let claim = claim();
        let (entry, _turn) = claims.enter(&claim).await;
        doubt(&mut entry.state());
        claims.forget(&claim, &entry);
        entry.own.clone()
    }

    #[tokio::test]
    async fn a_name_that_is_in_doubt_is_never_used_again() {
        let claims = Claims::default();
        let first = own(&claims, |_| {}).await;
        assert_eq!(own(&claims, |mine| mine.doubtful = true).await, first);
        let second = own(&claims, |mine| mine.unsure.push(7)).await;
        let third = own(&claims, Mine::lost).await;
        let fourth = own(&claims, |_| {}).await;
        assert!(first != second && second != third && third != fourth);
        assert_eq!(own(&claims, |_| {}).await, fourth);
    }

    #[tokio::test]
    async fn who_waits_for_the_turn_of_a_claim_that_is_forgotten_does_not_meet_another_of_its_name()
    {
        let (claims, old) = (Claims::default(), claim());
        let (entry, turn) = claims.enter(&old).await;
        let mut late = Box::pin(claims.enter_known(old.token));
        tokio::select! {
            biased;
            _ = &mut late => panic!("it is not its turn"),
            () = std::future::ready(()) => {}
        }
        claims.forget(&old, &entry);
        let (next, _turn) = claims.enter(&claim()).await;
        assert_eq!(next.own, entry.own);
        drop(turn);
        assert!(late.await.is_none());
        let (again, _turn) = claims.enter(&old).await;
        assert_ne!(again.own, next.own);
    }
}
