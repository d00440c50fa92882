//! What the reference remembers: who was granted what, and which faults excuse what.

use std::time::Duration;

use lock_core::BootInstant;

use super::hold::Hold;
use super::program::KEYS;
use super::program::SITES;
use super::program::ms;

/// How long after the last fault of a provider its traces may be seen: two time limits of a request, a
/// few pauses between tries.
const AFTERMATH: Duration = Duration::from_secs(16);

/// The same for a provider that was shut down amid faults: the longest TTL ends what it left.
const BEQUEST: Duration = Duration::from_secs(70);

/// How late a waiter may be whom no hint reaches: it looks every second; a counted attempt or the keeping
/// of its place in line may come later.
pub(crate) const UNHINTED: Duration = ms(1_800);

pub(crate) struct Ledger {
    pub(crate) session: bool,
    pub(crate) holds: Vec<Hold>,
    /// Keys and fences of detached holds, and of thieves.
    pub(crate) strangers: Vec<(usize, u64)>,
    pub(crate) sites: [Site; SITES],
    pub(crate) keys: [Key; KEYS.len()],
    /// When something was taken away last.
    robbed_at: BootInstant,
    jumps: Vec<(BootInstant, BootInstant)>,
}

/// What is known of a provider's way to the store.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    /// From when on no fault excuses anything.
    calm_from: BootInstant,
    /// From when on its hints arrive.
    prompt_from: BootInstant,
    pub(crate) closed: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// The highest fence that anybody has been granted.
    pub(crate) fence: u64,
    /// Until when waiters may not know that it is free.
    pub(crate) quiet_until: BootInstant,
    /// Since when it has been seen free although somebody waits.
    pub(crate) free_since: Option<BootInstant>,
}

impl Ledger {
    pub(crate) fn new(session: bool) -> Self {
        let never = BootInstant::from_nanos(0);
        let site = Site { calm_from: never, prompt_from: never, closed: false };
        let key = Key { fence: 0, quiet_until: never, free_since: None };
        Self {
            session,
            holds: Vec::new(),
            strangers: Vec::new(),
            sites: [site; SITES],
            keys: [key; KEYS.len()],
            robbed_at: never,
            jumps: Vec::new(),
        }
    }

    /// Notes that requests of `site` may fail from now on.
    pub(crate) fn storm(&mut self, site: usize) {
        self.sites[site].calm_from = BootInstant::FAR;
        self.holds.iter_mut().filter(|hold| hold.site == site).for_each(|hold| hold.excused = true);
    }

    pub(crate) fn mute(&mut self, site: usize) {
        self.sites[site].prompt_from = BootInstant::FAR;
    }

    pub(crate) fn heal(&mut self, site: usize, now: BootInstant) {
        let site = &mut self.sites[site];
        if site.calm_from == BootInstant::FAR {
            site.calm_from = now + if site.closed { BEQUEST } else { AFTERMATH };
        }
        if site.prompt_from == BootInstant::FAR {
            site.prompt_from = now + UNHINTED;
        }
    }

    /// Whether no fault has been on the way of `site` since `since`.
    pub(crate) fn is_calm(&self, site: usize, since: BootInstant) -> bool {
        self.sites[site].calm_from <= since
    }

    pub(crate) fn all_calm(&self, since: BootInstant) -> bool {
        (0..SITES).all(|site| self.is_calm(site, since))
    }

    pub(crate) fn is_prompt(&self, site: usize, now: BootInstant) -> bool {
        self.sites[site].prompt_from <= now
    }

    pub(crate) fn all_prompt(&self, now: BootInstant) -> bool {
        (0..SITES).all(|site| self.is_prompt(site, now))
    }

    /// Notes that what `falls` names may have been taken away, and that nobody may have been told.
    pub(crate) fn rob(&mut self, now: BootInstant, falls: impl Fn(&Hold) -> bool) {
        self.robbed_at = now;
        for hold in self.holds.iter_mut().filter(|hold| !hold.over && falls(hold)) {
            hold.robbed = Some(now);
            self.keys[hold.key].quiet_until = now + UNHINTED;
        }
    }

    /// Whether what was granted to a call since `began` may have been taken away before it was told.
    pub(crate) fn may_be_robbed(&self, began: BootInstant) -> Option<BootInstant> {
        Some(self.robbed_at).filter(|at| *at >= began)
    }

    pub(crate) fn hush(&mut self, key: usize, now: BootInstant) {
        self.keys[key].quiet_until = now + UNHINTED;
    }

    /// Notes that nothing ran between two instants.
    pub(crate) fn jump(&mut self, from: BootInstant, to: BootInstant) {
        self.jumps.push((from, to));
        let slept = to.saturating_since(from);
        for hold in &mut self.holds {
            // What was nearly over before the sleep may be over by it.
            let left = hold.view.valid_until().saturating_since(from);
            hold.excused |= left <= slept;
        }
        for key in 0..KEYS.len() {
            self.keys[key].free_since = None;
            self.hush(key, to);
        }
    }

    pub(crate) fn has_jumped_since(&self, since: BootInstant) -> bool {
        self.jumps.iter().any(|(_, to)| *to > since)
    }

    /// The first instant from `at` on at which anything ran.
    pub(crate) fn ran(&self, at: BootInstant) -> BootInstant {
        let over = self.jumps.iter().find(|(from, to)| *from < at && at < *to);
        over.map_or(at, |(_, to)| *to)
    }

    /// The holds that `owner` can enter at `site`.
    pub(crate) fn entries(&self, site: usize, key: usize, owner: &str) -> Vec<&Hold> {
        let enters = |hold: &&Hold| {
            (hold.site, hold.key) == (site, key)
                && hold.asked.owner == Some(owner)
                && hold.is_guarded()
                && hold.view.is_valid()
        };
        self.holds.iter().filter(enters).collect()
    }
}
