//! `cargo xtask storm`: random faults for as long as you like.

use std::process::Command;

use crate::Failure;
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
    let mut command = storms(options);
    if let Some(setup) = &options.setup {
        check_setup(options, setup)?;
        command.args(["--exact", &format!("storm::{setup}")]);
    }
    if let Some(seed) = options.seed {
        command.env("LOCK_STORM_SEED", seed.to_string());
    }
    run(&mut command)
}

fn storms(options: &Options) -> Command {
    let package = format!("lock-{}", options.backend);
    let mut command = cargo(&["test", "--package", &package, "--test", "storm", "--"]);
    command.env("LOCK_STORM_SECONDS", (options.minutes * 60).to_string());
    command
}

/// Fails if there is no such setup: a run of no test at all would succeed.
fn check_setup(options: &Options, setup: &str) -> Result {
    let output = storms(options).arg("--list").output()?;
    let list = String::from_utf8_lossy(&output.stdout);
    let setups: Vec<&str> = setups(&list).collect();
    // Without a list the run itself will tell what is wrong.
    if !output.status.success() || setups.contains(&setup) {
        return Ok(());
    }
    Err(Failure(format!("--setup {setup}: there is only {}", setups.join(", "))))
}

/// Reads the list of a test program.
fn setups(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_prefix("storm::")?.strip_suffix(": test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setups_are_read_from_the_list_of_tests() {
        let list = "storm::redis: test\nstorm::redis-cluster: test\n\n2 tests\n";
        assert_eq!(setups(list).collect::<Vec<_>>(), ["redis", "redis-cluster"]);
    }
}
