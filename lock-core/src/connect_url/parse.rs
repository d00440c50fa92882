//! The grammar of a URL. Errors say what to write and quote only query keys and values.

use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use super::ConnectUrl;
use super::Host;
use super::config;
use crate::Error;
use crate::Result;

pub(super) fn url(text: &str) -> Result<ConnectUrl> {
    let (scheme, rest) = scheme(text)?;
    check_characters(rest)?;
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, q)| (rest, Some(q)));
    let (authority, path) = authority(rest);
    if path.contains('@') || query.is_some_and(|query| query.contains('@')) {
        return Err(escape('@', "a user, a password, a path or a query", "%40"));
    }
    let (userinfo, hosts) = userinfo(authority)?;
    let (user, password) = credentials(userinfo)?;
    let hosts = self::hosts(hosts)?;
    if userinfo.is_some() && hosts.is_empty() {
        return Err(config("a URL with a user has to name a host after the @".into()));
    }
    let path = decode(path)?;
    Ok(ConnectUrl { scheme, user, password, hosts, path, query: pairs(query)? })
}

fn scheme(text: &str) -> Result<(String, &str)> {
    let valid = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    match text.split_once(':') {
        Some((scheme, rest)) if valid(scheme) => Ok((scheme.to_ascii_lowercase(), rest)),
        _ => Err(config("a URL begins with a scheme, as in sqlite:PATH or redis://HOST".into())),
    }
}

fn check_characters(text: &str) -> Result<()> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(config(
            "a URL has no white space, line end or control character: write a space as %20".into(),
        ));
    }
    if text.contains('#') {
        return Err(escape('#', "a URL", "%23"));
    }
    Ok(())
}

fn escape(character: char, place: &str, code: &str) -> Error {
    config(format!("write {character} within {place} as {code}"))
}

/// Splits what follows `//` and precedes the path; without `//` all is path.
fn authority(rest: &str) -> (&str, &str) {
    match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    }
}

fn userinfo(authority: &str) -> Result<(Option<&str>, &str)> {
    match authority.rsplit_once('@') {
        Some((userinfo, _)) if userinfo.contains('@') => {
            Err(escape('@', "a user, a password, a path or a query", "%40"))
        }
        Some((userinfo, hosts)) => Ok((Some(userinfo), hosts)),
        None => Ok((None, authority)),
    }
}

fn credentials(userinfo: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(userinfo) = userinfo else { return Ok((None, None)) };
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (userinfo, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    Ok((user, password))
}

fn hosts(text: &str) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let host = host(part)?;
        if hosts.contains(&host) {
            return Err(config(format!(
                "host number {} is listed before: remove it",
                hosts.len() + 1
            )));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn host(text: &str) -> Result<Host> {
    if let Some(rest) = text.strip_prefix('[') {
        return ipv6(rest);
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [name] => Ok(Host { name: host_name(name)?, port: None }),
        [name, port] => Ok(Host { name: host_name(name)?, port: Some(self::port(port)?) }),
        _ => Err(config("write an IPv6 address in brackets, as in [::1]:6379".into())),
    }
}

fn ipv6(rest: &str) -> Result<Host> {
    let (name, rest) = rest.split_once(']').unwrap_or(("", ""));
    let Ok(address) = name.parse::<Ipv6Addr>() else {
        return Err(config("brackets are for an IPv6 address, as in [::1]:6379".into()));
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(self::port(port)?),
        None if rest.is_empty() => None,
        None => return Err(port_wanted()),
    };
    Ok(Host { name: address.to_string(), port })
}

fn host_name(text: &str) -> Result<String> {
    let name = decode(text)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.starts_with('/') || (!name.is_empty() && name.bytes().all(plain)) {
        return Ok(name);
    }
    Err(config(
        "a host is a name, an address, or the path of a socket with its slashes as %2F; \
         several are separated by single commas"
            .into(),
    ))
}

fn port(text: &str) -> Result<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(port_wanted()),
    }
}

/// What was taken for a port may be a password without its host, so it is not quoted.
fn port_wanted() -> Error {
    config(
        "after a host's colon comes a port from 1 to 65535 (a password needs an @ behind it)"
            .into(),
    )
}

fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        if key.is_empty() || !part.contains('=') {
            return Err(config(format!("query key {key:?} has no value: write KEY=VALUE")));
        }
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(config(format!("query key {key:?} is given twice: remove one")));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn decode(text: &str) -> Result<String> {
    let complete =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(complete) {
        return Err(config(
            "a % begins an escape of two hexadecimal digits: write % itself as %25".into(),
        ));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.contains('\0') => Ok(decoded.into_owned()),
        _ => Err(config("the escapes of a URL have to be UTF-8 without NUL".into())),
    }
}
