//! `cargo xtask ci`: every check that a change has to pass, each with its wall time.

use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::Failure;
use crate::Result;
use crate::all;
use crate::api;
use crate::need::missing;
use crate::need::not_to_be_built;
use crate::package;
use crate::process::cargo;
use crate::process::run;
use crate::signal;
use crate::test;
use crate::workspace::Workspace;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Install what is missing (Debian or Ubuntu, as root or by sudo)
    #[arg(long)]
    install: bool,
    /// Leave the tests to `cargo xtask test`
    #[arg(long)]
    skip_tests: bool,
}

/// Runs all checks to their end, also after one has failed; the tests come last.
pub(crate) fn ci(options: &Options) -> Result {
    let workspace = Workspace::read()?;
    let mut steps = Steps::default();
    if options.install {
        steps.run("install what is missing", || package::install(&[]));
    }
    steps.run("all that is needed is there", nothing_is_missing);
    steps.run("locked dependencies", || locked(&workspace));
    steps.run("format", || format(&workspace));
    steps.run("lints", || lints(&workspace));
    steps.run("documentation", || documentation(&workspace));
    steps.run("packages", || packages(&workspace));
    let mut unread = None;
    steps.run("public API", || {
        if let api::Outcome::CannotRead(format) = api::compare(&workspace, false)? {
            unread = Some(format);
        }
        Ok(())
    });
    if let Some(format) = unread {
        steps.skipped.push(format!("public API: {}", api::why_not(format)));
    }
    steps.run("features: none, each alone, the default ones", || features(&workspace));
    steps.run("interleavings of threads", || interleavings(&workspace));
    if has_deny() {
        steps.run("licences and advisories", || run(&mut cargo(&["deny", "check"])));
    } else {
        steps.skipped.push("licences and advisories: cargo-deny is not installed".to_owned());
    }
    for name in not_to_be_built() {
        steps.skipped.push(format!("lints and documentation of {name}: it cannot be built"));
    }
    if !options.skip_tests {
        steps.run("tests", || test::test(&test::Options::default()));
    }
    steps.report()
}

fn nothing_is_missing() -> Result {
    let lacks: Vec<String> = missing(&[]).map(|need| need.program.lack()).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    Err(Failure(format!("{}: {}", lacks.join(", "), package::advice(missing(&[])))))
}

/// Fails if a manifest was changed and `Cargo.lock` was not; the later steps would mend it silently.
fn locked(workspace: &Workspace) -> Result {
    let unchanged = ["update", "--workspace", "--locked"];
    all([run(&mut cargo(&unchanged)), run(&mut workspace.third_party(&unchanged)?)])
}

fn format(workspace: &Workspace) -> Result {
    let ours = run(&mut cargo(&["fmt", "--all", "--check"]));
    all([ours, run(&mut workspace.third_party(&["fmt", "--check"])?)])
}

fn lints(workspace: &Workspace) -> Result {
    let mut ours = cargo(&["clippy", "--all-targets"]);
    let ours = run(ours.args(workspace.everything()).args(["--", "-D", "warnings"]));
    let theirs = ["clippy", "--all-targets", "--", "-D", "warnings"];
    all([ours, run(&mut workspace.third_party(&theirs)?)])
}

fn documentation(workspace: &Workspace) -> Result {
    let mut command = cargo(&["doc", "--no-deps"]);
    run(command.args(workspace.everything()).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Packs what is published, as far as that needs no build. A warning is a fault of a manifest.
fn packages(workspace: &Workspace) -> Result {
    let mut command = cargo(&["package", "--no-verify", "--allow-dirty", "--offline"]);
    let names = workspace.published().filter_map(|package| package["name"].as_str());
    command.args(names.flat_map(|name| ["--package", name]));
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    eprint!("{said}");
    let clean = output.status.success() && !said.contains("warning:");
    if clean { Ok(()) } else { Err(Failure("cargo package fails or warns, see above".to_owned())) }
}

/// Tries out interleavings of threads. All is built apart for it, with primitives that a scheduler moves.
fn interleavings(workspace: &Workspace) -> Result {
    let mut command = cargo(&["test", "--package", "lock-core", "--test", "meetings"]);
    command.env("RUSTFLAGS", "--cfg shuttle");
    // Optimized, it tries as many in a third of the time.
    command.env("CARGO_PROFILE_TEST_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    run(command.env("CARGO_TARGET_DIR", workspace.target("shuttle")?))
}

/// What has been checked so far.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, Result)>,
    skipped: Vec<String>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result) {
        if signal::has_come() {
            return;
        }
        eprintln!("\n== {name}");
        let begun = Instant::now();
        let outcome = step();
        if let Err(failure) = &outcome {
            eprintln!("{name}: {failure}");
        }
        self.done.push((name, begun.elapsed(), outcome));
    }

    fn report(self) -> Result {
        eprintln!();
        for (name, took, outcome) in &self.done {
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            eprintln!("{:>7.1} s  {name}: {word}", took.as_secs_f64());
        }
        for name in &self.skipped {
            eprintln!("          did not run: {name}");
        }
        signal::check()?;
        match self.done.iter().filter(|(_, _, outcome)| outcome.is_err()).count() {
            0 => Ok(()),
            failed => Err(Failure(format!("{failed} of {} checks failed", self.done.len()))),
        }
    }
}

/// All features together are what the lints see.
fn features(workspace: &Workspace) -> Result {
    let none = ["check", "--package", "lock", "--no-default-features"];
    let mut outcomes = vec![run(&mut cargo(&none))];
    for feature in workspace.features()? {
        outcomes.push(run(cargo(&none).args(["--features", &feature])));
    }
    for package in ["lock", "lockctl"] {
        outcomes.push(run(&mut cargo(&["check", "--package", package])));
    }
    all(outcomes)
}

fn has_deny() -> bool {
    let mut version: Command = cargo(&["deny", "--version"]);
    version
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_does_not_stop_the_others_and_fails_the_whole() {
        let mut steps = Steps::default();
        steps.run("one", || Err(Failure("broken".into())));
        steps.run("two", || Ok(()));
        assert_eq!(steps.report().unwrap_err().to_string(), "1 of 2 checks failed");
    }
}
