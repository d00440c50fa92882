//! Runs commands under a lock, and looks after locks, over any backend. For Linux.

mod args;
mod caller;
mod channel;
mod cmd;
mod descendants;
mod duration;
mod exit;
mod front;
mod guardian;
mod mask;
mod message;
mod output;
mod place;
mod result;
mod signals;
mod table;
mod terminal;
mod text;

use std::env;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::args::Command;
use crate::exit::Outcome;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let first = arguments.by_ref().nth(1);
    if first.as_ref().is_some_and(|first| first == guardian::SUBCOMMAND) {
        return guardian::main(arguments);
    }
    let fronted = first.is_some_and(|first| first == front::SUBCOMMAND);
    let outcome = run(fronted);
    if !outcome.message.is_empty() {
        output::say(&outcome.message);
    }
    outcome.code.into()
}

/// Does what the command line asks for; `fronted` tells whether a front started us for it.
fn run(fronted: bool) -> Outcome {
    let skipped = usize::from(fronted);
    let arguments = env::args_os().take(1).chain(env::args_os().skip(1 + skipped));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // It prints in its own style, help to stdout, and exits with 0 or 2.
        Err(error) => args::explained(error).exit(),
    };
    if matches!(cli.command, Command::Run(_) | Command::Elect(_))
        && !fronted
        && Terminal::open(rustix::process::getpgrp()).is_some()
    {
        return front::run();
    }
    cmd::run(cli, fronted).unwrap_or_else(|outcome| outcome)
}
