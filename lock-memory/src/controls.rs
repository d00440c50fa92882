//! The switches of the test double.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use lock_core::Claim;
use lock_core::Error;
use lock_core::Fence;
use lock_core::LockKey;
use lock_core::Owner;
use lock_core::Result;

use crate::client::Inner;
use crate::wire::Fault;
use crate::wire::Gate;
use crate::wire::Rule;

/// A request of a client to its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "one for each operation of the waist and two of sessions"
)]
pub enum Call {
    /// [`Backend::attempt`](lock_core::Backend::attempt).
    Attempt,
    /// [`Backend::keep`](lock_core::Backend::keep), with all its claims one request.
    Keep,
    /// [`Backend::release`](lock_core::Backend::release).
    Release,
    /// [`Backend::peek`](lock_core::Backend::peek), with all its keys one request.
    Peek,
    /// [`Backend::inspect`](lock_core::Backend::inspect).
    Inspect,
    /// [`Backend::list`](lock_core::Backend::list), one request a page.
    List,
    /// [`Backend::evict`](lock_core::Backend::evict).
    Evict,
    /// [`Backend::purge`](lock_core::Backend::purge).
    Purge,
    /// [`Backend::watch`](lock_core::Backend::watch).
    Watch,
    /// Opening a session, before the first attempt and after each death of one.
    Open,
    /// Finding out what the session holds of a key after a reply was lost.
    Settle,
}

impl Call {
    /// Every kind of request.
    pub const ALL: [Self; 11] = [
        Self::Attempt,
        Self::Keep,
        Self::Release,
        Self::Peek,
        Self::Inspect,
        Self::List,
        Self::Evict,
        Self::Purge,
        Self::Watch,
        Self::Open,
        Self::Settle,
    ];
}

/// On which side of its effect a fault strikes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a step is atomic, so there is no third side")]
pub enum When {
    /// The store has not seen the request.
    Before,
    /// The store has carried it out; the reply is what suffers.
    After,
}

/// The switches of one client and its store, for tests.
///
/// Faults, lost hints and counters concern the calls of this client only, so that two clients of one
/// [`Store`](crate::Store) can be treated differently. What happens to keys happens in the store.
#[derive(Clone, Debug)]
pub struct Controls(Arc<Inner>);

/// Faults on the way to the store.
impl Controls {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Fails the next `call` that has no fault before it with `error`.
    ///
    /// With [`When::After`] the store has carried it out, and the error is made ambiguous.
    pub fn fail_next(&self, call: Call, when: When, error: Error) {
        let fault = Fault::Fail(error);
        self.0.wire.strike_once(Rule { call: Some(call), when, fault });
    }

    /// Fails every call with `error`, unseen by the store, until [`heal`](Self::heal).
    pub fn fail_all(&self, error: Error) {
        let fault = Fault::Fail(error);
        self.0.wire.strike_always(Rule { call: None, when: When::Before, fault });
    }

    /// Hangs the next `call` until it is resumed, or for ever: until its caller drops it.
    pub fn hang_next(&self, call: Call, when: When) -> Hung {
        let gate = Arc::new(Gate::default());
        let fault = Fault::Hang(gate.clone());
        self.0.wire.strike_once(Rule { call: Some(call), when, fault });
        Hung(gate)
    }

    /// Delays every `call` by the store's clock, until [`heal`](Self::heal).
    ///
    /// With [`When::After`] it is the reply that is late, and part of the lease is gone by then.
    pub fn delay(&self, call: Call, when: When, delay: Duration) {
        let fault = Fault::Delay(delay);
        self.0.wire.strike_always(Rule { call: Some(call), when, fault });
    }

    /// Loses all wake-ups of this client, until [`heal`](Self::heal).
    pub fn drop_hints(&self) {
        self.0.wire.mute(true);
    }

    /// Ends all faults that were set with this client's switches. A call that hangs goes on hanging.
    pub fn heal(&self) {
        self.0.wire.heal();
    }
}

/// What happens in the store.
impl Controls {
    /// Lets whoever holds `key` lose it as if the lease had ended this moment: nobody is told.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no key.
    pub fn expire(&self, key: &str) -> Result<()> {
        let key = LockKey::new(key)?;
        self.0.wire.store().step(|state, _| state.expire(&key));
        Ok(())
    }

    /// Gives `key` to `thief` for `ttl`, whoever holds it, and returns the thief's fence.
    ///
    /// Nobody is told: the holder learns of it at its next renewal, and its fence is too low from now
    /// on. For a loss that the holder is told of, use a forced unlock.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no key or no owner.
    pub fn steal(&self, key: &str, thief: &str, ttl: Duration) -> Result<Fence> {
        let claim = Claim::new(LockKey::new(key)?, Owner::new(thief)?, ttl);
        self.0.wire.store().step(|state, now| state.steal(now, &claim))
    }

    /// Ends this client's session in the store and returns how many locks went with it; zero for a
    /// client without a session.
    pub fn end_session(&self) -> u64 {
        let session = self.0.session.as_ref().and_then(|session| session.current());
        session.map_or(0, |id| self.0.wire.store().step(|state, now| state.end_session(now, id)))
    }

    /// Loses holders, lines, fences and sessions of all clients, and tells nobody: like a server whose
    /// data somebody has deleted.
    pub fn forget_everything(&self) {
        self.0.wire.store().step(|state, _| state.forget());
    }

    /// Forgets everything and says from now on when it began anew
    /// ([`Backend::remembers_since`](lock_core::Backend::remembers_since)): like a server that restarts
    /// without persistence.
    pub fn restart(&self) {
        self.0.wire.store().step(|state, now| state.restart(now));
    }
}

/// Figures to assert.
impl Controls {
    /// Returns how many requests of a kind this client has sent.
    pub fn count(&self, call: Call) -> u64 {
        self.0.wire.count(call)
    }

    /// Returns how many requests of all kinds this client has sent.
    pub fn total(&self) -> u64 {
        Call::ALL.into_iter().map(|call| self.count(call)).sum()
    }

    /// Sets all counters of this client to zero.
    pub fn reset_counts(&self) {
        self.0.wire.reset_counts();
    }

    /// Returns how often the store granted a session what it held already; anything but zero is a
    /// fault of a client.
    pub fn stacked(&self) -> u64 {
        self.0.wire.store().step(|state, _| state.stacked())
    }
}

/// A call that hangs, or will.
#[derive(Debug)]
#[must_use = "without it the call hangs until its caller drops it"]
pub struct Hung(Arc<Gate>);

impl Hung {
    /// Completes when the call has arrived and hangs.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
        // Whoever asks again is told again.
        self.0.reached.notify_one();
    }

    /// Lets the call go on; one that has not arrived yet will not hang.
    pub fn resume(self) {
        self.0.open.notify_one();
    }
}
