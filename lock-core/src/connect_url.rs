//! The URL of a store, parsed once and strictly.
//!
//! `scheme://[user[:password]@]host[:port],…[/path][?key=value&…]` or `scheme:[path][?key=value&…]`.
//! A raw `@` stands only between user and hosts, a raw `#` nowhere: were they allowed elsewhere, a
//! password with a forgotten escape could end up as a path or a port, and in an error (G11). For the
//! same reason no error quotes anything that stands before the query.

mod parse;

use std::fmt;
use std::fmt::Display as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::utf8_percent_encode;

use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::parse_duration;

/// The URL of a store. `Display` and `Debug` never show the password.
///
/// ```
/// use lock_core::ConnectUrl;
///
/// let url = ConnectUrl::parse("redis://ann:s3cret@h1:6379,h2/0?prefix=shop:")?;
/// assert_eq!(url.hosts().len(), 2);
/// assert_eq!(url.password(), Some("s3cret"));
/// assert_eq!(url.to_string(), "redis://ann:***@h1:6379,h2/0?prefix=shop:");
/// # Ok::<(), lock_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectUrl {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<Host>,
    path: String,
    query: Vec<(String, String)>,
}

/// One server of a [`ConnectUrl`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// A name, an IPv4 address, an IPv6 address without brackets, or the path of a socket.
    pub name: String,
    /// The port, if the URL names one.
    pub port: Option<u16>,
}

impl ConnectUrl {
    /// Parses a URL; all parts are percent-decoded, the scheme is made lower case.
    ///
    /// # Errors
    ///
    /// `Config`, saying what to write instead, never quoting a password.
    pub fn parse(text: &str) -> Result<Self> {
        parse::url(text)
    }

    /// Builds the URL of a store that is a path, such as a SQLite file.
    ///
    /// # Errors
    ///
    /// `Config` if `scheme` cannot be one or `path` has a NUL byte.
    pub fn of_path(scheme: &str, path: &str) -> Result<Self> {
        let path = utf8_percent_encode(path, ESCAPED).to_string();
        // An absolute path gets an empty authority, so that "//x" is not taken for a host.
        let slashes = if path.starts_with('/') { "//" } else { "" };
        Self::parse(&format!("{scheme}:{slashes}{path}"))
    }

    /// Returns the scheme.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the user's name.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the password. Do not print it.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns the servers in the order of the URL; none if it has no `//host`.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the path: with its leading slash after hosts, as written without (`sqlite:a/b.db`).
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the path of a URL that may not name a server, such as `sqlite:PATH`.
    ///
    /// # Errors
    ///
    /// `Config` if it names a server or a user.
    pub fn path_only(&self) -> Result<&str> {
        if self.hosts.is_empty() {
            return Ok(&self.path);
        }
        let scheme = &self.scheme;
        Err(config(format!(
            "a {scheme} URL names no host: write {scheme}:NAME, with no slash after the colon or three"
        )))
    }

    /// Returns the query keys in the order of the URL.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.query.iter().map(|(key, _)| key.as_str())
    }

    /// Returns the value of a query key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns a duration: `300ms`, `5s`, `10m`, `1h` or `0`.
    ///
    /// # Errors
    ///
    /// `Config` if it is none.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match parse_duration(text) {
            Ok(duration) => Ok(Some(duration)),
            Err(error) => Err(config(format!("query key {key:?}: {}", error.message()))),
        }
    }

    /// Returns a whole number within `range`.
    ///
    /// # Errors
    ///
    /// `Config` if it is none.
    pub fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        // `parse` alone would take "+5".
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(Some(number)),
            _ => Err(config(format!(
                "query key {key:?}: {text:?} is not a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// Returns `true` or `false`.
    ///
    /// # Errors
    ///
    /// `Config` if it is neither.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        Ok(self.choice(key, &["true", "false"])?.map(|word| word == "true"))
    }

    /// Returns one of `words`.
    ///
    /// # Errors
    ///
    /// `Config` if it is none of them.
    pub fn choice(&self, key: &str, words: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(config(format!(
                "query key {key:?}: {text:?} is not one of {}",
                words.join(", ")
            ))),
        }
    }

    /// Takes a query key off and returns its value.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.query.iter().position(|(name, _)| name == key)?;
        Some(self.query.remove(at).1)
    }

    /// Adds a query key.
    ///
    /// # Errors
    ///
    /// `Config` if it is there already.
    pub fn add(&mut self, key: &str, value: &str) -> Result<()> {
        if self.text(key).is_some() {
            return Err(config(format!("query key {key:?} is given twice: remove one")));
        }
        self.query.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Returns the same URL without password and without query values that look like one; its
    /// `Display` may be handed to other processes.
    #[must_use]
    pub fn without_password(&self) -> Self {
        let mut url = self.clone();
        url.password = None;
        url.query.retain(|(key, _)| !is_secret(key));
        url
    }
}

/// Stores have more than one name for a password in the query.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token"].iter().any(|word| key.contains(word))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// What stays readable in a path or a value; all that parsing gives a meaning to is escaped.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'#').add(b'%').add(b'&').add(b'=').add(b'?').add(b'@');
/// In a user or a host, separators of the authority have to be escaped too.
const AUTHORITY: &AsciiSet = &ESCAPED.add(b'/').add(b':').add(b',').add(b'[').add(b']');

impl fmt::Display for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if !self.hosts.is_empty() || self.path.starts_with('/') {
            f.write_str("//")?;
        }
        self.fmt_user(f)?;
        for (i, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
        }
        utf8_percent_encode(&self.path, ESCAPED).fmt(f)?;
        self.fmt_query(f)
    }
}

impl ConnectUrl {
    fn fmt_user(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            utf8_percent_encode(user, AUTHORITY).fmt(f)?;
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if self.user.is_some() || self.password.is_some() {
            f.write_str("@")?;
        }
        Ok(())
    }

    fn fmt_query(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.query.iter().enumerate() {
            let value = if is_secret(key) { "***" } else { value };
            let key = utf8_percent_encode(key, ESCAPED);
            let value = utf8_percent_encode(value, ESCAPED);
            write!(f, "{}{key}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectUrl({self})")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]", self.name)?;
        } else {
            utf8_percent_encode(&self.name, AUTHORITY).fmt(f)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
