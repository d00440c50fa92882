//! Lock names that every store can keep apart.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// The longest key, prefix included, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 512;

/// A lock's full name: UTF-8, 1 to 512 bytes, the provider's prefix included.
///
/// Two keys that differ in any byte are different locks, on every backend (guarantee G9).
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(Arc<str>);

impl LockKey {
    /// Parses a full name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is empty, longer than [`MAX_KEY_BYTES`], or contains a NUL byte (which
    /// several stores cannot keep).
    pub fn new(name: &str) -> Result<Self> {
        Self::prefixed("", name)
    }

    /// Parses `name` and puts `prefix` before it.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new); the prefix counts towards the length, an empty `name` is refused
    /// whatever the prefix.
    pub fn prefixed(prefix: &str, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(invalid("a key must have at least one byte".into()));
        }
        let bytes = prefix.len() + name.len();
        if bytes > MAX_KEY_BYTES {
            return Err(invalid(format!(
                "a key may have at most {MAX_KEY_BYTES} bytes with its prefix, this one has {bytes}"
            )));
        }
        if prefix.contains('\0') || name.contains('\0') {
            return Err(invalid("a key may not contain a NUL byte".into()));
        }
        if prefix.is_empty() {
            return Ok(Self(name.into()));
        }
        Ok(Self([prefix, name].concat().into()))
    }

    /// Returns the full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A map by key. Its hash is seeded at random but made for speed: keys come from the program, and it is
/// asked on the way of every lock call.
pub(crate) type KeyMap<V> = HashMap<LockKey, V, foldhash::fast::RandomState>;

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl fmt::Debug for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockKey({:?})", self.as_str())
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_1_to_512_bytes_with_the_prefix() {
        assert!(LockKey::new(&"a".repeat(512)).is_ok());
        assert!(LockKey::new(&"a".repeat(513)).is_err());
        assert!(LockKey::prefixed("p:", &"a".repeat(511)).is_err());
        assert_eq!(LockKey::prefixed("p:", "é").unwrap().as_str(), "p:é");
    }

    #[test]
    fn refuses_empty_and_nul() {
        assert!(LockKey::prefixed("p:", "").is_err());
        assert!(LockKey::new("a\0b").is_err());
    }
}
