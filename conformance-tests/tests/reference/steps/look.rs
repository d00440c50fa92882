//! What the store shows.

use std::time::Duration;

use lock_core::Claim;
use lock_core::Cursor;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Page;
use lock_core::Peek;

use super::Steps;
use super::leave::nobody;
use super::take::first_end;
use super::time::now;
use crate::reference::Flaw;
use crate::reference::store::Held;
use crate::reference::store::Slot;
use crate::reference::store::State;

impl Steps {
    /// How many stand before a place in line; none if they do not hinder it.
    pub(super) fn ahead(&self, slot: &Slot, position: usize) -> u64 {
        if self.may_go(slot, position, slot.line[position].mode) {
            return 0;
        }
        let told = if self.has(Flaw::LineAheadWrong) { 0 } else { position };
        (told + slot.holders.len()) as u64
    }

    pub(super) fn holders(&self, slot: &Slot) -> Vec<Holder> {
        let wrong = self.has(Flaw::ShowsWrongHolder);
        let show = |held: &Held| {
            let name = match self.flaw {
                Some(Flaw::OwnerCut) => held.owner.split(':').next().unwrap_or_default(),
                _ if wrong => "somebody",
                _ => &held.owner,
            };
            let holder = Holder::new().owned_by(name);
            let holder = holder.in_mode(match self.flaw {
                Some(Flaw::ShowsWrongMode) => Mode::Exclusive,
                _ => held.mode,
            });
            let fence = Fence::new(held.fence + u64::from(wrong)).expect("a fence of our own");
            let whole = self.has(Flaw::ShowsWholeLease).then(|| Duration::from_secs(60));
            let left = whole.unwrap_or_else(|| held.until.saturating_since(now()));
            holder.with_fence(fence).expiring_in(left)
        };
        let most = if self.has(Flaw::ShowsOneHolder) { 1 } else { usize::MAX };
        slot.holders.iter().take(most).map(show).collect()
    }

    fn state(&self, name: &str, slot: &Slot) -> KeyState {
        let waiting = if self.has(Flaw::LineUncounted) { 0 } else { slot.line.len() as u64 };
        KeyState::new(name, self.holders(slot), waiting)
    }

    pub(super) fn peek_one(&self, state: &mut State, claim: &Claim) -> Peek {
        let slot = state.keys.entry(self.name(&claim.key)).or_default();
        if !self.has(Flaw::InspectShowsExpired) {
            self.expire(slot);
        }
        let position = slot.line.iter().position(|place| place.token == claim.token);
        let before = position.unwrap_or(slot.line.len());
        let free = match self.flaw {
            Some(Flaw::PeekSaysHeld) => false,
            Some(Flaw::PeekIgnoresModes) => slot.holders.is_empty() && before == 0,
            _ => self.may_go(slot, before, claim.mode) && (position.is_some() || before == 0),
        };
        if free { Peek::Free } else { Peek::Held { retry_in: first_end(slot), fence: None } }
    }

    pub(super) fn inspect_step(&self, slot: &mut Slot, key: &LockKey) -> KeyState {
        if !self.has(Flaw::InspectShowsExpired) {
            self.expire(slot);
        }
        if self.has(Flaw::InspectWrites) {
            let later = now() + Duration::from_secs(60);
            slot.holders.iter_mut().for_each(|held| held.until = later);
        }
        let shown = self.state(key.as_str(), slot);
        if self.has(Flaw::InspectTakes) && slot.holders.is_empty() {
            slot.holders.push(nobody("inspector"));
        }
        shown
    }

    pub(super) fn list_step(
        &self,
        state: &mut State,
        prefix: &str,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Page {
        let after = cursor.map(|cursor| cursor.0).unwrap_or_default();
        let wild = self.has(Flaw::ListHasWildcards);
        let literal: String = prefix.chars().take_while(|c| !wild || !"_%".contains(*c)).collect();
        let free = self.has(Flaw::ListShowsFree);
        let mut items: Vec<_> = Vec::new();
        for (name, slot) in &mut state.keys {
            self.expire(slot);
            let shown = !slot.holders.is_empty() || !slot.line.is_empty() || free;
            let inside = self.has(Flaw::ListFindsInside) && name.contains(&literal);
            if (name.starts_with(&literal) || inside) && *name > after && shown {
                let times = if self.has(Flaw::ListsEachHolder) { slot.holders.len() } else { 1 };
                items.extend(vec![self.state(name, slot); times]);
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|state| Cursor(state.key.clone()));
        if self.has(Flaw::ListMisses) && more {
            items.pop();
        }
        if self.has(Flaw::ListUnordered) {
            items.sort_by_key(|state| state.key.to_lowercase());
        }
        Page { items, next }
    }
}
