//! MariaDB, as distributions have it in the place of MySQL.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Signal;

use crate::Kind;
use crate::Program;
use crate::Result;
use crate::port::free_port;
use crate::process::checked;
use crate::process::give;
use crate::process::tethered;
use crate::program::find;
use crate::server::Plan;

/// MariaDB, with an empty database `locks`, whose root has no password.
pub const MYSQL: Kind =
    Kind { name: "mysql", program: Program::new("mariadbd", &["mariadb-server"]), plan };

/// The user that Debian's package brings. The server could take it on by itself, but would not end with us then.
const USER: &str = "mysql";

const DATABASE: &str = "CREATE DATABASE IF NOT EXISTS locks CHARACTER SET utf8mb4";

fn plan(mariadbd: &Path, folder: &Path) -> Result<Plan> {
    give(folder, USER)?;
    let file = |option: &str, name: &str| format!("{option}={}", folder.join(name).display());
    let (data, temporary) = (file("--datadir", "data"), file("--tmpdir", ""));
    let install = find("mariadb-install-db");
    let mut install = tethered(&install.unwrap_or_default(), Signal::TERM, Some(USER));
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    checked(install.arg(&data).arg(&temporary))?;
    let port = free_port().to_string();
    let mut command = tethered(mariadbd, Signal::TERM, Some(USER));
    // A server that starts clears away what others have in a temporary folder that they share.
    command.args(["--no-defaults", &data, &temporary]);
    command.args([file("--socket", "socket"), file("--pid-file", "pid")]);
    command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
    // Small; what is written need not survive the machine.
    command.args(["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2"]);
    let url = format!("mysql://root@127.0.0.1:{port}/locks");
    let ready = move || {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-uroot", "-h127.0.0.1", "-P", &port, "-e", DATABASE]);
        client.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    Ok(Plan { command, end: Signal::TERM, url, ready: Box::new(ready) })
}
