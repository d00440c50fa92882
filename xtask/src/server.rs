//! The servers that tests talk to, each on free ports of this host, in a temporary folder.

pub(crate) mod etcd;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod zookeeper;

use std::fs::File;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::Failure;
use crate::Result;
use crate::need::NEEDS;
use crate::need::Need;
use crate::need::Server;
use crate::package;
use crate::process::stop;
use crate::signal;

/// Starts a server in a folder of its own.
pub(crate) type Start = fn(program: &Path, folder: &Path) -> Result<Running>;

/// A server that we have started; dropping it stops it.
pub(crate) struct Running {
    child: Child,
    signal: Signal,
    url: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = stop(&mut self.child, self.signal) {
            eprintln!("xtask: cannot stop process {}: {error}", self.child.id());
        }
    }
}

/// The servers of one run.
pub(crate) struct Servers {
    /// How the tests are told of them.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// What is not there although tests need it, and why.
    pub(crate) absent: Vec<(&'static Need, String)>,
    // Stopped before their folder goes.
    running: Vec<Running>,
    folder: TempDir,
}

impl Servers {
    /// Starts all that can be started and that nobody has named another for.
    pub(crate) fn start(without: &[String]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lock-servers-").tempdir()?;
        // A server may run as another user, who has to get through.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let (variables, absent, running) = (Vec::new(), Vec::new(), Vec::new());
        let mut servers = Self { variables, absent, running, folder };
        for need in NEEDS.iter().filter(|need| !without.iter().any(|name| name == need.name)) {
            servers.add(need)?;
        }
        Ok(servers)
    }

    fn add(&mut self, need: &'static Need) -> Result {
        if need.server.as_ref().is_some_and(Server::is_elsewhere) {
            return Ok(());
        }
        let Some(program) = need.find() else {
            self.absent.push((need, need.lack()));
            return Ok(());
        };
        let Some(server) = &need.server else { return Ok(()) };
        match self.start_one_or_several(need, server, &program) {
            Ok(urls) => self.variables.push((server.variable, urls.join(","))),
            Err(failure) => self.absent.push((need, format!("it did not start: {failure}"))),
        }
        signal::check()
    }

    fn start_one_or_several(
        &mut self,
        need: &Need,
        server: &Server,
        program: &Path,
    ) -> Result<Vec<String>> {
        let mut urls = Vec::new();
        for number in 1..=server.count() {
            let folder = self.folder.path().join(format!("{}-{number}", need.name));
            std::fs::create_dir(&folder)?;
            let running = (server.start)(program, &folder)?;
            urls.push(running.url.clone());
            self.running.push(running);
        }
        Ok(urls)
    }
}

/// `cargo xtask servers`.
pub(crate) fn serve(install: bool) -> Result {
    if install {
        package::install(&[])?;
    }
    let servers = Servers::start(&[])?;
    for (need, why) in &servers.absent {
        eprintln!("{}: {why}", need.name);
    }
    if !servers.absent.is_empty() {
        eprintln!("{}", package::advice(servers.absent.iter().map(|(need, _)| *need)));
    }
    for (variable, url) in &servers.variables {
        println!("export {variable}='{url}'");
    }
    eprintln!("running until ctrl-c");
    while !signal::has_come() {
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Starts a server that ends with us, its output in a file of its folder.
fn spawn(command: &mut Command, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-c is for us, who stop the server once the tests have ended.
        .process_group(0)
        .spawn()
        .map_err(|error| Failure(format!("{:?}: {error}", command.get_program())))
}

/// A command that is told to end when we are killed, and runs as `user` if we are root.
fn tethered(program: &Path, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// Adds the end of a server's output to why it failed.
fn with_log(failure: Failure, folder: &Path) -> Failure {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(5)..].join("\n  ");
    Failure(format!("{failure}\n  {end}"))
}
