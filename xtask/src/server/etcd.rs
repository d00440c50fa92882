//! etcd, a cluster of one.

use std::io::Read as _;
use std::io::Write as _;
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
pub(crate) fn start(etcd: &Path, folder: &Path) -> Result<Running> {
    let (clients, peers) = (free_port(), free_port());
    let [client_url, peer_url] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let mut server = tethered(etcd, None);
    server.args(["--name", "only", "--data-dir"]).arg(folder.join("data"));
    server.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    server.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    server.args(["--initial-cluster", &format!("only={peer_url}")]);
    let mut child = spawn(&mut server, folder)?;
    let ready = await_ready(&mut child, || is_healthy(clients).unwrap_or(false));
    let url = format!("etcd://127.0.0.1:{clients}");
    let running = Running { child, signal: Signal::TERM, url };
    ready.map_err(|failure| with_log(failure, folder))?;
    Ok(running)
}

/// Asks etcd whether it has a leader.
fn is_healthy(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("\"health\":\"true\""))
}
