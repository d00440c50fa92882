//! `cargo xtask bench`: builds the benchmark as it is meant to run, and runs it.

use crate::Result;
use crate::process::cargo;
use crate::process::run;
use crate::workspace::Workspace;

/// What the benchmark itself reads.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// --backend NAME, --scenario NAME, --seconds N, --quick, --out DIR
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the benchmark; its results go to the target folder unless it is told otherwise.
pub(crate) fn bench(options: &Options) -> Result {
    let workspace = Workspace::read()?;
    // It starts itself and a second program beside itself, so both have to be there.
    let build = ["build", "--release", "--package", "lock-bench", "--bins"];
    run(&mut cargo(&build))?;
    let start = ["run", "--quiet", "--release", "--package", "lock-bench", "--"];
    let mut command = cargo(&start);
    command.args(&options.arguments).env("LOCK_BENCH_OUT", workspace.target("bench")?);
    run(&mut command)
}
