//! The names under which a lock is stored: its own, and its companions in the same slot.
//!
//! A lock is stored under its own name, so that other clients and operators find it there. Its
//! companions are `lk:{T}…:NAME`. T is the name's own hash tag, or, if it has none, a short tag that
//! hashes to the same slot: wrapping the whole name in braces would be wrong for names with braces.

use std::sync::LazyLock;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;

/// What all companions begin with.
pub(crate) const COMPANION: &str = "lk:{";

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// The stored names of one lock, one behind the other: each call makes them anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    all: String,
    /// Where each begins.
    card: usize,
    holders: usize,
    line: usize,
}

impl Names {
    pub(crate) fn of(key: &LockKey) -> Self {
        let lock = key.as_str();
        let tag = tag_of(lock);
        let longest = COMPANION.len() + tag.len() + "}h:".len() + lock.len();
        let mut all = String::with_capacity(lock.len() + 3 * longest);
        all.push_str(lock);
        let mut add = |kind: &str| {
            let begins = all.len();
            for part in [COMPANION, tag, kind, lock] {
                all.push_str(part);
            }
            begins
        };
        let (card, holders, line) = (add("}:"), add("}h:"), add("}q:"));
        Self { all, card, holders, line }
    }

    /// In the order in which scripts take them.
    pub(crate) fn all(&self) -> [&str; 4] {
        [self.lock(), self.card(), self.holders(), self.line()]
    }

    /// The lock itself.
    pub(crate) fn lock(&self) -> &str {
        &self.all[..self.card]
    }

    /// Fence and holder; also the channel on which releases are told.
    pub(crate) fn card(&self) -> &str {
        &self.all[self.card..self.holders]
    }

    /// Several holders.
    fn holders(&self) -> &str {
        &self.all[self.holders..self.line]
    }

    /// The line.
    fn line(&self) -> &str {
        &self.all[self.line..]
    }
}

/// Returns where the highest fence is kept that has written to the user's key `data`.
pub(crate) fn mark_of(data: &str) -> String {
    format!("{COMPANION}{}}}w:{data}", tag_of(data))
}

/// Returns the lock whose card has this name, if it is one.
pub(crate) fn lock_of_card(card: &str) -> Option<&str> {
    let (tag, lock) = card.strip_prefix(COMPANION)?.split_once("}:")?;
    (tag_of(lock) == tag).then_some(lock)
}

/// Refuses names that look like companions.
pub(crate) fn check(key: &LockKey) -> Result<()> {
    if !key.as_str().starts_with(COMPANION) {
        return Ok(());
    }
    let message =
        format!("a key on redis cannot begin with {COMPANION:?}: locks are described there");
    Err(Error::new(ErrorKind::InvalidInput, message))
}

/// Works out the tags now, and not at the expense of the first lease.
pub(crate) fn prepare() {
    LazyLock::force(&TAGS);
}

/// Returns the slot of a name.
pub(crate) fn slot_of(name: &str) -> u16 {
    slot(hash_tag(name).unwrap_or(name).as_bytes())
}

/// Returns the tag of the companions of a lock.
fn tag_of(lock: &str) -> &str {
    hash_tag(lock).unwrap_or_else(|| TAGS[usize::from(slot(lock.as_bytes()))].as_str())
}

/// The part of a name that a cluster hashes, if it is not the whole: between the first `{` and the
/// first `}` after it, unless that is empty.
fn hash_tag(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// The slot of bytes that have no hash tag.
fn slot(bytes: &[u8]) -> u16 {
    crc16(bytes) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, no reflection, starting at 0 (the Redis Cluster specification).
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| (crc << 8) ^ CRC_OF_BYTE[usize::from((crc >> 8) as u8 ^ byte)];
    bytes.iter().fold(0, step)
}

/// What each value of the upper byte adds to the rest.
const CRC_OF_BYTE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A tag for each slot. Part of the layout on the wire: all versions must agree.
static TAGS: LazyLock<Vec<Tag>> = LazyLock::new(tags);

/// One to four letters, side by side with those of other slots: each lock call reads one.
#[derive(Clone, Copy, Default)]
struct Tag {
    letters: [u8; 4],
    length: u8,
}

impl Tag {
    fn new(word: &str) -> Self {
        let mut tag = Self::default();
        for (letter, byte) in tag.letters.iter_mut().zip(word.bytes()) {
            *letter = byte;
            tag.length += 1;
        }
        tag
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.letters[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// The first that hashes to each slot of `a`, `b` … `z`, `aa`, `ab` … `zzzz`.
fn tags() -> Vec<Tag> {
    let mut tags = vec![Tag::default(); usize::from(SLOTS)];
    let mut missing = SLOTS;
    let mut number = 0;
    while missing > 0 {
        let word = word(number);
        let tag = &mut tags[usize::from(slot(word.as_bytes()))];
        if tag.length == 0 {
            *tag = Tag::new(&word);
            missing -= 1;
        }
        number += 1;
    }
    tags
}

/// The words over `a` to `z` in order of length, then alphabet.
fn word(mut number: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'a' + u8::try_from(number % 26).unwrap_or(0));
        if number < 26 {
            break;
        }
        number = number / 26 - 1;
    }
    letters.iter().rev().map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn words_are_in_order() {
        let words: Vec<_> = [0, 25, 26, 27, 701, 702].map(word).into();
        assert_eq!(words, ["a", "z", "aa", "ab", "zz", "aaa"]);
    }

    #[test]
    fn every_slot_has_a_tag_of_at_most_four_letters() {
        for (slot, tag) in TAGS.iter().enumerate() {
            assert_eq!(usize::from(slot_of(tag.as_str())), slot);
        }
        // The last word that was needed, and not a part of it.
        assert_eq!(TAGS.iter().map(|tag| tag.length).max(), Some(4));
    }

    #[test]
    fn companions_hash_to_the_slot_of_the_lock() {
        for name in
            ["a", "a}b", "{a}b", "x{t}y", "x}:y", "{}x", "a{b", "{{a}b", "lk", "🔒{é}", "}{"]
        {
            let names = Names::of(&LockKey::new(name).unwrap());
            assert_eq!(names.lock(), name);
            for companion in [names.card(), names.holders(), names.line()] {
                assert_eq!(slot_of(companion), slot_of(name), "{companion}");
            }
            assert_eq!(slot_of(&mark_of(name)), slot_of(name));
            assert_eq!(lock_of_card(names.card()), Some(name));
            assert_eq!(lock_of_card(&mark_of(name)), None);
            assert_eq!(lock_of_card(names.line()), None, "{}", names.line());
        }
    }
}
