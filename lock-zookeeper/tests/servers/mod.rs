//! Real servers on free ports of this host, each in a folder of its own, that tests can hurt.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a server that does not start must end the test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
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
use tempfile::TempDir;

/// The servers' unit of time, short so that sessions can be.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// What Debian's packages bring; ZooKeeper's own list lacks what Netty needs.
const CLASSES: &str = "/etc/zookeeper/conf_example:/usr/share/java/netty-codec.jar:\
                       /usr/share/java/netty-resolver.jar:/usr/share/java/zookeeper.jar";

/// What every client of these servers says of itself.
pub(crate) const SHORT: &str = "session_timeout=2s&tick_time=100ms";

/// One server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: TempDir,
    options: Vec<String>,
    child: Child,
}

impl Server {
    /// Starts a server that is alone.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], "")
    }

    /// Starts it with `options` of the Java machine and further lines of its configuration.
    pub(crate) fn start_with(options: &[&str], lines: &str) -> Self {
        let server = Self::spawn(free_port(), None, options, lines);
        server.await_ready();
        server
    }

    fn spawn(port: u16, id: Option<usize>, options: &[&str], lines: &str) -> Self {
        let folder = TempDir::with_prefix("lock-zookeeper-").unwrap();
        let tick = TICK.as_millis();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        if let Some(id) = id {
            fs::write(data.join("myid"), id.to_string()).unwrap();
        }
        let configuration = format!(
            "tickTime={tick}\ninitLimit=50\nsyncLimit=20\nmaxSessionTimeout=60000\n\
             clientPort={port}\nclientPortAddress=127.0.0.1\ndataDir={}\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\n{lines}",
            data.display()
        );
        fs::write(folder.path().join("zoo.cfg"), configuration).unwrap();
        let options: Vec<_> = options.iter().map(|&it| it.to_owned()).collect();
        let child = java(&options, folder.path());
        Self { port, folder, options, child }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("zookeeper://{}?{SHORT}", self.address())
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same port and folder.
    pub(crate) fn restart(&mut self) {
        self.child = java(&self.options, self.folder.path());
    }

    /// Kills it, and starts it without all that it had stored.
    pub(crate) fn begin_anew(&mut self) {
        self.kill();
        fs::remove_dir_all(self.folder.path().join("data/version-2")).unwrap();
        self.restart();
    }

    /// Returns the nodes that it shows and that live as long as a session.
    pub(crate) fn ephemerals(&self) -> BTreeSet<String> {
        let dump = self.ask("dump");
        dump.lines().filter_map(|line| line.strip_prefix("\t/")).map(str::to_owned).collect()
    }

    /// Lets it serve without the other servers of its ensemble, while `act` uses it; it is down afterwards.
    pub(crate) async fn alone(&mut self, act: impl AsyncFnOnce(&str)) {
        let file = self.folder.path().join("zoo.cfg");
        let with_others = fs::read_to_string(&file).unwrap();
        let own: String = with_others
            .lines()
            .filter(|it| !it.starts_with("server."))
            .flat_map(|it| [it, "\n"])
            .collect();
        fs::write(&file, own).unwrap();
        self.restart();
        self.await_ready();
        act(&self.address()).await;
        self.kill();
        fs::write(&file, with_others).unwrap();
    }

    pub(crate) fn freeze(&self) {
        conformance_tests::freeze(&self.child).unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ask("srvr").contains("Mode:")
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.ask("srvr").contains("Mode: leader")
    }

    pub(crate) fn await_ready(&self) {
        until("a server that answers", || self.is_ready());
    }

    /// Returns a figure of the server.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let answer = self.ask("mntr");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        line.unwrap().trim().parse::<f64>().unwrap() as u64
    }

    /// Sends a command of four letters; empty if there is no answer.
    pub(crate) fn ask(&self, command: &str) -> String {
        let answer = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(command.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        answer().unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three servers that elect a leader.
pub(crate) struct Ensemble {
    pub(crate) servers: Vec<Server>,
}

impl Ensemble {
    pub(crate) fn start() -> Self {
        let own: Vec<_> = (0..3).map(|_| (free_port(), free_port())).collect();
        Self::between(&own, &own)
    }

    /// Starts one server for each pair of ports, where it listens to the others and to their votes; `found` is
    /// where they look for it.
    pub(crate) fn between(own: &[(u16, u16)], found: &[(u16, u16)]) -> Self {
        let spawn = |id: usize| {
            let line = |other: usize| {
                let (peers, votes) = if other == id { own[other] } else { found[other] };
                format!("server.{other}=127.0.0.1:{peers}:{votes}\n")
            };
            let lines: String = (0..own.len()).map(line).collect();
            Server::spawn(free_port(), Some(id), &[], &lines)
        };
        let ensemble = Self { servers: (0..own.len()).map(spawn).collect() };
        ensemble.await_ready();
        ensemble
    }

    pub(crate) fn await_ready(&self) {
        until("an ensemble that serves", || self.servers.iter().all(Server::is_ready));
    }

    pub(crate) fn url(&self) -> String {
        format!("zookeeper://{}?{SHORT}", self.hosts())
    }

    /// All addresses, as drivers want them.
    pub(crate) fn hosts(&self) -> String {
        self.servers.iter().map(Server::address).collect::<Vec<_>>().join(",")
    }

    /// Returns which server leads.
    pub(crate) fn leader(&self) -> usize {
        let mut leader = None;
        until("a leader", || self.servers.iter().any(Server::is_leader));
        for (at, server) in self.servers.iter().enumerate() {
            if server.is_leader() {
                leader = Some(at);
            }
        }
        leader.unwrap()
    }
}

fn java(options: &[String], folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    Command::new("java")
        // Small and quick to start; what is written need not survive the machine.
        .args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .args(["-Dzookeeper.forceSync=no", "-Djava.net.preferIPv4Stack=true"])
        .args(options)
        .args(["-cp", CLASSES])
        .args(["org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg"])
        .env("zookeeper.log.dir", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|failure| panic!("java cannot be started: {failure}"))
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, test: impl Fn() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {what} within 60 s");
        sleep(Duration::from_millis(50));
    }
}
