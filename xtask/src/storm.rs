//! `cargo xtask storm`: random faults for as long as you like.

use crate::Result;
use crate::process::cargo;
use crate::process::run;

/// What to put through a storm, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The backend, as in its crate's name
    backend: String,
    /// One setup only, by its whole name: redis, redis-cluster …
    #[arg(long)]
    setup: Option<String>,
    /// How long each setup is in the storm
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Make the choices of an earlier run, which printed this
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the storms of one backend.
pub(crate) fn storm(options: &Options) -> Result {
    let package = format!("lock-{}", options.backend);
    let mut command = cargo(&["test", "--package", &package, "--test", "storm", "--"]);
    if let Some(setup) = &options.setup {
        command.args(["--exact", &format!("storm::{setup}")]);
    }
    command.env("LOCK_STORM_SECONDS", (options.minutes * 60).to_string());
    if let Some(seed) = options.seed {
        command.env("LOCK_STORM_SEED", seed.to_string());
    }
    run(&mut command)
}
