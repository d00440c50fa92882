//! What this session holds and where it stands in line; only the session's actor writes it. Pure.
//!
//! The server would let a session take a key that it has already, in any mode, and count: so it is never
//! asked for one that stands here.

use std::collections::HashMap;
use std::time::Duration;

use lock_core::Claim;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Result;
use lock_core::Token;

/// All claims of one session.
#[derive(Debug, Default)]
pub(crate) struct Table {
    keys: HashMap<LockKey, Entry>,
    /// Whose number is locked on the server; two keys can have the same.
    locked: HashMap<i64, LockKey>,
}

#[derive(Debug)]
struct Entry {
    num: i64,
    own: Vec<Own>,
}

/// One claim.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) token: Token,
    pub(crate) mode: Mode,
    owner: Owner,
    ttl: Duration,
    /// None of who stands in line.
    pub(crate) fence: Option<Fence>,
}

/// How the session has a key's advisory lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Native {
    None,
    Shared,
    Exclusive,
}

impl Native {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        }
    }
}

/// What is to be done with a claim that tries.
#[derive(Debug)]
pub(crate) enum Way {
    /// It holds already.
    Repeat(Fence),
    /// This very session is in the way.
    Refuse(Vec<Holder>),
    /// The server may be asked for the lock.
    Fast,
    /// The server has to look at modes and line.
    InLine,
}

/// What has to be done on the server to take a claim back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undo {
    pub(crate) num: i64,
    /// Whether it held the key alone.
    pub(crate) exclusive: bool,
    /// Whether the session's lock that others can share goes with it.
    pub(crate) last: bool,
}

impl Table {
    /// Decides how to try.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the claim contradicts one of this session.
    pub(crate) fn way(&self, claim: &Claim) -> Result<Way> {
        let own = self.own(&claim.key);
        own.iter().try_for_each(|own| claim.check_beside(own.token, own.mode))?;
        if let Some(own) = own.iter().find(|own| own.token == claim.token) {
            return Ok(own.fence.map_or(Way::InLine, Way::Repeat));
        }
        let native = self.native(&claim.key);
        let alone = native == Native::Exclusive || claim.mode == Mode::Exclusive;
        if native != Native::None && alone && !claim.queue {
            return Ok(Way::Refuse(self.holders(&claim.key)));
        }
        let fast = own.is_empty() && claim.mode == Mode::Exclusive && !claim.queue;
        Ok(if fast { Way::Fast } else { Way::InLine })
    }

    pub(crate) fn find(&self, claim: &Claim) -> Option<&Own> {
        self.own(&claim.key).iter().find(|own| own.token == claim.token)
    }

    pub(crate) fn native(&self, key: &LockKey) -> Native {
        let mut held = self.own(key).iter().filter(|own| own.fence.is_some());
        match held.next() {
            None => Native::None,
            Some(own) if own.mode == Mode::Exclusive => Native::Exclusive,
            Some(_) => Native::Shared,
        }
    }

    /// Returns another key that this session has locked by the same number.
    pub(crate) fn twin(&self, key: &LockKey, num: i64) -> Option<&LockKey> {
        self.locked.get(&num).filter(|other| *other != key)
    }

    /// Notes a claim that holds, or with no fence one that stands in line.
    pub(crate) fn put(&mut self, claim: &Claim, num: i64, fence: Option<Fence>) {
        let entry = self.keys.entry(claim.key.clone()).or_insert(Entry { num, own: Vec::new() });
        entry.own.retain(|own| own.token != claim.token);
        let (token, mode, ttl) = (claim.token, claim.mode, claim.ttl);
        entry.own.push(Own { token, mode, owner: claim.owner.clone(), ttl, fence });
        if fence.is_some() {
            self.locked.insert(num, claim.key.clone());
        }
    }

    /// Takes in the TTL with which a claim is to go on.
    pub(crate) fn go_on(&mut self, claim: &Claim) {
        let own = self.keys.get_mut(&claim.key).map(|entry| &mut entry.own);
        let own = own.into_iter().flatten().find(|own| own.token == claim.token);
        own.into_iter().for_each(|own| own.ttl = claim.ttl);
    }

    /// Returns the shortest TTL of all claims.
    pub(crate) fn shortest_ttl(&self) -> Option<Duration> {
        self.keys.values().flat_map(|entry| &entry.own).map(|own| own.ttl).min()
    }

    /// Says what taking `token` back will need.
    pub(crate) fn undo(&self, key: &LockKey, token: Token) -> Option<Undo> {
        let entry = self.keys.get(key)?;
        let own = entry.own.iter().find(|own| own.token == token)?;
        let holds = own.fence.is_some();
        let others = entry.own.iter().filter(|own| own.token != token && own.fence.is_some());
        let exclusive = holds && own.mode == Mode::Exclusive;
        let last = holds && !exclusive && others.count() == 0;
        Some(Undo { num: entry.num, exclusive, last })
    }

    pub(crate) fn remove(&mut self, key: &LockKey, token: Token) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        entry.own.retain(|own| own.token != token);
        if !entry.own.iter().any(|own| own.fence.is_some()) {
            self.locked.remove(&entry.num);
        }
        if entry.own.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Returns how the session should have the lock of a number.
    pub(crate) fn expects(&self, num: i64) -> Native {
        self.locked.get(&num).map_or(Native::None, |key| self.native(key))
    }

    /// Returns how many advisory locks the session has.
    pub(crate) fn locks(&self) -> usize {
        self.locked.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Tells whether there are no more than so many claims.
    pub(crate) fn has_at_most(&self, claims: usize) -> bool {
        // Each key has one at least, so few are looked at.
        let own = |entry: &Entry| entry.own.len();
        self.keys.len() <= claims && self.keys.values().map(own).sum::<usize>() <= claims
    }

    fn own(&self, key: &LockKey) -> &[Own] {
        self.keys.get(key).map_or(&[], |entry| &entry.own)
    }

    fn holders(&self, key: &LockKey) -> Vec<Holder> {
        let held = self.own(key).iter().filter_map(|own| {
            let holder = Holder::new().owned_by(own.owner.as_str()).in_mode(own.mode);
            Some(holder.with_fence(own.fence?))
        });
        held.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(key: &str, mode: &str) -> Claim {
        let (key, owner) = (LockKey::new(key).unwrap(), Owner::new("ann").unwrap());
        let mut claim = Claim::new(key, owner, Duration::from_secs(1));
        claim.mode = mode.parse().unwrap();
        claim
    }

    fn fence() -> Option<Fence> {
        Some(Fence::new(7).unwrap())
    }

    #[test]
    fn a_key_that_the_session_has_is_not_asked_for_again() {
        let mut table = Table::default();
        let held = claim("a", "exclusive");
        assert!(matches!(table.way(&held), Ok(Way::Fast)));
        table.put(&held, 1, fence());
        assert!(matches!(table.way(&held), Ok(Way::Repeat(_))));
        let mut other = claim("a", "exclusive");
        assert!(matches!(table.way(&other), Ok(Way::Refuse(holders)) if holders.len() == 1));
        assert!(matches!(table.way(&claim("a", "shared")), Ok(Way::Refuse(_))));
        other.queue = true;
        assert!(matches!(table.way(&other), Ok(Way::InLine)));
    }

    #[test]
    fn readers_share_the_lock_of_the_session() {
        let mut table = Table::default();
        let (one, two) = (claim("a", "shared"), claim("a", "shared"));
        assert!(matches!(table.way(&one), Ok(Way::InLine)));
        table.put(&one, 1, fence());
        table.put(&two, 1, fence());
        assert!(matches!(table.way(&claim("a", "exclusive")), Ok(Way::Refuse(_))));
        assert_eq!((table.locks(), table.expects(1)), (1, Native::Shared));
        let undo = |table: &Table, claim: &Claim| table.undo(&claim.key, claim.token).unwrap();
        assert!(!undo(&table, &one).last);
        table.remove(&one.key, one.token);
        assert!(undo(&table, &two).last && !undo(&table, &two).exclusive);
        table.remove(&two.key, two.token);
        assert!(table.is_empty() && table.locks() == 0);
    }

    #[test]
    fn the_shortest_ttl_counts() {
        let mut table = Table::default();
        let (mut one, mut two) = (claim("a", "exclusive"), claim("b", "exclusive"));
        (one.ttl, two.ttl) = (Duration::from_secs(2), Duration::from_secs(9));
        table.put(&one, 1, fence());
        table.put(&two, 2, fence());
        assert_eq!(table.shortest_ttl(), Some(one.ttl));
        one.ttl = Duration::from_secs(20);
        table.go_on(&one);
        assert_eq!(table.shortest_ttl(), Some(two.ttl));
    }

    #[test]
    fn a_place_in_line_is_no_lock() {
        let mut table = Table::default();
        let place = claim("a", "exclusive");
        table.put(&place, 1, None);
        assert_eq!((table.locks(), table.native(&place.key)), (0, Native::None));
        assert!(matches!(table.way(&place), Ok(Way::InLine)));
        let undo = table.undo(&place.key, place.token).unwrap();
        assert!(!undo.exclusive && !undo.last);
    }

    #[test]
    fn two_keys_of_one_number_are_known_as_such() {
        let mut table = Table::default();
        table.put(&claim("a", "exclusive"), 1, fence());
        assert_eq!(table.twin(&LockKey::new("b").unwrap(), 1).unwrap().as_str(), "a");
        assert!(table.twin(&LockKey::new("a").unwrap(), 1).is_none());
    }

    #[test]
    fn a_claim_that_contradicts_another_is_a_mistake() {
        let mut table = Table::default();
        table.put(&claim("a", "permits:2"), 1, fence());
        assert!(table.way(&claim("a", "permits:3")).is_err());
        assert!(matches!(table.way(&claim("a", "permits:2")), Ok(Way::InLine)));
    }
}
