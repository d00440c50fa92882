//! `lockctl schema`: what an administrator has to create.

use serde::Serialize;

use crate::args::Global;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;
use crate::place;

#[derive(Serialize)]
struct Schema {
    schema: Option<String>,
}

/// Prints the statements; none for a store that needs nothing.
pub(super) fn schema(global: &Global) -> Result<Outcome, Outcome> {
    let schema = place::config(global)?.schema()?;
    if global.json {
        output::print_json(&Schema { schema })?;
    } else if let Some(schema) = schema {
        // Fit to be fed to the store's own command line.
        output::print(&format!("{};\n", schema.trim_end().trim_end_matches(';')))?;
    } else {
        output::say("the store needs nothing to be created");
    }
    Ok(Outcome::quiet("done", Code::OK))
}
