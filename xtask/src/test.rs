//! `cargo xtask test`: the servers, the tests, and what did not run.

use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::Result;
use crate::all;
use crate::binaries;
use crate::need::NEEDS;
use crate::need::not_to_be_built;
use crate::package;
use crate::process::cargo;
use crate::server::Servers;
use crate::workspace::Workspace;

/// How many random inputs a property gets in a long run; 256 is the rule.
const MANY: &str = "20000";

/// How long one program of tests may take: the longest takes a minute on a quiet machine.
const LIMIT: Duration = Duration::from_mins(10);

/// The same with the long tests.
const LONG: Duration = Duration::from_mins(90);

/// What to test.
#[derive(Default, clap::Args)]
pub(crate) struct Options {
    /// Install what is missing (Debian or Ubuntu, as root or by sudo)
    #[arg(long)]
    pub(crate) install: bool,
    /// Run the long tests too: properties on many more inputs, whole minutes of contending processes,
    /// stores of several nodes
    #[arg(long)]
    full: bool,
    /// Go without this server; may be repeated
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Run only the tests whose name contains this
    filter: Option<String>,
}

/// Runs the tests; fails if one does, or if something they need is neither there nor excluded.
pub(crate) fn test(options: &Options) -> Result {
    check_names(&options.without)?;
    if options.install {
        package::install(&options.without)?;
    }
    let servers = Servers::start(&options.without)?;
    let tested = tests(options, &servers);
    all([tested, summary(options, &servers)])
}

fn check_names(names: &[String]) -> Result {
    let known = || NEEDS.iter().map(|need| need.name);
    match names.iter().find(|name| !known().any(|known| known == **name)) {
        None => Ok(()),
        Some(name) => {
            let known = known().collect::<Vec<_>>().join(", ");
            Err(Failure(format!("--without {name}: there is only {known}")))
        }
    }
}

fn tests(options: &Options, servers: &Servers) -> Result {
    let workspace = Workspace::read()?;
    let cargo_test = || {
        let mut command = cargo(&["test"]);
        command.args(workspace.everything());
        command
    };
    let mut binaries = binaries::build(&mut cargo_test())?;
    let third_party = workspace
        .third_party(&["test"])
        .and_then(|mut command| binaries::build(&mut command))
        .map(|more| binaries.extend(more));
    binaries.retain(|binary| !options.without.iter().any(|name| binary.is_about(name)));
    let limit = if options.full { LONG } else { LIMIT };
    let adjust = |command: &mut Command| adjust(command, options, servers);
    let ran = binaries::run_all(&binaries, limit, adjust);
    // After the others, because they keep every core busy.
    let mut examples = cargo_test();
    examples.args(["--doc", "--no-fail-fast"]);
    adjust(&mut examples);
    all([third_party, ran, binaries::run_shown("documentation", limit, &mut examples)])
}

/// Tells a test program what to run, and where its servers are.
fn adjust(command: &mut Command, options: &Options, servers: &Servers) {
    command.args(&options.filter);
    command.envs(servers.variables.iter().map(|(name, url)| (*name, url)));
    if !options.without.is_empty() {
        command.env("LOCK_TEST_EXCLUDE", options.without.join(","));
    }
    if options.full {
        command.env("LOCK_TEST_FULL", "1").env("PROPTEST_CASES", MANY);
    }
}

/// Names every setup that did not run; fails if one of them was not excluded.
fn summary(options: &Options, servers: &Servers) -> Result {
    for (variable, _) in &servers.variables {
        eprintln!("ran with {variable}");
    }
    for name in &options.without {
        eprintln!("did not run: {name}, excluded by --without");
    }
    for (need, why) in &servers.absent {
        eprintln!("did not run: {}, {why}", need.name);
    }
    for name in not_to_be_built() {
        eprintln!("did not run: {name}, which cannot be built");
    }
    if !options.full {
        eprintln!("did not run: the long tests, which --full adds");
    }
    if servers.absent.is_empty() {
        return Ok(());
    }
    let advice = package::advice(servers.absent.iter().map(|(need, _)| *need));
    Err(Failure(format!("some tests went without what they need: {advice}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_can_be_gone_without() {
        check_names(&["etcd".to_owned()]).unwrap();
        let failure = check_names(&["etdc".to_owned()]).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "--without etdc: there is only protoc, redis, redlock, mysql, postgres, etcd, zookeeper"
        );
    }

    #[test]
    fn what_was_not_there_is_named_and_fails_the_run() {
        let options = Options::default();
        let mut servers =
            Servers::start(&NEEDS.iter().map(|need| need.name.to_owned()).collect::<Vec<_>>())
                .unwrap();
        summary(&options, &servers).unwrap();
        servers.absent.push((&NEEDS[0], "it is not installed".to_owned()));
        assert_eq!(
            summary(&options, &servers).unwrap_err().to_string(),
            "some tests went without what they need: apt-get install protobuf-compiler libprotobuf-dev, or add --install"
        );
    }
}
