//! `cargo xtask bench`: builds the benchmark as it is meant to run, and runs it.

use crate::Result;
use crate::need::not_to_be_built;
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
    let package = ["--release", "--package", "lock-bench"];
    let features = not_to_be_built().next().is_none().then_some("--all-features");
    run(cargo(&["build", "--bins"]).args(package).args(features))?;
    let mut command = cargo(&["run", "--quiet", "--bin", "lock-bench"]);
    command.args(package).args(features).arg("--");
    command.args(&options.arguments).env("LOCK_BENCH_OUT", workspace.target("bench")?);
    run(&mut command)
}
