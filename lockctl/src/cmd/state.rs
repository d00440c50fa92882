//! What `status` and `list` show of a key.

use std::time::Duration;
use std::time::SystemTime;

use lock::Holder;
use lock::KeyState;
use serde::Serialize;

use crate::duration::show;
use crate::exit::Outcome;
use crate::output;

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

/// Prints a row per holder, or one for a key that is only waited for or free.
pub(super) fn print_states(states: &[KeyState]) -> Result<(), Outcome> {
    let heading = ["KEY", "OWNER", "MODE", "FENCE", "EXPIRES IN", "ACQUIRED AT", "WAITING"];
    let rows: Vec<_> = states.iter().flat_map(rows).collect();
    output::print_table(heading, &rows)
}

fn rows(state: &KeyState) -> Vec<[String; 7]> {
    if state.holders.is_empty() {
        let free = ["free", "-", "-", "-", "-"].map(str::to_owned);
        return vec![row(state, free)];
    }
    state.holders.iter().map(|holder| row(state, cells(holder))).collect()
}

fn row(state: &KeyState, [owner, mode, fence, expires, acquired]: [String; 5]) -> [String; 7] {
    [state.key.clone(), owner, mode, fence, expires, acquired, state.waiting.to_string()]
}

fn cells(holder: &Holder) -> [String; 5] {
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    let owner = holder.owner.clone().unwrap_or_else(|| "an unknown client".to_owned());
    let owner = match &holder.other_key {
        Some(key) => format!("{owner}, on key {key:?}"),
        None => owner,
    };
    [
        owner,
        or_dash(holder.mode.map(|mode| mode.to_string())),
        or_dash(holder.fence.map(|fence| fence.to_string())),
        or_dash(holder.expires_in.map(show)),
        or_dash(holder.acquired_at.map(timestamp)),
    ]
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
