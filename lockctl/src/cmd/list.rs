//! `lockctl list`: the held keys.

use super::Context;
use super::not_shown;
use super::state::State;
use super::state::print_states;
use crate::exit::Outcome;
use crate::output;

/// Prints the keys that begin with `prefix`.
pub(super) async fn list(context: &Context, prefix: &str) -> Result<(), Outcome> {
    let states = context.provider.list(prefix).await.map_err(not_shown)?;
    if !context.global.json {
        return print_states(&states);
    }
    let mut lines = String::new();
    for state in &states {
        lines.push_str(&output::json_line(&State::new(state))?);
    }
    output::print(&lines)
}
