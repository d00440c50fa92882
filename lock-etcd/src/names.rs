//! What the contenders of this client are called in the store.
//!
//! The server keeps every name that was ever below a lock until its history is compacted, and passes over all of
//! them with each look at the line: if each contender had a name of its own, a lock would get slower with each
//! acquisition. So a name is used again, for the same lock, once it is certain that nothing of its last use can
//! still come; one that is in doubt is never used again.

use std::collections::HashMap;

use lock_core::LockKey;
use lock_core::Token;

/// How many names are kept for later. When there are as many, all are let go: new ones cost little.
const MOST: usize = 4096;

/// Names that can be used again, by lock.
#[derive(Default)]
pub(crate) struct Names {
    spare: HashMap<LockKey, Vec<Token>>,
    count: usize,
}

impl Names {
    /// Returns a name that nobody else has.
    pub(crate) fn take(&mut self, lock: &LockKey) -> Token {
        let Some(names) = self.spare.get_mut(lock) else { return Token::random() };
        let name = names.pop();
        if names.is_empty() {
            self.spare.remove(lock);
        }
        self.count -= usize::from(name.is_some());
        name.unwrap_or_else(Token::random)
    }

    /// Keeps a name that is free.
    pub(crate) fn give_back(&mut self, lock: LockKey, name: Token) {
        if self.count == MOST {
            *self = Self::default();
        }
        self.spare.entry(lock).or_default().push(name);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_had_by_one_at_a_time_and_for_one_lock() {
        let [lock, other] = ["a", "b"].map(|key| LockKey::new(key).unwrap());
        let mut names = Names::default();
        let first = names.take(&lock);
        names.give_back(lock.clone(), first);
        assert_ne!(names.take(&other), first);
        assert_eq!(names.take(&lock), first);
        assert_ne!(names.take(&lock), first);
        assert!(names.spare.is_empty() && names.count == 0);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let mut names = Names::default();
        for number in 0..=MOST {
            names.give_back(LockKey::new(&number.to_string()).unwrap(), Token::random());
        }
        assert_eq!((names.spare.len(), names.count), (1, 1));
    }
}
