//! What the store itself shows, by a client of its own that nothing ever happens to.

use std::time::Duration;

use futures_util::FutureExt as _;
use lock_core::Backend as _;
use lock_core::LockKey;
use lock_core::Mode;
use lock_memory::Memory;

use super::program::KEYS;

/// All keys at one instant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Truth(pub(crate) Vec<KeyTruth>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyTruth {
    pub(crate) holders: Vec<Holding>,
    /// How many stand in the store's line.
    pub(crate) waiting: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Holding {
    pub(crate) fence: u64,
    pub(crate) mode: Mode,
    /// For how long the store will keep it.
    pub(crate) left: Duration,
}

impl Truth {
    pub(crate) fn of(probe: &Memory) -> Self {
        Self(KEYS.iter().map(|key| KeyTruth::of(probe, key)).collect())
    }

    pub(crate) fn key(&self, key: usize) -> &KeyTruth {
        &self.0[key]
    }

    /// Who holds what, without the time.
    pub(crate) fn fences(&self) -> Vec<Vec<u64>> {
        self.0.iter().map(KeyTruth::fences).collect()
    }
}

impl KeyTruth {
    fn of(probe: &Memory, key: &str) -> Self {
        let key = LockKey::new(key).expect("a good key");
        let state = probe.inspect(&key).now_or_never().expect("memory answers at once");
        let state = state.expect("nothing happens to the probe");
        let holders = state.holders.iter().map(|holder| Holding {
            fence: holder.fence.expect("memory tells fences").get(),
            mode: holder.mode.expect("memory tells modes"),
            left: holder.expires_in.expect("memory tells when leases end"),
        });
        Self { holders: holders.collect(), waiting: state.waiting }
    }

    pub(crate) fn find(&self, fence: u64) -> Option<&Holding> {
        self.holders.iter().find(|holding| holding.fence == fence)
    }

    pub(crate) fn is_free(&self) -> bool {
        self.holders.is_empty()
    }

    pub(crate) fn fences(&self) -> Vec<u64> {
        let mut fences: Vec<_> = self.holders.iter().map(|holding| holding.fence).collect();
        fences.sort_unstable();
        fences
    }

    /// Whether a claim of `mode` can hold beside those who do.
    pub(crate) fn admits(&self, mode: Mode) -> bool {
        admits(self.holders.iter().map(|holding| holding.mode), mode)
    }
}

/// The conflict table: any two conflict but readers, and permits of one number up to it.
pub(crate) fn admits(others: impl Iterator<Item = Mode>, mode: Mode) -> bool {
    let others: Vec<_> = others.collect();
    let room = match mode {
        Mode::Exclusive => 0,
        Mode::Shared => usize::MAX,
        Mode::Permits { of } => usize::try_from(of.get()).expect("a small number") - 1,
    };
    others.len() <= room && others.iter().all(|other| *other == mode)
}
