//! Listing: the pages of the members, merged in byte order.
//!
//! A member's cursor is its own affair, so the cursor of the whole carries them all, and the last key that
//! was shown. Keys are shown only as far as the page of every member reaches; a member whose page reaches
//! further is asked for it once more.

use std::collections::BTreeMap;

use super::group::Group;
use super::group::LOOK;
use super::merge;
use super::round::Round;
use crate::Cursor;
use crate::Error;
use crate::ErrorKind;
use crate::KeyState;
use crate::Page;
use crate::Result;

impl Group {
    /// Lists whoever is in the way, as `inspect` shows it. A member that fails stays out until the listing ends.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        let mut listing = Listing::resume(cursor, self.size())?;
        let budget = self.look_budget();
        let mut round = Round::new(self, LOOK, |at, node| match &listing.members[at] {
            Progress::At(cursor) => {
                Some(node.list(prefix, cursor.clone().map(Cursor), limit.max(1)))
            }
            Progress::End | Progress::Out => None,
        });
        round.until(budget, |_| false).await;
        for (at, progress) in listing.members.iter_mut().enumerate() {
            let fails = matches!(round.answer(at), Some(Err(_))) || round.is_pending(at);
            if fails {
                *progress = Progress::Out;
            }
        }
        if listing.unknown() > self.size() - self.need() {
            return Err(self.failure(&round, budget));
        }
        let pages: Vec<(usize, &Page)> = round.good().collect();
        Ok(listing.turn(&pages, self.block(), limit.max(1)))
    }
}

/// How far a listing has got.
#[derive(Debug, PartialEq, Eq)]
struct Listing {
    after: String,
    members: Vec<Progress>,
}

/// How far it has got at one member.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// At the start, or at a cursor of the member.
    At(Option<String>),
    /// There is no more.
    End,
    /// It failed, and is not asked any more.
    Out,
}

impl Listing {
    fn resume(cursor: Option<Cursor>, members: usize) -> Result<Self> {
        match cursor {
            None => Ok(Self { after: String::new(), members: vec![Progress::At(None); members] }),
            Some(Cursor(text)) => Self::parse(&text, members).ok_or_else(bad_cursor),
        }
    }

    fn unknown(&self) -> usize {
        self.members.iter().filter(|progress| **progress == Progress::Out).count()
    }

    /// Merges the pages of those who were asked into the next one of the whole.
    fn turn(mut self, pages: &[(usize, &Page)], block: usize, limit: usize) -> Page {
        let reach = pages.iter().filter(|(_, page)| page.next.is_some());
        let reach = reach.map(|(_, page)| last(page).unwrap_or(&self.after).to_owned()).min();
        let in_reach = |key: &str| {
            key > self.after.as_str() && reach.as_ref().is_none_or(|reach| key <= reach.as_str())
        };
        let mut keys: BTreeMap<&str, Vec<&KeyState>> = BTreeMap::new();
        for state in pages.iter().flat_map(|(_, page)| &page.items) {
            if in_reach(&state.key) {
                keys.entry(&state.key).or_default().push(state);
            }
        }
        let (mut items, mut seen) = (Vec::new(), None);
        for (key, states) in keys {
            if items.len() == limit {
                break;
            }
            seen = Some(key.to_owned());
            items.extend(self.shown(key, &states, block));
        }
        let full = items.len() == limit;
        let end = if full { seen } else { reach.or(seen) };
        self.after = self.after.max(end.unwrap_or_default());
        for (at, page) in pages {
            if last(page).is_none_or(|last| last <= self.after.as_str()) {
                let next = page.next.clone();
                self.members[*at] = next.map_or(Progress::End, |next| Progress::At(Some(next.0)));
            }
        }
        let more = self.members.iter().any(|progress| matches!(progress, Progress::At(_)));
        Page { items, next: more.then(|| Cursor(self.to_text())) }
    }

    fn shown(&self, key: &str, states: &[&KeyState], block: usize) -> Option<KeyState> {
        let seen = merge::gather(states.iter().map(|state| state.holders.as_slice()));
        let holders = merge::holders(seen, self.unknown(), block);
        let waiting = states.iter().map(|state| state.waiting).max().unwrap_or(0);
        let used = !holders.is_empty() || waiting > 0;
        used.then(|| KeyState::new(key, holders, waiting))
    }

    /// Every text with its length before it, for a cursor may have any character.
    fn to_text(&self) -> String {
        let mut text = format!("{}:{}", self.after.len(), self.after);
        for progress in &self.members {
            match progress {
                Progress::At(None) => text.push('s'),
                Progress::At(Some(cursor)) => text += &format!("c{}:{cursor}", cursor.len()),
                Progress::End => text.push('e'),
                Progress::Out => text.push('o'),
            }
        }
        text
    }

    fn parse(text: &str, members: usize) -> Option<Self> {
        let (after, mut rest) = counted(text)?;
        let mut all = Vec::new();
        while let Some(tag) = rest.chars().next() {
            rest = rest.get(1..)?;
            all.push(match tag {
                's' => Progress::At(None),
                'e' => Progress::End,
                'o' => Progress::Out,
                'c' => {
                    let (cursor, left) = counted(rest)?;
                    rest = left;
                    Progress::At(Some(cursor.to_owned()))
                }
                _ => return None,
            });
        }
        (all.len() == members).then(|| Self { after: after.to_owned(), members: all })
    }
}

fn last(page: &Page) -> Option<&str> {
    page.items.last().map(|state| state.key.as_str())
}

/// Reads a text with its length before it, and returns what follows.
fn counted(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = text.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

fn bad_cursor() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "not a cursor of this backend: pass on what its last page gave",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Holder;

    fn page(keys: &[&str], next: Option<&str>) -> Page {
        let held = |key: &&str| KeyState::new(*key, vec![Holder::new().owned_by("ann")], 0);
        Page {
            items: keys.iter().map(held).collect(),
            next: next.map(|next| Cursor(next.to_owned())),
        }
    }

    fn names(page: &Page) -> Vec<&str> {
        page.items.iter().map(|state| state.key.as_str()).collect()
    }

    #[test]
    fn a_cursor_survives_its_text_form() {
        let members = vec![
            Progress::At(None),
            Progress::At(Some("c3:é🔒e".into())),
            Progress::End,
            Progress::Out,
        ];
        let listing = Listing { after: "7:a".into(), members };
        assert_eq!(Listing::parse(&listing.to_text(), 4), Some(listing));
        for bad in ["", "x", "1:", "0:zzz", "0:c9:a", "2:é", "0:é"] {
            assert_eq!(Listing::parse(bad, 3), None, "{bad:?}");
        }
    }

    #[test]
    fn shows_no_further_than_every_page_reaches() {
        let listing = Listing::resume(None, 3).unwrap();
        let pages =
            [page(&["a", "b"], Some("b")), page(&["a", "c"], Some("c")), page(&["b"], None)];
        let pages: Vec<_> = pages.iter().enumerate().collect();
        let shown = listing.turn(&pages, 2, 2);
        assert_eq!(names(&shown), ["a", "b"]);
        let next = Listing::resume(shown.next, 3).unwrap();
        assert_eq!(next.after, "b");
        let again = Progress::At(None);
        assert_eq!(next.members, [Progress::At(Some("b".into())), again, Progress::End]);
    }

    #[test]
    fn a_minority_is_left_out_and_the_listing_goes_on() {
        let listing = Listing::resume(None, 3).unwrap();
        let pages = [page(&["a"], Some("a")), page(&[], None), page(&[], None)];
        let pages: Vec<_> = pages.iter().enumerate().collect();
        let shown = listing.turn(&pages, 2, 1);
        assert_eq!(names(&shown), Vec::<&str>::new());
        assert!(shown.next.is_some());
    }
}
