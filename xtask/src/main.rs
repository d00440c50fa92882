//! The project's own commands: `cargo xtask test`, `bench`, `storm`, `servers`, `install`, `api` and `ci`.
//!
//! They need no tool that a machine with Rust does not have; what the tests need besides, `--install`
//! gets from Debian or Ubuntu.

mod api;
mod bench;
mod binaries;
mod ci;
#[cfg(test)]
mod documents;
mod need;
mod package;
mod process;
mod server;
mod signal;
mod storm;
mod test;
mod workspace;

use std::fmt;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the servers, run all tests, stop the servers
    Test(test::Options),
    /// Measure the backends; `cargo xtask bench --help` tells what can be chosen
    #[command(disable_help_flag = true)]
    Bench(bench::Options),
    /// Put a backend through random faults; a bounded run of this is among the tests
    Storm(storm::Options),
    /// Start the servers, print how to reach them, and stop them on ctrl-c
    Servers {
        /// Install what is missing (Debian or Ubuntu, as root or by sudo)
        #[arg(long)]
        install: bool,
    },
    /// Install what the tests need (Debian or Ubuntu, as root or by sudo)
    Install,
    /// Compare the public API of each crate with what is written down in xtask/api
    Api(api::Options),
    /// Run every check: formats, lints, documentation, packages, public APIs, features, licences, all tests
    Ci(ci::Options),
}

/// What makes a command fail, as a sentence.
#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<test_servers::Error> for Failure {
    fn from(error: test_servers::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

type Result<T = ()> = std::result::Result<T, Failure>;

/// Fails with all that failed.
fn all(outcomes: impl IntoIterator<Item = Result>) -> Result {
    let failures = outcomes.into_iter().filter_map(Result::err).map(|failure| failure.0);
    let failures = failures.collect::<Vec<_>>().join("\n  ");
    if failures.is_empty() { Ok(()) } else { Err(Failure(failures)) }
}

fn main() -> ExitCode {
    if let Some(done) = api::as_rustdoc() {
        return done;
    }
    let arguments = Arguments::parse();
    let done = signal::catch().and_then(|()| match arguments.command {
        Command::Test(options) => test::test(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Storm(options) => storm::storm(&options),
        Command::Servers { install } => server::serve(install),
        Command::Install => package::install(&[]),
        Command::Api(options) => api::api(&options),
        Command::Ci(options) => ci::ci(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
