//! `lockctl status`: who holds a key.

use super::Context;
use super::not_shown;
use super::state::State;
use super::state::print_states;
use crate::exit::Outcome;
use crate::output;

/// Prints who holds `key`.
pub(super) async fn status(context: &Context, key: &str) -> Result<(), Outcome> {
    let state = context.provider.status(key).await.map_err(not_shown)?;
    if context.global.json {
        return output::print_json(&State::new(&state));
    }
    print_states(&[state])
}
