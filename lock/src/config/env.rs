//! The environment: `LOCK_` and a field's name, or `LOCK_`, a backend's name and a name of its section.

use std::ffi::OsString;

use lock_core::Result;

use super::Config;
use super::read;
use super::read::FIELDS;
use super::read::Plain;
use super::read::Table;
use super::read::meant;
use super::refused;
use crate::backends::BACKENDS;

pub(super) fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Config> {
    let mut table = Table::new();
    for (name, value) in variables {
        let Some(field) = name.to_str().and_then(|name| name.strip_prefix("LOCK_")) else {
            continue;
        };
        let field = field.to_ascii_lowercase();
        let Some((section, key)) = place(&field)? else { continue };
        let Ok(value) = value.into_string() else {
            return Err(refused(format!("{}: its value is not UTF-8", variable(&field))));
        };
        if !value.is_empty() {
            insert(&mut table, section, key, Plain::Text(value));
        }
    }
    read::read(table, variable)
}

/// Tells the section, if any, and the name in it, of a variable that is ours.
fn place(field: &str) -> Result<Option<(Option<&'static str>, &str)>> {
    if FIELDS.contains(&field) {
        return Ok(Some((None, field)));
    }
    for backend in BACKENDS.iter().map(|backend| backend.name) {
        let key = field.strip_prefix(backend).and_then(|rest| rest.strip_prefix('_'));
        if let Some(key) = key {
            return Ok(Some((Some(backend), key)));
        }
    }
    // Others have LOCK_ variables too, so only what is nearly ours is taken for a mistake; two
    // letters are nearly anything.
    match meant(field, FIELDS.into_iter().filter(|known| known.len() > 2)) {
        Some(known) => {
            let (wrong, right) = (variable(field), variable(known));
            Err(refused(format!("unknown variable {wrong}, did you mean {right}?")))
        }
        None => Ok(None),
    }
}

fn insert(table: &mut Table, section: Option<&str>, key: &str, value: Plain) {
    let Some(section) = section else {
        table.insert(key.to_owned(), value);
        return;
    };
    let section = table.entry(section.to_owned()).or_insert_with(|| Plain::Table(Table::new()));
    if let Plain::Table(section) = section {
        section.insert(key.to_owned(), value);
    }
}

fn variable(field: &str) -> String {
    format!("LOCK_{}", field.to_ascii_uppercase().replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf_8_is_refused_only_if_it_is_ours() {
        use std::os::unix::ffi::OsStringExt as _;
        let read = |name: &str| {
            read(std::iter::once((OsString::from(name), OsString::from_vec(vec![0xff]))))
        };
        assert!(read("LOCK_FILE_OF_SOMEBODY").is_ok());
        assert_eq!(read("LOCK_URL").unwrap_err().to_string(), "LOCK_URL: its value is not UTF-8");
    }
}
