//! Postgres, which refuses to run as root.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Signal;

use super::Running;
use super::spawn;
use super::tethered;
use super::with_log;
use crate::Failure;
use crate::Result;
use crate::port::free_port;
use crate::process::await_ready;
use crate::process::is_root;

/// The user that Debian's package brings.
const USER: &str = "postgres";

/// Where Debian keeps the programs, the newest version first.
pub(crate) fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    versions.iter().map(|version| version.join("bin")).collect()
}

/// Makes a cluster and serves it; `initdb` is the program.
pub(crate) fn start(initdb: &Path, folder: &Path) -> Result<Running> {
    // What is on the path may be a link away from its companions.
    let initdb = initdb.canonicalize()?;
    let user = is_root().then_some(USER);
    if let Some(user) = user {
        checked(Command::new("chown").arg(user).arg(folder))?;
    }
    let data = folder.join("data");
    let options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"];
    checked(tethered(&initdb, user).args(options).arg("--pgdata").arg(&data))?;
    let port = free_port().to_string();
    let mut server = tethered(&initdb.with_file_name("postgres"), user);
    server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port]);
    server.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=500"]);
    let mut child = spawn(&mut server, folder)?;
    let mut look = Command::new(initdb.with_file_name("pg_isready"));
    look.args(["-q", "-h", "127.0.0.1", "-p", &port]);
    let ready = await_ready(&mut child, || look.status().is_ok_and(|status| status.success()));
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    // Interrupt is Postgres's fast shutdown; terminate would wait for its clients.
    let running = Running { child, signal: Signal::INT, url };
    ready.map_err(|failure| with_log(failure, folder))?;
    Ok(running)
}

/// Runs a program that says nothing unless it fails.
fn checked(command: &mut Command) -> Result {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure(format!("{:?} failed: {}", command.get_program(), said.trim())))
}
