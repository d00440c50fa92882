//! From plain data to a configuration. Every complaint is made here, in our words: what a format's own
//! library says may quote a URL with its password (G11).

use std::collections::BTreeMap;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::Result;
use lock_core::nearest;
use lock_core::parse_duration;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Config;
use super::Io;
use super::Section;
use super::refused;
use crate::backends::BACKENDS;

pub(crate) type Table = BTreeMap<String, Plain>;

/// What all formats have in common.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Plain {
    Nothing,
    Flag(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    #[expect(dead_code, reason = "a list is refused whatever is in it")]
    List(Vec<IgnoredAny>),
    Table(Table),
}

pub(super) const FIELDS: [&str; 8] = [
    "provider",
    "url",
    "default_ttl",
    "default_retry_count",
    "default_retry_delay",
    "key_prefix",
    "timeout",
    "io",
];

impl TryFrom<Table> for Config {
    type Error = Error;

    fn try_from(table: Table) -> Result<Self> {
        read(table, str::to_owned)
    }
}

/// Reads `table`; `name` tells how its author calls a field.
pub(super) fn read(table: Table, name: fn(&str) -> String) -> Result<Config> {
    let mut reader = Reader { table, name };
    let config = Config {
        provider: reader.text("provider")?,
        url: reader.url()?,
        default_ttl: reader.duration("default_ttl")?,
        default_retry_count: reader.count("default_retry_count")?,
        default_retry_delay: reader.duration("default_retry_delay")?,
        key_prefix: reader.text("key_prefix")?,
        timeout: reader.duration("timeout")?,
        io: reader.io()?,
        sections: reader.sections()?,
    };
    reader.table.keys().next().map_or(Ok(config), |field| Err(unknown(field)))
}

fn unknown(field: &str) -> Error {
    let backends = || BACKENDS.iter().map(|backend| backend.name);
    let hint = meant(field, FIELDS.into_iter().chain(backends()))
        .map(|known| format!(", did you mean {known:?}?"))
        .unwrap_or_default();
    refused(format!(
        "unknown field {field:?}{hint} (known: {}, and the sections {})",
        FIELDS.join(", "),
        backends().collect::<Vec<_>>().join(", ")
    ))
}

/// Returns the field that was probably meant: the nearest, or the one without its first word.
pub(super) fn meant(
    field: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let short =
        |known: &str| ["default_", "key_"].iter().any(|word| known == [word, field].concat());
    FIELDS.into_iter().find(|known| short(known)).or_else(|| nearest(field, known))
}

/// Takes known fields out of a table; what stays is unknown.
struct Reader {
    table: Table,
    name: fn(&str) -> String,
}

impl Reader {
    fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.table.remove(field) {
            None | Some(Plain::Nothing) => Ok(None),
            Some(Plain::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.refused(field, "write text, in quotes if need be")),
        }
    }

    fn url(&mut self) -> Result<Option<ConnectUrl>> {
        let Some(text) = self.text("url")? else { return Ok(None) };
        match ConnectUrl::parse(&text) {
            Ok(url) => Ok(Some(url)),
            Err(error) => Err(self.refused("url", error.message())),
        }
    }

    fn duration(&mut self, field: &str) -> Result<Option<Duration>> {
        let text = match self.table.remove(field) {
            None | Some(Plain::Nothing) => return Ok(None),
            Some(Plain::Text(text)) => text,
            // Seconds for some, milliseconds for others: a bare number is refused, with its hint.
            Some(Plain::Integer(number)) => number.to_string(),
            Some(Plain::Float(number)) => number.to_string(),
            Some(_) => return Err(self.refused(field, "write 300ms, 5s, 10m, 1h or 0")),
        };
        match parse_duration(&text) {
            Ok(duration) => Ok(Some(duration)),
            Err(error) => Err(self.refused(field, error.message())),
        }
    }

    fn count(&mut self, field: &str) -> Result<Option<u32>> {
        let count = match self.table.remove(field) {
            None | Some(Plain::Nothing) => return Ok(None),
            Some(Plain::Integer(number)) => u32::try_from(number).ok(),
            // The environment has text only.
            Some(Plain::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match count.filter(|count| *count < u32::MAX) {
            Some(count) => Ok(Some(count)),
            None => Err(self.refused(field, "write a whole number from 0 to 4294967294")),
        }
    }

    fn io(&mut self) -> Result<Option<Io>> {
        match self.text("io")?.as_deref() {
            None => Ok(None),
            Some("runtime") => Ok(Some(Io::Runtime)),
            Some("thread") => Ok(Some(Io::Thread)),
            Some(_) => Err(self.refused("io", "write runtime or thread")),
        }
    }

    fn sections(&mut self) -> Result<BTreeMap<String, Section>> {
        let mut sections = BTreeMap::new();
        for name in BACKENDS.iter().map(|backend| backend.name) {
            match self.table.remove(name) {
                None | Some(Plain::Nothing) => {}
                Some(Plain::Table(table)) => {
                    sections.insert(name.to_owned(), self.section(name, table)?);
                }
                Some(_) => return Err(self.refused(name, "write a section of names and values")),
            }
        }
        Ok(sections)
    }

    fn section(&self, name: &str, table: Table) -> Result<Section> {
        let mut section = Section::default();
        for (key, value) in table {
            let text = match value {
                Plain::Nothing => continue,
                Plain::Text(text) => text,
                Plain::Integer(number) => number.to_string(),
                Plain::Flag(flag) => flag.to_string(),
                _ => {
                    let field = format!("{name}.{key}");
                    return Err(self.refused(&field, "write text, a whole number, true or false"));
                }
            };
            section.values.insert(key, text);
        }
        Ok(section)
    }

    fn refused(&self, field: &str, message: &str) -> Error {
        refused(format!("{}: {message}", (self.name)(field)))
    }
}
