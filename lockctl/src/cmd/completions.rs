//! `lockctl completions`: what a shell needs to complete our command line.

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::args::Completions;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;

/// Prints the completion script of a shell.
pub(super) fn completions(args: &Completions) -> Result<Outcome, Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lockctl", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::quiet("done", Code::OK))
}
