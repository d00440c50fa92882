//! etcd, a cluster of one.

use std::path::Path;

use rustix::process::Signal;

use crate::Kind;
use crate::Program;
use crate::Result;
use crate::port::free_port;
use crate::process::tethered;
use crate::server::Plan;
use crate::server::ask;

/// etcd.
pub const ETCD: Kind = Kind {
    name: "etcd",
    // Tests lock against it.
    program: Program::new("etcd", &["etcd-server", "etcd-client", "openssl"]).beside("etcdctl"),
    plan,
};

const HEALTH: &str = "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n";

fn plan(etcd: &Path, folder: &Path) -> Result<Plan> {
    let (clients, peers) = (free_port(), free_port());
    let [client_url, peer_url] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = tethered(etcd, Signal::TERM, None);
    command.args(["--name", "only", "--data-dir"]).arg(folder.join("data"));
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.args(["--initial-cluster", &format!("only={peer_url}")]);
    // It is healthy when it has a leader.
    let healthy = "\"health\":\"true\"";
    let ready = move || ask(clients, HEALTH).is_ok_and(|answer| answer.contains(healthy));
    let url = format!("etcd://127.0.0.1:{clients}");
    Ok(Plan { command, end: Signal::TERM, url, ready: Box::new(ready) })
}
