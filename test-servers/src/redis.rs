//! Redis, which keeps nothing on disk.

use std::path::Path;

use rustix::process::Signal;

use crate::Kind;
use crate::Program;
use crate::Result;
use crate::port::free_port;
use crate::process::tethered;
use crate::server::Plan;
use crate::server::ask;

/// Redis.
pub const REDIS: Kind =
    Kind { name: "redis", program: Program::new("redis-server", &["redis-server"]), plan };

fn plan(redis: &Path, folder: &Path) -> Result<Plan> {
    let port = free_port();
    // Also a server that is frozen ends by this.
    let mut command = tethered(redis, Signal::KILL, None);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder);
    command.args(["--save", "", "--appendonly", "no"]);
    let ready = move || ask(port, "PING\r\nQUIT\r\n").is_ok_and(|answer| answer.contains("PONG"));
    let url = format!("redis://127.0.0.1:{port}");
    Ok(Plan { command, end: Signal::TERM, url, ready: Box::new(ready) })
}
