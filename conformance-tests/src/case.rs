//! What a case is.

use std::time::Duration;

use futures_util::future::BoxFuture;
use lock_core::FenceKind;
use lock_core::LeaseKind;
use lock_core::Profile;
use lock_core::Wakeup;

use crate::Cx;
use crate::Fixture;
use crate::Outcome;

/// One claim about a store, with the clause it comes from.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// `group::sentence`.
    pub name: &'static str,
    /// The clauses it checks, separated by spaces: `G1`–`G12` for users, `S1`–`S12` for stores.
    pub clauses: &'static str,
    /// Its numbers in the catalogue of faults, separated by spaces; empty if it has none.
    pub catalogue: &'static str,
    /// What store and fixture must be able to do.
    pub needs: &'static [Need],
    /// Whether it can run beside others.
    pub load: Load,
    /// How long it may take.
    pub limit: Duration,
    pub(crate) run: fn(Cx) -> BoxFuture<'static, Outcome>,
}

/// What a case needs of a store or its fixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// Each lock has a TTL of its own in the store.
    LeasePerLock,
    /// Fences come from a clock.
    ClockedFence,
    /// Waiters can take a place in the store's line.
    Line,
    /// Readers can share a lock.
    Shared,
    /// A lock can have several permits.
    Permits,
    /// The store tells of releases.
    Push,
    /// The store tells a holder of its eviction.
    WatchesHolders,
    /// Another process can reach the store.
    Processes,
}

impl Need {
    /// Returns why it is not met, or nothing if it is.
    pub(crate) fn missing(self, profile: &Profile, fixture: &dyn Fixture) -> Option<&'static str> {
        let (met, reason) = match self {
            Self::LeasePerLock => {
                (profile.lease == LeaseKind::PerLock, "locks have no TTL of their own in the store")
            }
            Self::ClockedFence => {
                (profile.fence == FenceKind::Clocked, "fences do not come from a clock")
            }
            Self::Line => (profile.fair || profile.native_queue, "the store has no line"),
            Self::Shared => (profile.shared, "the store has no shared locks"),
            Self::Permits => (profile.permits, "the store has no permits"),
            Self::Push => (profile.wakeup == Wakeup::Push, "the store does not tell of releases"),
            Self::WatchesHolders => {
                (profile.watches_holders, "the store does not tell holders of evictions")
            }
            Self::Processes => {
                (fixture.environment().is_some(), "no other process can reach the store")
            }
        };
        (!met).then_some(reason)
    }
}

/// Whether a case can run beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Load {
    /// It mostly waits.
    Light,
    /// It uses the machine so much that the timing of others would suffer.
    Heavy,
}

/// Writes a table of cases; the sentence is the function's name.
macro_rules! cases {
    ($group:literal: $($clauses:literal $catalogue:literal $function:ident
        $([$($need:ident),+])? $($load:ident)? $(in $limit:literal)?;)+) => {
        pub(super) const CASES: &[$crate::Case] = &[$($crate::Case {
            name: concat!($group, "::", stringify!($function)),
            clauses: $clauses,
            catalogue: $catalogue,
            needs: &[$($($crate::Need::$need),+)?],
            load: $crate::case::or_light(&[$($crate::Load::$load)?]),
            limit: $crate::case::or_half_minute(&[$($limit)?]),
            run: |cx| Box::pin($function(cx)),
        }),+];
    };
}
pub(crate) use cases;

pub(crate) const fn or_light(named: &[Load]) -> Load {
    if let [load] = named { *load } else { Load::Light }
}

pub(crate) const fn or_half_minute(named: &[u64]) -> Duration {
    Duration::from_secs(if let [seconds] = named { *seconds } else { 30 })
}
