//! The backends that are measured: each has one file and one line here.

#[cfg(feature = "etcd")]
mod etcd;
mod memory;
mod mysql;
mod postgres;
mod redis;
mod sqlite;
mod zookeeper;

use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::time::Duration;

use tokio::time::sleep;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::subject::Subject;

pub(crate) const SUBJECTS: &[&Subject] = &[
    &memory::SUBJECT,
    &sqlite::SUBJECT,
    &redis::SUBJECT,
    &mysql::SUBJECT,
    &postgres::SUBJECT,
    #[cfg(feature = "etcd")]
    &etcd::SUBJECT,
    &zookeeper::SUBJECT,
];

/// Scenarios that go without a lane; the notes of its backend say why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("held", "PgAdvisoryLock"),
    ("held", "fixed polling"),
    ("held", "GET_LOCK"),
    ("idle", "Lock RPC"),
    ("contention", "Lock RPC"),
];

/// Tells whether it is luck how fast a client is, and stays so for its life, so that each round needs new ones:
/// where the driver of ZooKeeper has its task in memory decides whether requests that come together go out in one
/// piece or in several.
pub(crate) fn has_lucky_clients(backend: &str) -> bool {
    backend == "zookeeper"
}

/// Tells whether a scenario has a row for a lane.
pub(crate) fn has_row(scenario: &str, lane: &str) -> bool {
    !LEFT_OUT.contains(&(scenario, lane))
}

/// Finds a backend by its name.
pub(crate) fn find(name: &str) -> Outcome<&'static Subject> {
    let found = SUBJECTS.iter().find(|subject| subject.name == name);
    found.copied().ok_or_else(|| Failure::new(format!("no backend is called {name:?}")))
}

/// Lets some time go by before the next try.
async fn pause() {
    sleep(Duration::from_millis(rand::random_range(5..=15))).await;
}

/// Runs a program that makes a store; an error has what it said.
fn run_to_end(program: &str, arguments: &[&str]) -> Outcome {
    let output = output(Path::new(program), arguments)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!("{program} failed: {said}")))
}

/// Reads what stands behind `mark` in what a server says of its version.
fn told_version(program: &Path, asked: &[&str], mark: &str, name: &str) -> Outcome<String> {
    let told = output(program, asked)?.stdout;
    let told = String::from_utf8_lossy(&told);
    let version = told.split_once(mark).and_then(|(_, rest)| rest.split_whitespace().next());
    let version = version.ok_or_else(|| Failure::new(format!("{name} tells no version")))?;
    Ok(format!("{name} {version}"))
}

fn output(program: &Path, arguments: &[&str]) -> Outcome<Output> {
    let output = Command::new(program).args(arguments).output();
    output.map_err(|error| Failure::new(format!("{}: {error}", program.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_that_is_compiled_in_is_measured() {
        // Redlock is a quorum over what is measured as Redis.
        for driver in lock::DRIVERS.iter().filter(|driver| driver.name != "redlock") {
            find(driver.name).unwrap();
        }
    }
}
