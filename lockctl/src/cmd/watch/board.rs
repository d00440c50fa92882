//! What the looks at the store have shown: pure, the caller passes in the time.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use lock::Holder;
use lock::KeyState;

use super::super::state::owner;
use crate::text::printable;
use crate::text::width;

/// How long a change stays marked, and a freed key in sight.
const FRESH: Duration = Duration::from_secs(3);

/// Over how long the rate of changes is taken.
const WINDOW: Duration = Duration::from_secs(10);

/// The keys, by name.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: BTreeMap<String, Entry>,
    first_look: Option<Instant>,
    last_look: Option<Instant>,
    changes: VecDeque<(Instant, usize)>,
    outage: Option<(Instant, String)>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: KeyState,
    /// The key, fit for a terminal.
    pub(super) key: String,
    pub(super) tenants: Vec<Tenant>,
    /// What a filter looks through.
    haystack: String,
    change: Option<(Change, Instant)>,
}

/// One holder, and what more than one look tells of it.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) holder: Holder,
    /// The owner, fit for a terminal.
    pub(super) owner: String,
    /// The longest time left that was seen: as near to its TTL as we can know.
    pub(super) longest: Duration,
    /// For how long it has held, at the last look.
    pub(super) age: Option<Duration>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Taken,
    Changed,
    Freed,
}

/// The figures of the top line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Totals {
    pub(super) held: usize,
    pub(super) waiting: u64,
    /// Changes of keys per second.
    pub(super) rate: f64,
}

impl Board {
    /// Takes in what the store has, and returns the keys that have changed since the last look.
    pub(super) fn look(
        &mut self,
        states: Vec<KeyState>,
        now: Instant,
        wall: SystemTime,
    ) -> Vec<&KeyState> {
        let first = self.first_look.is_none();
        let mut before = std::mem::take(&mut self.entries);
        for state in states {
            let old = before.remove(&state.key);
            let entry = Entry::new(state, old, now, wall);
            self.entries.insert(entry.state.key.clone(), entry);
        }
        let gone = before.into_values().filter_map(|entry| entry.freed(now));
        self.entries.extend(gone.map(|entry| (entry.state.key.clone(), entry)));
        self.first_look.get_or_insert(now);
        self.last_look = Some(now);
        self.outage = None;
        let changed = |entry: &&Entry| matches!(entry.change, Some((_, at)) if at == now);
        let count = self.entries.values().filter(changed).count();
        if first {
            // Nobody has looked before: all of it is news to a script, none of it a change.
            self.entries.values_mut().for_each(|entry| entry.change = None);
            return self.entries.values().map(|entry| &entry.state).collect();
        }
        self.changes.push_back((now, count));
        while self.changes.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.changes.pop_front();
        }
        self.entries.values().filter(changed).map(|entry| &entry.state).collect()
    }

    /// Notes that a look has failed.
    pub(super) fn fail(&mut self, error: String, now: Instant) {
        let since = self.outage.as_ref().map_or(now, |(since, _)| *since);
        self.outage = Some((since, printable(&error)));
    }

    /// Tells since when looks fail, and why the last one did.
    pub(super) fn outage(&self) -> Option<(Instant, &str)> {
        self.outage.as_ref().map(|(since, error)| (*since, error.as_str()))
    }

    /// Tells whether the store has answered at all.
    pub(super) fn is_blank(&self) -> bool {
        self.first_look.is_none()
    }

    /// Returns the keys that contain `filter`, in lower case, in their name or an owner's.
    pub(super) fn matching(&self, filter: &str) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.haystack.contains(filter))
    }

    /// How much time has passed since the last look.
    pub(super) fn since_look(&self, now: Instant) -> Duration {
        self.last_look.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    pub(super) fn totals(&self, now: Instant) -> Totals {
        let window = self.first_look.map_or(WINDOW, |at| now.duration_since(at).min(WINDOW));
        let changes: usize = self.changes.iter().map(|(_, count)| count).sum();
        Totals {
            held: self.entries.values().filter(|entry| entry.state.is_locked()).count(),
            waiting: self.entries.values().map(|entry| entry.state.waiting).sum(),
            rate: changes as f64 / window.as_secs_f64().max(1.0),
        }
    }

    /// How wide the widest key and owner are.
    pub(super) fn widths(&self) -> (usize, usize) {
        let keys = self.entries.values().map(|entry| width(&entry.key));
        let tenants = self.entries.values().flat_map(|entry| &entry.tenants);
        let owners = tenants.map(|tenant| width(&tenant.owner));
        (keys.max().unwrap_or(0), owners.max().unwrap_or(0))
    }
}

impl Entry {
    fn new(state: KeyState, old: Option<Self>, now: Instant, wall: SystemTime) -> Self {
        let change = match &old {
            Some(old) if old.state.holders.is_empty() && state.is_locked() => {
                Some((Change::Taken, now))
            }
            Some(old) if !same(&old.state, &state) => Some((Change::Changed, now)),
            Some(old) => old.change,
            None => Some((Change::Taken, now)),
        };
        let known = old.map(|old| old.tenants).unwrap_or_default();
        let tenant = |holder: &Holder| Tenant::new(holder, &known, wall);
        let tenants: Vec<_> = state.holders.iter().map(tenant).collect();
        let key = printable(&state.key);
        let mut haystack = key.to_lowercase();
        for tenant in &tenants {
            haystack.push('\n');
            haystack.push_str(&tenant.owner.to_lowercase());
        }
        Self { state, key, tenants, haystack, change }
    }

    /// What is left of a key that the store has no more; `None` once it has been in sight for long.
    fn freed(mut self, now: Instant) -> Option<Self> {
        if self.state.holders.is_empty() && self.state.waiting == 0 {
            return self.fresh(now).is_some().then_some(self);
        }
        self.state.holders.clear();
        self.state.waiting = 0;
        self.tenants.clear();
        self.change = Some((Change::Freed, now));
        Some(self)
    }

    /// Tells what happened to the key in the last seconds.
    pub(super) fn fresh(&self, now: Instant) -> Option<Change> {
        let (change, at) = self.change?;
        (now.saturating_duration_since(at) < FRESH).then_some(change)
    }
}

impl Tenant {
    fn new(holder: &Holder, known: &[Self], wall: SystemTime) -> Self {
        let before = known.iter().find(|known| is_same(&known.holder, holder));
        let left = holder.expires_in.unwrap_or_default();
        Self {
            owner: printable(&owner(holder)),
            longest: before.map_or(left, |before| before.longest.max(left)),
            age: holder.acquired_at.map(|at| wall.duration_since(at).unwrap_or_default()),
            holder: holder.clone(),
        }
    }
}

/// Tells whether nothing but leases has changed.
fn same(a: &KeyState, b: &KeyState) -> bool {
    a.waiting == b.waiting
        && a.holders.len() == b.holders.len()
        && a.holders.iter().zip(&b.holders).all(|(a, b)| is_same(a, b))
}

/// Tells whether it is the same hold, renewed or not.
fn is_same(a: &Holder, b: &Holder) -> bool {
    (a.fence, &a.owner, a.mode, a.acquired_at, &a.other_key)
        == (b.fence, &b.owner, b.mode, b.acquired_at, &b.other_key)
}

#[cfg(test)]
mod tests {
    use lock::Fence;

    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn held(key: &str, fence: u64, left: u64) -> KeyState {
        let holder = Holder::new().owned_by("ann").with_fence(Fence::new(fence).unwrap());
        KeyState::new(key, vec![holder.expiring_in(secs(left))], 0)
    }

    fn look(board: &mut Board, states: Vec<KeyState>, now: Instant) -> Vec<String> {
        let changed = board.look(states, now, SystemTime::UNIX_EPOCH);
        changed.into_iter().map(|state| state.key.clone()).collect()
    }

    fn fresh(board: &Board, now: Instant) -> Vec<(&str, Option<Change>)> {
        board.matching("").map(|entry| (entry.key.as_str(), entry.fresh(now))).collect()
    }

    #[test]
    fn the_first_look_is_news_but_no_change() {
        let (mut board, now) = (Board::default(), Instant::now());
        assert_eq!(look(&mut board, vec![held("b", 1, 9), held("a", 2, 9)], now), ["a", "b"]);
        assert_eq!(fresh(&board, now), [("a", None), ("b", None)]);
        assert_eq!(board.totals(now + secs(10)), Totals { held: 2, waiting: 0, rate: 0.0 });
    }

    #[test]
    fn what_was_taken_changed_and_freed_is_marked_for_a_while() {
        let (mut board, start) = (Board::default(), Instant::now());
        look(&mut board, vec![held("a", 1, 9), held("b", 2, 9), held("c", 3, 9)], start);
        let now = start + secs(1);
        let mut waited = held("c", 3, 9);
        waited.waiting = 1;
        let states = vec![held("a", 1, 8), waited, held("d", 4, 9)];
        assert_eq!(look(&mut board, states.clone(), now), ["b", "c", "d"]);
        let marks = [
            ("a", None),
            ("b", Some(Change::Freed)),
            ("c", Some(Change::Changed)),
            ("d", Some(Change::Taken)),
        ];
        assert_eq!(fresh(&board, now), marks);
        let totals = board.totals(now + secs(9));
        assert_eq!((totals.held, totals.waiting, totals.rate), (3, 1, 0.3));
        assert!(look(&mut board, states.clone(), now + secs(1)).is_empty());
        assert_eq!(fresh(&board, now + secs(1)), marks, "still in sight");
        look(&mut board, states, now + FRESH);
        assert_eq!(fresh(&board, now + FRESH), [("a", None), ("c", None), ("d", None)]);
    }

    #[test]
    fn another_holder_is_a_change_and_a_renewal_is_none() {
        let (mut board, now) = (Board::default(), Instant::now());
        look(&mut board, vec![held("a", 1, 9)], now);
        assert!(look(&mut board, vec![held("a", 1, 10)], now + secs(1)).is_empty());
        assert_eq!(look(&mut board, vec![held("a", 2, 10)], now + secs(2)), ["a"]);
        look(&mut board, vec![], now + secs(3));
        look(&mut board, vec![held("a", 3, 10)], now + secs(4));
        assert_eq!(fresh(&board, now + secs(4)), [("a", Some(Change::Taken))]);
    }

    #[test]
    fn a_full_bar_is_the_longest_lease_that_was_seen_of_a_hold() {
        let (mut board, now) = (Board::default(), Instant::now());
        for (fence, left, longest) in [(1, 5, 5), (1, 9, 9), (1, 6, 9), (2, 3, 3)] {
            look(&mut board, vec![held("a", fence, left)], now);
            let seen = board.matching("").map(|entry| entry.tenants[0].longest).next();
            assert_eq!(seen, Some(secs(longest)));
        }
    }

    #[test]
    fn an_outage_is_counted_from_its_begin_and_ends_with_an_answer() {
        let (mut board, now) = (Board::default(), Instant::now());
        look(&mut board, vec![held("a", 1, 9)], now);
        board.fail("away".to_owned(), now + secs(1));
        board.fail("still \x1b away".to_owned(), now + secs(2));
        assert_eq!(board.outage(), Some((now + secs(1), "still \u{fffd} away")));
        assert_eq!(board.matching("").count(), 1, "what was known stays");
        look(&mut board, vec![], now + secs(3));
        assert_eq!(board.outage(), None);
    }
}
