//! What `status` and `list` show of a key.

use std::time::Duration;
use std::time::SystemTime;

use anstyle::AnsiColor;
use lock::Holder;
use lock::KeyState;
use lock::Mode;
use serde::Serialize;

use crate::duration::show;
use crate::exit::Outcome;
use crate::table::Cell;
use crate::table::Table;

/// The JSON of one key. What a foreign client or a session does not have is null.
#[derive(Serialize)]
pub(super) struct State<'a> {
    key: &'a str,
    locked: bool,
    holders: Vec<HolderJson<'a>>,
    waiting: u64,
}

#[derive(Serialize)]
struct HolderJson<'a> {
    owner: Option<&'a str>,
    mode: Option<String>,
    fence: Option<u64>,
    acquired_at: Option<String>,
    expires_in_ms: Option<u64>,
}

impl<'a> State<'a> {
    pub(super) fn new(state: &'a KeyState) -> Self {
        Self {
            key: &state.key,
            locked: state.is_locked(),
            holders: state.holders.iter().map(HolderJson::new).collect(),
            waiting: state.waiting,
        }
    }
}

impl<'a> HolderJson<'a> {
    fn new(holder: &'a Holder) -> Self {
        let millis = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Self {
            owner: holder.owner.as_deref(),
            mode: holder.mode.map(|mode| mode.to_string()),
            fence: holder.fence.map(lock::Fence::get),
            acquired_at: holder.acquired_at.map(timestamp),
            expires_in_ms: holder.expires_in.map(millis),
        }
    }
}

/// Prints a row per holder, or one for a key that is only waited for or free. A narrow terminal goes without the
/// time of acquisition, then without fences: both are in the JSON.
pub(super) fn print_states(states: &[KeyState]) -> Result<(), Outcome> {
    let heading = ["KEY", "OWNER", "MODE", "FENCE", "EXPIRES IN", "ACQUIRED AT", "WAITING"];
    let mut table = Table::new(heading, &[0, 1]).without(&[5, 3]);
    for state in states {
        for holder in &state.holders {
            table.push(row(state, cells(holder)));
        }
        if state.holders.is_empty() {
            table.push(row(state, ["free", "-", "-", "-", "-"].map(|text| Cell::new(text).dim())));
        }
    }
    table.print()
}

fn row(state: &KeyState, [owner, mode, fence, expires, acquired]: [Cell; 5]) -> [Cell; 7] {
    let waiting = Cell::new(state.waiting.to_string());
    let waiting = match state.waiting {
        0 => waiting.dim(),
        _ => waiting.coloured(AnsiColor::Yellow),
    };
    [Cell::new(&state.key), owner, mode, fence, expires, acquired, waiting]
}

fn cells(holder: &Holder) -> [Cell; 5] {
    [
        if holder.owner.is_some() {
            Cell::new(owner(holder))
        } else {
            Cell::new(owner(holder)).dim()
        },
        holder.mode.map_or_else(none, mode),
        holder.fence.map_or_else(none, |fence| Cell::new(fence.to_string())),
        holder.expires_in.map_or_else(none, |left| Cell::new(show(left))),
        holder.acquired_at.map_or_else(none, |at| Cell::new(timestamp(at)).dim()),
    ]
}

/// Who holds of whom the store knows no name.
const UNKNOWN: &str = "an unknown client";

/// Names a holder, and the key that it really holds.
pub(super) fn owner(holder: &Holder) -> String {
    let owner = holder.owner.as_deref().unwrap_or(UNKNOWN);
    match &holder.other_key {
        Some(key) => format!("{owner}, on key {key:?}"),
        None => owner.to_owned(),
    }
}

fn none() -> Cell {
    Cell::new("-").dim()
}

fn mode(mode: Mode) -> Cell {
    let cell = Cell::new(mode.to_string());
    match mode {
        Mode::Exclusive => cell,
        Mode::Shared => cell.coloured(AnsiColor::Cyan),
        Mode::Permits { .. } => cell.coloured(AnsiColor::Magenta),
    }
}

/// Writes a time as in RFC 3339, in UTC with milliseconds.
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Returns the Gregorian date of a day since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(at), text);
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let state = KeyState::new("k", vec![Holder::new()], 2);
        assert_eq!(
            serde_json::to_string(&State::new(&state)).unwrap(),
            r#"{"key":"k","locked":true,"holders":[{"owner":null,"mode":null,"fence":null,"acquired_at":null,"expires_in_ms":null}],"waiting":2}"#
        );
    }
}
