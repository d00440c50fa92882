//! Postgres, which refuses to run as root.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::Kind;
use crate::Program;
use crate::Result;
use crate::port::free_port;
use crate::process::checked;
use crate::process::give;
use crate::process::tethered;
use crate::server::Plan;

/// Postgres.
pub const POSTGRES: Kind = Kind {
    name: "postgres",
    // Tests refuse the pooler.
    program: Program::new("initdb", &["postgresql", "pgbouncer"]),
    plan,
};

/// The user that Debian's package brings.
const USER: &str = "postgres";

/// Interrupt is a fast shutdown; terminate would wait for clients.
const END: Signal = Signal::INT;

/// Makes a cluster.
fn plan(initdb: &Path, folder: &Path) -> Result<Plan> {
    // What is on the path may be a link away from its companions.
    let initdb = initdb.canonicalize()?;
    give(folder, USER)?;
    let data = folder.join("data");
    let options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"];
    checked(tethered(&initdb, END, Some(USER)).args(options).arg("--pgdata").arg(&data))?;
    let port = free_port().to_string();
    let mut command = tethered(&initdb.with_file_name("postgres"), END, Some(USER));
    command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port]);
    command.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
    command.args(["-c", "max_connections=500"]);
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let look = initdb.with_file_name("pg_isready");
    let ready = move || {
        let mut look = Command::new(&look);
        look.args(["-q", "-h", "127.0.0.1", "-p", &port]);
        look.status().is_ok_and(|status| status.success())
    };
    Ok(Plan { command, end: END, url, ready: Box::new(ready) })
}
