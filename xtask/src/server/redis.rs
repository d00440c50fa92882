//! Redis, which keeps nothing on disk.

use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::Running;
use super::spawn;
use super::tethered;
use super::with_log;
use crate::Result;
use crate::port::free_port;
use crate::process::await_ready;

/// Serves an empty store.
pub(crate) fn start(redis: &Path, folder: &Path) -> Result<Running> {
    let port = free_port();
    let mut server = tethered(redis, None);
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder);
    server.args(["--save", "", "--appendonly", "no"]);
    let mut child = spawn(&mut server, folder)?;
    let ready = await_ready(&mut child, || answers(port).unwrap_or(false));
    let url = format!("redis://127.0.0.1:{port}");
    let running = Running { child, signal: Signal::TERM, url };
    ready.map_err(|failure| with_log(failure, folder))?;
    Ok(running)
}

fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"PING\r\n")?;
    // It answers what it has, then closes.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("PONG"))
}
