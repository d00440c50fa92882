//! What keys and contenders are called in ZooKeeper.
//!
//! A key is a path: its slashes are hierarchy, and what ZooKeeper refuses in a name, and `%`, is
//! `%XX` for each byte. A contender is a child of that path whose name ends with the sequence that the
//! server gave it.

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Token;

/// Where what is added to every fence is stored. No key is stored there, because a `%` in a key is
/// always followed by two digits.
pub(crate) const FENCE_BASE: &str = "/%fence_base";

/// What the server keeps for itself.
pub(crate) const RESERVED: &str = "zookeeper";

/// Returns the node of a key that [`check`] has passed.
pub(crate) fn path_of(key: &LockKey) -> String {
    path_of_name(key.as_str())
}

/// Returns the node of a key that was listed.
pub(crate) fn path_of_name(key: &str) -> String {
    let mut path = String::with_capacity(key.len() + 1);
    for component in key.split('/') {
        path.push('/');
        escape(component, &mut path);
    }
    path
}

/// Refuses keys that cannot be paths, or whose node could be taken for something else.
pub(crate) fn check(key: &LockKey) -> Result<()> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
    for component in key.as_str().split('/') {
        match component {
            "" => {
                return refuse(
                    "a key on zookeeper cannot begin or end with a slash or have two in a row",
                );
            }
            "." | ".." => return refuse("a key on zookeeper cannot have the components . and .."),
            name if Contender::parse(name).is_some() => {
                return refuse(
                    "a component of a key on zookeeper cannot end like a contender for a lock",
                );
            }
            _ => {}
        }
    }
    if key.as_str().split('/').next() == Some(RESERVED) {
        return refuse(
            "zookeeper keeps its own data below /zookeeper: use another key or a chroot",
        );
    }
    Ok(())
}

fn escape(component: &str, path: &mut String) {
    let mut bytes = [0; 4];
    for c in component.chars() {
        if c == '%' || is_refused(c) {
            for byte in c.encode_utf8(&mut bytes).bytes() {
                path.push_str(&format!("%{byte:02X}"));
            }
        } else {
            path.push(c);
        }
    }
}

/// What a server refuses in a path. It looks at UTF-16, so all beyond the basic plane is surrogates.
fn is_refused(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Returns the part of a key that is stored as `component`; `None` if no key is.
pub(crate) fn unescape(component: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut again = String::with_capacity(component.len());
    escape(&text, &mut again);
    (again == component).then_some(text)
}

/// Whose locks wait for ours: each looks for other names, and no name is one for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Recipe {
    /// Curator's mutex.
    #[default]
    Curator,
    /// Curator's readers and writers.
    CuratorRw,
    /// kazoo's locks, readers and writers.
    Kazoo,
}

impl Recipe {
    /// How the names end of who excludes all, and of who excludes all but readers.
    const fn ends(self) -> (&'static str, &'static str) {
        match self {
            Self::Curator => ("lock-", "shared-lock-"),
            Self::CuratorRw => ("__WRIT__", "__READ__"),
            Self::Kazoo => ("__lock__", "__rlock__"),
        }
    }
}

/// What a contender of ours is called before the server adds its sequence.
pub(crate) fn prefix(token: Token, mode: Mode, recipe: Recipe) -> String {
    let guid = token.to_string();
    let (exclusive, shared) = recipe.ends();
    let kind = match mode {
        Mode::Exclusive => exclusive.to_owned(),
        Mode::Shared => shared.to_owned(),
        Mode::Permits { of } => format!("permit{of}-{exclusive}"),
    };
    let (a, b, c, d, e) = (&guid[..8], &guid[8..12], &guid[12..16], &guid[16..20], &guid[20..]);
    format!("_c_{a}-{b}-{c}-{d}-{e}-{kind}")
}

/// A child that stands in line for its parent's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    /// Of ours, and of Curator's, which has such a number too.
    pub(crate) token: Option<Token>,
    /// Drawn from a counter of the parent, which overflows.
    pub(crate) sequence: i32,
}

impl Contender {
    /// Reads a child's name; `None` if it is no contender.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (kind, sequence) = split_sequence(name)?;
        let (token, kind) = match split_guid(kind) {
            Some((token, kind)) => (Some(token), kind),
            None => (None, kind),
        };
        let mode = mode_of(kind, token.is_some())?;
        Some(Self { name: name.to_owned(), mode, token, sequence })
    }
}

/// Splits off what the server added: ten digits, or a number below zero after an overflow.
fn split_sequence(name: &str) -> Option<(&str, i32)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (kind, number) = name.split_at(name.len() - digits);
    let below_zero = kind.strip_suffix('-').filter(|kind| kind.ends_with(['-', '_']));
    match below_zero {
        Some(kind) if digits >= 9 => Some((kind, format!("-{number}").parse().ok()?)),
        _ if digits == 10 => Some((kind, number.parse().ok()?)),
        _ => None,
    }
}

fn split_guid(kind: &str) -> Option<(Token, &str)> {
    let (guid, kind) = kind.strip_prefix("_c_")?.split_at_checked(36)?;
    Some((guid.replace('-', "").parse().ok()?, kind.strip_prefix('-')?))
}

/// Curator's mutex is `lock-`, its readers and writers are `__READ__` and `__WRIT__`; kazoo's locks
/// are `__lock__`, its readers `__rlock__`.
fn mode_of(kind: &str, ours: bool) -> Option<Mode> {
    if (kind == "shared-lock-" && ours)
        || ["__READ__", "__rlock__"].iter().any(|end| kind.ends_with(end))
    {
        return Some(Mode::Shared);
    }
    let of = ["lock-", "__WRIT__", "__lock__"].iter().find_map(|end| kind.strip_suffix(end))?;
    let permits = || of.strip_prefix("permit")?.strip_suffix('-')?.parse().ok();
    match permits().filter(|_| ours) {
        Some(of) => Some(Mode::Permits { of }),
        None => Some(Mode::Exclusive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> LockKey {
        LockKey::new(name).unwrap()
    }

    #[test]
    fn a_key_is_a_path_and_back() {
        let rows = [
            ("a", "/a"),
            ("a/b c", "/a/b c"),
            ("50%", "/50%25"),
            ("%2F", "/%252F"),
            ("a\tb", "/a%09b"),
            ("é", "/é"),
            ("🔒", "/%F0%9F%94%92"),
            ("\u{e000}", "/%EE%80%80"),
            ("\u{feff}", "/\u{feff}"),
            ("\u{7f}", "/%7F"),
        ];
        for (name, path) in rows {
            assert_eq!(path_of(&key(name)), path);
            let back: Vec<_> = path[1..].split('/').map(|it| unescape(it).unwrap()).collect();
            assert_eq!(back.join("/"), name);
        }
    }

    #[test]
    fn names_that_no_key_has_are_not_read() {
        for name in ["%", "%2", "%zz", "%2f", "%41", "%fence_base", "%FF"] {
            assert_eq!(unescape(name), None, "{name}");
        }
    }

    #[test]
    fn keys_that_cannot_be_nodes_are_refused() {
        let refused = [
            "/a",
            "a/",
            "a//b",
            ".",
            "a/..",
            "zookeeper",
            "zookeeper/a",
            "lock-0000000001",
            "a/x__lock__0000000001",
            "_c_0-lock--000000005",
        ];
        for name in refused {
            let error = check(&key(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
        for name in ["a", "a.b", "7a", "...", "a/zookeeper", "lock-7", "block", "a-0000000001"] {
            check(&key(name)).unwrap();
        }
    }

    #[test]
    fn a_number_is_a_key_and_no_contender() {
        for name in ["0", "42", "order/42", "order/0000000042", "order/1234567890/7"] {
            check(&key(name)).unwrap();
            assert_eq!(path_of(&key(name)), format!("/{name}"));
            let last = name.rsplit('/').next().unwrap();
            assert_eq!(Contender::parse(last), None, "{name}");
        }
    }

    #[test]
    fn our_contenders_are_read_back() {
        let token = Token::random();
        for recipe in [Recipe::Curator, Recipe::CuratorRw, Recipe::Kazoo] {
            for mode in ["exclusive", "shared", "permits:3"] {
                let mode = mode.parse().unwrap();
                for (end, sequence) in
                    [("0000000007", 7), ("-2147483648", i32::MIN), ("-000000005", -5)]
                {
                    let name = format!("{}{end}", prefix(token, mode, recipe));
                    let read = Contender::parse(&name).unwrap();
                    let read = (read.token, read.mode, read.sequence);
                    assert_eq!(read, (Some(token), mode, sequence), "{name}");
                }
            }
        }
    }

    #[test]
    fn foreign_contenders_are_known_and_others_are_not() {
        let rows = [
            ("_c_0f4a8e60-1d3a-4f1e-9b0e-3f8a5a1b2c3d-lock-0000000012", Some(Mode::Exclusive)),
            ("lock-0000000012", Some(Mode::Exclusive)),
            ("_c_0f4a8e60-1d3a-4f1e-9b0e-3f8a5a1b2c3d-__READ__0000000003", Some(Mode::Shared)),
            ("_c_0f4a8e60-1d3a-4f1e-9b0e-3f8a5a1b2c3d-__WRIT__0000000003", Some(Mode::Exclusive)),
            ("0f4a8e601d3a4f1e9b0e3f8a5a1b2c3d__lock__0000000003", Some(Mode::Exclusive)),
            ("0f4a8e601d3a4f1e9b0e3f8a5a1b2c3d__rlock__0000000003", Some(Mode::Shared)),
            ("shared-lock-0000000003", Some(Mode::Exclusive)),
            ("job", None),
            ("lock-12", None),
            ("latch-0000000012", None),
            ("lock-9999999999", None),
        ];
        for (name, mode) in rows {
            assert_eq!(Contender::parse(name).map(|it| it.mode), mode, "{name}");
        }
    }
}
