//! One picture out of what several members show: pure.

use std::time::Duration;

use crate::Fence;
use crate::Holder;

/// A holder, and at how many members it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    holder: Holder,
    leases: Vec<Option<Duration>>,
}

/// Puts together what the members show. Owner, mode and fence tell one holder from another, for members
/// show no tokens; a fence is the same everywhere once its acquisition is complete.
pub(super) fn gather<'a>(shown: impl IntoIterator<Item = &'a [Holder]>) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for holder in shown.into_iter().flatten() {
        match all.iter_mut().find(|seen| seen.is(holder)) {
            Some(seen) => seen.leases.push(holder.expires_in),
            None => {
                all.push(Seen { holder: holder.clone(), leases: vec![holder.expires_in] });
            }
        }
    }
    all.sort_by_key(|seen| std::cmp::Reverse(seen.votes()));
    all
}

impl Seen {
    fn is(&self, other: &Holder) -> bool {
        let id = |it: &Holder| (it.owner.clone(), it.mode, it.fence, it.other_key.clone());
        id(&self.holder) == id(other)
    }

    /// At how many members it holds.
    pub(super) fn votes(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn fence(&self) -> Option<Fence> {
        self.holder.fence
    }

    /// The holder, for as long as `block` members keep it, or all that do if they are fewer.
    pub(super) fn into_holder(mut self, block: usize) -> Holder {
        // Without an end sorts last, as it should: it is in the way for longest.
        self.leases.sort_by_key(|left| std::cmp::Reverse(left.unwrap_or(Duration::MAX)));
        let last = self.leases.len().min(block) - 1;
        self.holder.expires_in = self.leases[last];
        self.holder
    }
}

/// Keeps those that may be in the way: enough members show them, or would if the `unknown` ones did.
pub(super) fn holders(seen: Vec<Seen>, unknown: usize, block: usize) -> Vec<Holder> {
    let holds = |seen: &Seen| seen.votes() + unknown >= block;
    seen.into_iter().filter(holds).map(|seen| seen.into_holder(block)).collect()
}

/// Those who hold enough members; if nobody does, all who hold one, without their fences, which may not be
/// settled.
pub(super) fn in_the_way(seen: Vec<Seen>, block: usize) -> Vec<Holder> {
    if seen.iter().any(|seen| seen.votes() >= block) {
        return holders(seen, 0, block);
    }
    let mut all: Vec<Holder> = Vec::new();
    for mut holder in seen.into_iter().map(|seen| seen.into_holder(block)) {
        holder.fence = None;
        if !all.iter().any(|other| (&other.owner, other.mode) == (&holder.owner, holder.mode)) {
            all.push(holder);
        }
    }
    all
}

/// When `wanted` of the members that refused may be free again.
pub(super) fn free_in(mut refusals: Vec<Option<Duration>>, wanted: usize) -> Option<Duration> {
    refusals.sort_by_key(|left| left.unwrap_or(Duration::MAX));
    refusals.get(wanted.max(1) - 1).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn holder(owner: &str, fence: u64, left: u64) -> Holder {
        Holder::new().owned_by(owner).with_fence(Fence::new(fence).unwrap()).expiring_in(s(left))
    }

    #[test]
    fn who_holds_a_majority_comes_first_and_for_as_long_as_a_majority_keeps_it() {
        let shown =
            [vec![holder("bob", 7, 9)], vec![holder("ann", 8, 1)], vec![holder("ann", 8, 5)]];
        let seen = gather(shown.iter().map(Vec::as_slice));
        assert_eq!(holders(seen, 0, 2), [holder("ann", 8, 1)]);
        let shown = [8, 3, 5].map(|left| vec![holder("ann", 8, left)]);
        let seen = gather(shown.iter().map(Vec::as_slice));
        assert_eq!(holders(seen, 0, 2), [holder("ann", 8, 5)]);
    }

    #[test]
    fn a_minority_is_shown_only_while_others_do_not_answer() {
        let one = || gather([[holder("ann", 8, 1)].as_slice()]);
        assert_eq!(holders(one(), 0, 2), []);
        assert_eq!(holders(one(), 1, 2), [holder("ann", 8, 1)]);
    }

    #[test]
    fn a_fence_is_told_only_of_who_holds_enough() {
        let shown = [[holder("ann", 8, 1)], [holder("bob", 7, 5)], [holder("ann", 8, 1)]];
        let seen = || gather(shown.iter().map(<[Holder; 1]>::as_slice));
        assert_eq!(in_the_way(seen(), 2), [holder("ann", 8, 1)]);
        let shown = [[holder("ann", 8, 1)], [holder("ann", 7, 5)], [holder("bob", 6, 1)]];
        let seen = gather(shown.iter().map(<[Holder; 1]>::as_slice));
        let nameless = |name: &str| Holder::new().owned_by(name).expiring_in(s(1));
        assert_eq!(in_the_way(seen, 2), [nameless("ann"), nameless("bob")]);
    }

    #[test]
    fn another_fence_is_another_acquisition() {
        let shown = [[holder("ann", 7, 1)], [holder("ann", 8, 1)]];
        assert_eq!(gather(shown.iter().map(<[Holder; 1]>::as_slice)).len(), 2);
    }

    #[test]
    fn it_is_free_when_enough_are() {
        let refusals = || vec![None, Some(s(3)), Some(s(1))];
        assert_eq!(free_in(refusals(), 1), Some(s(1)));
        assert_eq!(free_in(refusals(), 2), Some(s(3)));
        assert_eq!(free_in(refusals(), 3), None);
    }
}
