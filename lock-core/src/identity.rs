//! The two identities of a lock and its fence.
//!
//! An [`Owner`] says who may re-enter and is shown to people. A [`Token`] is drawn afresh for every
//! acquisition and is what the store compares, so a late or repeated call with an old token is
//! harmless. A [`Fence`] orders acquisitions for the resource that the lock protects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::RngExt as _;

use crate::{Error, ErrorKind, Result};

/// Who holds or wants a lock, for re-entry and for people to read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

/// The longest owner name in bytes.
pub const MAX_OWNER_BYTES: usize = 255;

impl Owner {
    /// Parses an owner's name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is empty, longer than [`MAX_OWNER_BYTES`], or has a control character.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > MAX_OWNER_BYTES || name.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("an owner must have 1 to {MAX_OWNER_BYTES} bytes and no control character"),
            ));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({:?})", self.as_str())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the store compares: 128 random bits, new for each acquisition.
///
/// Its text form is 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u128);

impl Token {
    /// Draws a new token from the thread's cryptographic generator.
    pub fn random() -> Self {
        Self(rand::rng().random())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: each lock call writes a token twice, and the general way is ten times as long.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(text, 16) {
            Ok(bits) if hex => Ok(Self(bits)),
            _ => Err(Error::new(ErrorKind::Corrupt, "a token must be 32 hexadecimal digits")),
        }
    }
}

/// A number that is higher for each later acquisition of the same key (guarantee G2).
///
/// Send it with every write to the protected resource, and let the resource refuse a lower one than
/// it has seen. It stays below 2^53, so it survives JSON and Lua numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The highest fence there can be.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Checks a fence that a store returned.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is zero or not below 2^53.
    pub fn new(value: u64) -> Result<Self> {
        if value == 0 || value > Self::MAX.0 {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("a fence must be between 1 and 2^53 - 1, the store has {value}"),
            ));
        }
        Ok(Self(value))
    }

    /// Checks a writer against the highest fence that its resource has seen.
    ///
    /// # Errors
    ///
    /// `Lost` if a later holder has written: this one's lock had ended.
    pub fn check_against(self, highest: Self) -> Result<()> {
        if self >= highest {
            return Ok(());
        }
        let message = format!("the write is refused: fence {self} is stale, {highest} has written");
        Err(Error::new(ErrorKind::Lost, message))
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
        let token = Token::random();
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        assert_eq!(Token(0x0a1b << 64 | 0xf).to_string(), "0000000000000a1b000000000000000f");
        assert!("+0000000000000000000000000000001".parse::<Token>().is_err());
        assert!("0F000000000000000000000000000000".parse::<Token>().is_err());
    }

    #[test]
    fn a_fence_is_positive_and_below_2_pow_53() {
        assert!(Fence::new(0).is_err());
        assert!(Fence::new(1 << 53).is_err());
        assert_eq!(Fence::new((1 << 53) - 1).unwrap(), Fence::MAX);
    }

    #[test]
    fn a_fence_below_the_highest_is_stale() {
        let fence = |value| Fence::new(value).unwrap();
        assert!(fence(7).check_against(fence(7)).is_ok());
        assert!(fence(8).check_against(fence(7)).is_ok());
        assert_eq!(fence(6).check_against(fence(7)).unwrap_err().kind(), ErrorKind::Lost);
    }

    #[test]
    fn an_owner_is_short_and_printable() {
        assert!(Owner::new("ann@host:42").is_ok());
        assert!(Owner::new("").is_err());
        assert!(Owner::new("a\nb").is_err());
        assert!(Owner::new(&"a".repeat(256)).is_err());
    }
}
