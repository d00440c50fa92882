//! `lockctl cleanup`: space that expired locks take up.

use serde::Serialize;

use super::Context;
use crate::exit::Outcome;
use crate::output;

#[derive(Serialize)]
struct Removed {
    removed: u64,
}

/// Removes what expired locks left behind, and prints how many records went.
pub(super) async fn cleanup(context: &Context) -> Result<(), Outcome> {
    let removed = context.provider.cleanup_expired().await?;
    if context.global.json {
        return output::print_json(&Removed { removed });
    }
    output::print(&format!("{removed} removed\n"))
}
