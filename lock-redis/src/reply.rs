//! Reads what scripts answer. What is not as they write it is `Corrupt` (S9).

use std::time::Duration;
use std::time::SystemTime;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Peek;
use lock_core::Result;
use redis::Value;

/// What an attempt found.
pub(crate) enum Tried {
    Granted(Fence),
    Refused { holders: Vec<Holder>, retry_in: Option<Duration>, ahead: Option<u64> },
}

/// What a renewal found.
pub(crate) enum Fate {
    Holds,
    Queued(u64),
    Gone,
}

pub(crate) fn tried(reply: Value) -> Result<Tried> {
    if let Value::Int(fence) = reply {
        let fence = u64::try_from(fence).map_err(|_| unreadable())?;
        return Ok(Tried::Granted(Fence::new(fence)?));
    }
    let mut parts = list(reply)?.into_iter();
    Ok(Tried::Refused {
        retry_in: millis(number(parts.next())?),
        ahead: u64::try_from(number(parts.next())?).ok(),
        holders: holders(parts.next())?,
    })
}

pub(crate) fn fate(reply: Value) -> Result<Fate> {
    let mut parts = list(reply)?.into_iter();
    match number(parts.next())? {
        1 => Ok(Fate::Holds),
        2 => Ok(Fate::Queued(u64::try_from(number(parts.next())?).unwrap_or(0))),
        _ => Ok(Fate::Gone),
    }
}

/// Whether an attempt may succeed, or when to look again.
pub(crate) fn peek(reply: Value) -> Result<Peek> {
    let mut parts = list(reply)?.into_iter();
    match number(parts.next())? {
        1 => Ok(Peek::Free),
        2 => Ok(Peek::Crowded { retry_in: millis(number(parts.next())?) }),
        _ => Ok(Peek::Held { retry_in: millis(number(parts.next())?), fence: None }),
    }
}

/// Holders and how many wait.
pub(crate) fn state(reply: Value) -> Result<(Vec<Holder>, u64)> {
    let mut parts = list(reply)?.into_iter();
    let holders = holders(parts.next())?;
    Ok((holders, u64::try_from(number(parts.next())?).unwrap_or(0)))
}

pub(crate) fn count(reply: Value) -> Result<u64> {
    Ok(u64::try_from(number(Some(reply))?).unwrap_or(0))
}

fn holders(reply: Option<Value>) -> Result<Vec<Holder>> {
    let all = list(reply.ok_or_else(unreadable)?)?;
    all.into_iter().map(|one| holder(list(one)?)).collect()
}

/// Owner, mode, fence, time of acquisition in µs, ms left; an empty text is unknown.
fn holder(parts: Vec<Value>) -> Result<Holder> {
    let mut parts = parts.into_iter();
    let (owner, mode, fence, at) =
        (text(parts.next())?, text(parts.next())?, text(parts.next())?, text(parts.next())?);
    let left = millis(number(parts.next())?);
    let mut holder = Holder::new();
    if !owner.is_empty() {
        holder = holder.owned_by(owner);
    }
    if !mode.is_empty() {
        holder = holder.in_mode(mode.parse().map_err(|_| unreadable())?);
    }
    if !fence.is_empty() {
        holder = holder.with_fence(Fence::new(fence.parse().map_err(|_| unreadable())?)?);
    }
    if !at.is_empty() {
        let micros = at.parse().map_err(|_| unreadable())?;
        holder = holder.since(SystemTime::UNIX_EPOCH + Duration::from_micros(micros));
    }
    Ok(left.into_iter().fold(holder, Holder::expiring_in))
}

fn millis(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().map(Duration::from_millis)
}

/// The text of `INFO`.
pub(crate) fn info(reply: Value) -> Result<String> {
    match reply {
        Value::VerbatimString { text, .. } => Ok(text),
        reply => text(Some(reply)),
    }
}

pub(crate) fn list(reply: Value) -> Result<Vec<Value>> {
    match reply {
        Value::Array(items) => Ok(items),
        _ => Err(unreadable()),
    }
}

pub(crate) fn text(reply: Option<Value>) -> Result<String> {
    match reply {
        Some(Value::BulkString(bytes)) => String::from_utf8(bytes).map_err(|_| unreadable()),
        Some(Value::SimpleString(text)) => Ok(text),
        // A field that is not there.
        Some(Value::Nil) => Ok(String::new()),
        _ => Err(unreadable()),
    }
}

pub(crate) fn number(reply: Option<Value>) -> Result<i64> {
    match reply {
        Some(Value::Int(number)) => Ok(number),
        _ => Err(unreadable()),
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "what is stored beside the lock is not as we write it")
}
