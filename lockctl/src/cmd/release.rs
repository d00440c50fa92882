//! `lockctl release`: the end of a handle.

use serde::Serialize;

use super::Context;
use super::not_held;
use crate::args::Release;
use crate::exit::Outcome;
use crate::output;

#[derive(Serialize)]
struct Released<'a> {
    key: &'a str,
    released: bool,
}

/// Releases the lock of a handle.
pub(super) async fn release(context: &Context, args: &Release) -> Result<(), Outcome> {
    context.provider.release(&args.handle).await.map_err(not_held)?;
    let key = args.handle.key.as_str();
    context.note(|| format!("released {key:?}"));
    if context.global.json {
        output::print_json(&Released { key, released: true })?;
    }
    Ok(())
}
