//! `lockctl profile`: what the backend can do.

use std::time::Duration;

use lock::FenceKind;
use lock::LeaseKind;
use lock::Profile;
use lock::Wakeup;
use serde::Serialize;

use super::Context;
use crate::exit::Outcome;
use crate::output;
use crate::table::Cell;
use crate::table::Table;

#[derive(Serialize)]
struct Facts {
    backend: &'static str,
    lease: &'static str,
    fence: &'static str,
    ttl_min_ms: u64,
    ttl_max_ms: u64,
    granularity_ms: u64,
    native_queue: bool,
    fair: bool,
    shared: bool,
    permits: bool,
    wakeup: &'static str,
    watches_holders: bool,
}

/// Prints the facts about the backend.
pub(super) async fn profile(context: &Context) -> Result<(), Outcome> {
    let facts = Facts::of(context.provider.profile());
    if context.global.json {
        return output::print_json(&facts);
    }
    let mut table = Table::new(["FACT", "VALUE"], &[]);
    for row in rows(&facts) {
        table.push(row.map(Cell::new));
    }
    table.print()
}

impl Facts {
    fn of(profile: &Profile) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            backend: profile.name,
            lease: if profile.lease == LeaseKind::Session { "session" } else { "per lock" },
            fence: if profile.fence == FenceKind::Native { "native" } else { "clocked" },
            ttl_min_ms: millis(profile.ttl_min),
            ttl_max_ms: millis(profile.ttl_max),
            granularity_ms: millis(profile.granularity),
            native_queue: profile.native_queue,
            fair: profile.fair,
            shared: profile.shared,
            permits: profile.permits,
            wakeup: if profile.wakeup == Wakeup::Push { "push" } else { "poll" },
            watches_holders: profile.watches_holders,
        }
    }
}

/// The same names and values as in JSON.
fn rows(facts: &Facts) -> Vec<[String; 2]> {
    let Ok(serde_json::Value::Object(facts)) = serde_json::to_value(facts) else {
        return Vec::new();
    };
    let cell = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    facts.into_iter().map(|(name, value)| [name.replace('_', " "), cell(value)]).collect()
}
