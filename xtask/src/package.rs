//! Installing what is missing from Debian or Ubuntu.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use test_servers::find;

use crate::Failure;
use crate::Result;
use crate::need::Need;
use crate::need::missing;
use crate::process::is_root;
use crate::process::run;

/// What Debian's package scripts ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Where a policy that was there before waits meanwhile.
const SAVED: &str = "/usr/sbin/policy-rc.d.before-xtask";
const NOTHING_STARTS: &str =
    "#!/bin/sh\n# written by cargo xtask, for the time of one installation\nexit 101\n";

/// Installs what is missing. The servers that come with it are not started.
pub(crate) fn install(without: &[String]) -> Result {
    let missing = packages(missing(without));
    if missing.is_empty() {
        return Ok(());
    }
    check_able(&missing)?;
    let policy = Policy::put()?;
    let installed = run(&mut apt(&["update"])).and_then(|()| {
        let arguments = ["install", "--yes", "--no-install-recommends"];
        run(apt(&arguments).args(&missing))
    });
    policy.put_back()?;
    installed
}

/// Says what to type to get `needs`.
pub(crate) fn advice<'a>(needs: impl Iterator<Item = &'a Need>) -> String {
    format!("apt-get install {}, or add --install", packages(needs).join(" "))
}

/// Names each package once, also if it brings what several need.
fn packages<'a>(needs: impl Iterator<Item = &'a Need>) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for package in needs.flat_map(|need| need.program.packages()) {
        if !packages.contains(package) {
            packages.push(*package);
        }
    }
    packages
}

fn check_able(missing: &[&str]) -> Result {
    let wanted = missing.join(" ");
    if find("apt-get").is_none() {
        return Err(Failure(format!(
            "--install knows Debian and Ubuntu only: install {wanted} as your system does"
        )));
    }
    if !is_root() && find("sudo").is_none() {
        return Err(Failure(format!("--install needs root or sudo to install {wanted}")));
    }
    Ok(())
}

/// A program run with the right to change the system.
fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

fn apt(arguments: &[&str]) -> Command {
    // `env`, because sudo would not pass the variable on.
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    command
}

/// Keeps new packages from starting their servers on a person's machine.
struct Policy;

impl Policy {
    fn put() -> Result<Self> {
        // A saved policy that is still there is from a run that was killed: it is the real one.
        if Path::new(POLICY).exists() && !Path::new(SAVED).exists() {
            run(as_root("cp").args(["--archive", POLICY, SAVED]))?;
        }
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(NOTHING_STARTS.as_bytes())?;
        let written = file.path().as_os_str();
        run(as_root("install")
            .args(["--mode=755", "--no-target-directory"])
            .arg(written)
            .arg(POLICY))?;
        Ok(Self)
    }

    fn put_back(self) -> Result {
        if Path::new(SAVED).exists() {
            run(as_root("mv").args([SAVED, POLICY]))
        } else {
            run(as_root("rm").arg(POLICY))
        }
    }
}
