//! Real servers on free ports of this host, each in a folder of its own, that tests can hurt.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a server that does not start must end the test")]
#![allow(clippy::disallowed_methods, reason = "a server takes its time to start")]

use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use conformance_tests::free_port;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

/// One server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    folder: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a cluster of one.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let (port, peer) = (free_port(), free_port());
        let peers = (peer, peer);
        let server = Self::spawn("a", port, peers, &format!("a={}", local(peer)), arguments);
        server.await_ready();
        server
    }

    /// Starts a member that listens to others at the first of `peers`, and tells them the second.
    fn spawn(name: &str, port: u16, peers: (u16, u16), members: &str, more: &[&str]) -> Self {
        let folder = shelf().join(format!("lock-etcd-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut arguments: Vec<String> = Vec::new();
        let scheme = if more.contains(&"--cert-file") { "https" } else { "http" };
        let clients = format!("{scheme}://127.0.0.1:{port}");
        for (option, value) in [
            ("--name", name),
            ("--data-dir", "data"),
            ("--listen-client-urls", &clients),
            ("--advertise-client-urls", &clients),
            ("--listen-peer-urls", &local(peers.0)),
            ("--initial-advertise-peer-urls", &local(peers.1)),
            ("--initial-cluster", members),
            ("--listen-metrics-urls", &local(free_port())),
        ] {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
        arguments.extend(more.iter().map(|&it| it.to_owned()));
        let child = run(&arguments, &folder);
        Self { port, arguments, folder, child }
    }

    pub(crate) fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same ports and folder.
    pub(crate) fn restart(&mut self) {
        self.revive();
        self.await_ready();
    }

    /// Starts it anew, and does not wait until it serves: it may need others for that.
    pub(crate) fn revive(&mut self) {
        self.child = run(&self.arguments, &self.folder);
    }

    pub(crate) fn freeze(&self) {
        conformance_tests::freeze(&self.child).unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// What the server counts, by name.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = ask(self.metrics(), "/metrics").unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// The sum of all that the server counts under names that begin so.
    pub(crate) fn sum(&self, prefix: &str) -> u64 {
        let text = ask(self.metrics(), "/metrics").unwrap();
        let counts = text.lines().filter(|line| line.starts_with(prefix));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Whether it knows a leader.
    pub(crate) fn is_healthy(&self) -> bool {
        ask(self.metrics(), "/health").is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.metric("etcd_server_is_leader") == 1
    }

    fn metrics(&self) -> u16 {
        let at = self.arguments.iter().position(|it| it == "--listen-metrics-urls").unwrap();
        self.arguments[at + 1].rsplit(':').next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn await_ready(&self) {
        until("a server that answers", || self.is_healthy());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Three servers that are one store.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::of(3)
    }

    /// Starts so many, three at the most.
    pub(crate) fn of(count: usize) -> Self {
        let peers = (0..count).map(|_| free_port());
        Self::between(&peers.map(|port| (port, port)).collect::<Vec<_>>())
    }

    /// Starts one for each pair of ports: where it listens to the others, and where they look for it.
    pub(crate) fn between(peers: &[(u16, u16)]) -> Self {
        let names = &["a", "b", "c"][..peers.len()];
        let member = |(name, peers): (&&str, &(u16, u16))| format!("{name}={}", local(peers.1));
        let members = names.iter().zip(peers).map(member).collect::<Vec<_>>().join(",");
        let server = |(name, peers): (&&str, &(u16, u16))| {
            Server::spawn(name, free_port(), *peers, &members, &[])
        };
        let cluster = Self { servers: names.iter().zip(peers).map(server).collect() };
        cluster.await_ready();
        cluster
    }

    pub(crate) fn await_ready(&self) {
        until("a cluster with a leader", || self.servers.iter().all(Server::is_healthy));
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("etcd://{}", hosts.join(","))
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> usize {
        until("a leader", || self.servers.iter().any(Server::is_leader));
        self.servers.iter().position(Server::is_leader).unwrap_or(0)
    }
}

/// Where servers keep their data: in memory if that can be, for a busy disk makes leases end.
fn shelf() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn run(arguments: &[String], folder: &PathBuf) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new("etcd")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|failure| panic!("etcd cannot be started: {failure}"))
}

fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, test: impl Fn() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {what} within 60 s");
        sleep(Duration::from_millis(50));
    }
}
