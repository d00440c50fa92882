//! Names that go into statements as text, held to what can do no harm there.

use std::fmt;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;

const MAX_BYTES: usize = 63;

/// The name of a schema or of a table, checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Parses the name of a schema.
    pub(crate) fn schema(text: &str) -> Result<Self> {
        if is_plain(text) && !text.starts_with("pg_") {
            return Ok(Self(text.to_owned()));
        }
        Err(refused("schema", text))
    }

    /// Parses the name of a table, perhaps with its schema.
    pub(crate) fn table(text: &str) -> Result<Self> {
        let parts = text.split('.').count();
        if parts <= 2 && text.split('.').all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(refused("table", text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as it stands in a statement.
    pub(crate) fn quoted(&self) -> String {
        let parts: Vec<_> = self.0.split('.').map(|part| format!("\"{part}\"")).collect();
        parts.join(".")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && text.chars().all(plain) && text.len() <= MAX_BYTES
}

fn refused(what: &str, text: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "the {what} name {text:?} must have 1 to {MAX_BYTES} ASCII letters, digits and \
             underscores and begin with no digit"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_carry_sql() {
        for text in ["", "1a", "a b", "a\"", "a;DROP", "ä", &"a".repeat(64), "a.", ".a", "a.b.c"] {
            assert!(Name::table(text).is_err(), "{text}");
            assert!(Name::schema(text).is_err(), "{text}");
        }
        assert!(Name::schema("pg_locks").is_err());
        assert_eq!(Name::table("App.fences").unwrap().quoted(), "\"App\".\"fences\"");
    }
}
