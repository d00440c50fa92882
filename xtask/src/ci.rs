//! `cargo xtask ci`: every check that a change has to pass, each with its wall time.

use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::Failure;
use crate::Result;
use crate::package;
use crate::process::cargo;
use crate::process::run;
use crate::signal;
use crate::test;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave the tests to `cargo xtask test --install`
    #[arg(long)]
    skip_tests: bool,
}

/// Runs all checks to their end, also after one has failed; the tests come last.
pub(crate) fn ci(options: &Options) -> Result {
    let mut steps = Steps::default();
    steps.run("install what is missing", || package::install(&[]));
    steps.run("format", || run(&mut cargo(&["fmt", "--all", "--check"])));
    steps.run("lints", || {
        let all = ["clippy", "--workspace", "--all-targets", "--all-features", "--"];
        run(cargo(&all).args(["-D", "warnings"]))
    });
    steps.run("documentation", || {
        let all = ["doc", "--workspace", "--all-features", "--no-deps"];
        run(cargo(&all).env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.run("each feature alone", each_feature_alone);
    if has_deny() {
        steps.run("licences and advisories", || run(&mut cargo(&["deny", "check"])));
    } else {
        steps.skipped.push("licences and advisories: cargo-deny is not installed");
    }
    if !options.skip_tests {
        steps.run("tests", || test::test(&test::Options::default()));
    }
    steps.report()
}

/// What has been checked so far.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, Result)>,
    skipped: Vec<&'static str>,
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

fn each_feature_alone() -> Result {
    run(&mut cargo(&["check", "--package", "lock", "--no-default-features"]))?;
    for feature in features()? {
        let alone = ["check", "--package", "lock", "--no-default-features", "--features"];
        run(cargo(&alone).arg(feature))?;
    }
    Ok(())
}

/// Reads the features of the facade from its manifest, by way of cargo.
fn features() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure(format!("cargo metadata: {error}")))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let facade = packages.into_iter().find(|package| package["name"] == "lock");
    let features = facade.and_then(|package| package["features"].as_object());
    let features = features.ok_or_else(|| Failure("cargo metadata has no package lock".into()))?;
    Ok(features.keys().filter(|name| *name != "default").cloned().collect())
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
    fn finds_the_features_of_the_facade() {
        let features = features().unwrap();
        assert!(features.iter().any(|feature| feature == "sqlite"), "{features:?}");
        assert!(!features.iter().any(|feature| feature == "default"), "{features:?}");
    }

    #[test]
    fn a_failed_check_does_not_stop_the_others_and_fails_the_whole() {
        let mut steps = Steps::default();
        steps.run("one", || Err(Failure("broken".into())));
        steps.run("two", || Ok(()));
        assert_eq!(steps.report().unwrap_err().to_string(), "1 of 2 checks failed");
    }
}
