//! A client of a store in memory: with a lease per lock, or with a session.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use lock_core::Clock;
use lock_core::LeaseKind;
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Wakeup;

use crate::config::Config;
use crate::controls::Controls;
use crate::session::Session;
use crate::store::Store;
use crate::wire::Wire;

/// A client of a [`Store`]: the backend to build an engine on. Cloning shares the client.
#[derive(Clone)]
pub struct Memory(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) profile: Profile,
    pub(crate) wire: Wire,
    pub(crate) session: Option<Session>,
}

impl Memory {
    /// Connects to `store` as a client whose locks each have a TTL in the store.
    pub fn new(store: &Store) -> Self {
        Self::build(store, profile(), None)
    }

    /// Connects to `store` as a client whose locks all hang on one session, which the store ends
    /// `timeout` after the last keep-alive.
    pub fn with_session(store: &Store, timeout: Duration) -> Self {
        let profile = session_profile(timeout);
        let session = Session::new(profile.ttl_min);
        Self::build(store, profile, Some(session))
    }

    /// Connects to the store that `config` names, on the system's clock.
    pub fn connect(config: &Config) -> Self {
        let store = match config.name() {
            Some(name) => Store::named(name),
            None => Store::new(Clock::system()),
        };
        Self::new(&store)
    }

    /// Returns the switches of this client, for tests.
    pub fn controls(&self) -> Controls {
        Controls::new(self.0.clone())
    }

    fn build(store: &Store, profile: Profile, session: Option<Session>) -> Self {
        Self(Arc::new(Inner { profile, wire: Wire::new(store.clone()), session }))
    }
}

impl Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("lease", &self.0.profile.lease).finish_non_exhaustive()
    }
}

impl Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("profile", &self.profile.name).finish_non_exhaustive()
    }
}

fn profile() -> Profile {
    let mut profile = Profile::new("memory");
    profile.fair = true;
    profile.shared = true;
    profile.permits = true;
    profile.wakeup = Wakeup::Push;
    profile.watches_holders = true;
    // Hints tell of every release at once. Looking is only for what gives no hint: a lease or a place in
    // line that ends, which the engine also expects by `retry_in`. A second is as rare as it may be for
    // a waiter behind a dead place, and costs one look a second in a process.
    profile.poll = PollPlan {
        first: Duration::from_secs(1),
        eager: Duration::ZERO,
        max: Duration::from_secs(1),
    };
    profile
}

fn session_profile(timeout: Duration) -> Profile {
    let mut profile = profile();
    profile.name = "memory-session";
    profile.lease = LeaseKind::Session;
    profile.ttl_min = timeout.max(profile.ttl_min);
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_profiles() {
        let table = include_str!("../docs.md");
        let columns = [profile(), session_profile(Duration::from_secs(10))].map(|it| facts(&it));
        for ((name, lease), (_, session)) in columns[0].iter().zip(&columns[1]) {
            let row = format!("| {name} | {lease} | {session} |\n");
            assert!(table.contains(&row), "docs.md lacks {row}");
        }
    }

    fn facts(profile: &Profile) -> [(&'static str, String); 14] {
        [
            ("name", profile.name.to_owned()),
            ("lease", format!("{:?}", profile.lease)),
            ("fence", format!("{:?}", profile.fence)),
            ("smallest TTL", format!("{:?}", profile.ttl_min)),
            ("largest TTL", format!("{:?}", profile.ttl_max)),
            ("granularity", format!("{:?}", profile.granularity)),
            ("always in line", profile.native_queue.to_string()),
            ("fair on request", profile.fair.to_string()),
            ("shared", profile.shared.to_string()),
            ("permits", profile.permits.to_string()),
            ("wake-up", format!("{:?}", profile.wakeup)),
            ("tells holders of evictions", profile.watches_holders.to_string()),
            ("looks without a hint every", format!("{:?}", profile.poll.max)),
            ("batch", profile.batch.to_string()),
        ]
    }
}
