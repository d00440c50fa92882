//! A lock that has left its process: text that another call can renew or release it with.

use std::fmt;
use std::str::FromStr;

use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::percent_decode_str;
use percent_encoding::utf8_percent_encode;

use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Mode;
use crate::Owner;
use crate::Result;
use crate::Token;

/// A detached lock, from [`LockGuard::into_handle`](crate::LockGuard::into_handle).
///
/// Nobody renews it; [`LockProvider::renew`](crate::LockProvider::renew) and
/// [`release`](crate::LockProvider::release) take it. Its text form holds neither URL nor password.
/// Whoever has it can release the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handle {
    /// The key, without the provider's prefix.
    pub key: String,
    /// What the store compares.
    pub token: Token,
    /// How it holds.
    pub mode: Mode,
    /// The fence of the acquisition.
    pub fence: Fence,
    /// Who acquired it.
    pub owner: Owner,
}

const VERSION: &str = "v1";
const ESCAPED: &AsciiSet = &CONTROLS.add(b':').add(b'%').add(b' ').add(b'"').add(b'\'').add(b'\\');

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode.to_string();
        write!(
            f,
            "{VERSION}:{}:{}:{}:{}:{}",
            utf8_percent_encode(&mode, ESCAPED),
            self.token,
            self.fence,
            utf8_percent_encode(self.owner.as_str(), ESCAPED),
            utf8_percent_encode(&self.key, ESCAPED),
        )
    }
}

impl FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "not a lock handle: pass the text that acquire printed, unchanged",
            )
        })
    }
}

fn parse(text: &str) -> Option<Handle> {
    let mut parts = text.split(':');
    if parts.next()? != VERSION {
        return None;
    }
    let mode = decode(parts.next()?)?.parse().ok()?;
    let token = parts.next()?.parse().ok()?;
    let fence = Fence::new(parts.next()?.parse().ok()?).ok()?;
    let owner = Owner::new(&decode(parts.next()?)?).ok()?;
    let key = decode(parts.next()?)?;
    let whole = parts.next().is_none() && !key.is_empty();
    whole.then_some(Handle { key, token, mode, fence, owner })
}

fn decode(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_its_text_form() {
        let handle = Handle {
            key: "a:b%c é 🔒".into(),
            token: Token::random(),
            mode: "permits:3".parse().unwrap(),
            fence: Fence::new(7).unwrap(),
            owner: Owner::new("ann@host:42").unwrap(),
        };
        let text = handle.to_string();
        assert!(!text.contains(' '), "{text}");
        assert_eq!(text.parse::<Handle>().unwrap(), handle);
        assert!(text[..text.len() - 1].replace("v1", "v2").parse::<Handle>().is_err());
        assert!(format!("{text}:x").parse::<Handle>().is_err());
        assert!("".parse::<Handle>().is_err());
    }
}
