//! Real servers on free ports of this host, each in a folder of its own, that tests can hurt.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a server that does not start must end the test")]

use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

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
    /// Starts a server that saves nothing.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(None, arguments)
    }

    pub(crate) fn start_with(file: Option<&str>, arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("lock-redis-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut all = Vec::new();
        if let Some(file) = file {
            fs::write(folder.join("conf"), file).unwrap();
            all.push("conf".to_owned());
        }
        all.extend(["--port", &port.to_string(), "--bind", "127.0.0.1"].map(str::to_owned));
        all.extend(arguments.iter().map(|&it| it.to_owned()));
        let child = spawn(&all, &folder);
        let server = Self { port, arguments: all, folder, child };
        server.await_ready();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.name())
    }

    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As it says itself, in whole seconds.
    pub(crate) fn uptime(&self) -> Duration {
        let info = self.command("INFO server");
        let seconds = info.split("uptime_in_seconds:").nth(1).unwrap().lines().next().unwrap();
        Duration::from_secs(seconds.parse().unwrap())
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same port and folder.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.arguments, &self.folder);
        self.await_ready();
    }

    /// Removes what it has saved. It must not be running.
    pub(crate) fn lose_data(&self) {
        for name in ["appendonlydir", "appendonly.aof", "dump.rdb"] {
            let path = self.folder.join(name);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }

    pub(crate) fn freeze(&self) {
        conformance_tests::freeze(&self.child).unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends one command on a connection of its own and returns the raw reply.
    pub(crate) fn command(&self, command: &str) -> String {
        ask(self.port, command).unwrap()
    }

    pub(crate) fn holds(&self, key: &str) -> bool {
        self.command(&format!("EXISTS {key}")).starts_with(":1")
    }

    /// Returns what `INFO` says under a name.
    pub(crate) fn info(&self, name: &str) -> Option<String> {
        let info = ask(self.port, "INFO everything").ok()?;
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(it, _)| *it == name).map(|(_, value)| value.to_owned())
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.info("role").as_deref() == Some("master")
    }

    /// Tells whether it follows a primary and has all that it had when it asked.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.info("master_link_status").as_deref() == Some("up")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn await_ready(&self) {
        until("a server that answers", || {
            let answer = ask(self.port, "PING").unwrap_or_default();
            answer.contains("PONG") || answer.contains("NOAUTH")
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A cluster of three primaries, each with a replica.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1000",
            "--repl-diskless-sync-delay",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
        ];
        let servers: Vec<_> = (0..6).map(|_| Server::start(&arguments)).collect();
        let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
        let output = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Self { servers };
        until("a cluster that serves all slots", || {
            let serves =
                |server: &Server| server.command("CLUSTER INFO").contains("cluster_state:ok");
            cluster.servers.iter().all(serves)
        });
        // A replica that has not caught up yet cannot take over.
        until("replicas that have caught up", || {
            let link = ["state=online", "master_link_status:up"];
            let is_linked = |info: String| link.iter().any(|state| info.contains(state));
            cluster.servers.iter().all(|server| is_linked(server.command("INFO replication")))
        });
        cluster
    }

    /// Moves `slots` slots from one primary to another, with what they hold.
    pub(crate) fn reshard(&self, from: usize, to: usize, slots: u32) {
        let id = |server: &Server| {
            let answer = server.command("CLUSTER MYID");
            answer.lines().nth(1).unwrap().to_owned()
        };
        let output = Command::new("redis-cli")
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", self.servers[from].port)])
            .args(["--cluster-from", &id(&self.servers[from])])
            .args(["--cluster-to", &id(&self.servers[to])])
            .args(["--cluster-slots", &slots.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self
            .servers
            .iter()
            .take(3)
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

/// A primary, a replica, and three sentinels that watch them.
pub(crate) struct Watched {
    pub(crate) servers: Vec<Server>,
    pub(crate) sentinels: Vec<Server>,
}

impl Watched {
    pub(crate) fn start() -> Self {
        let primary = Server::start(&["--save", "", "--appendonly", "no"]);
        let port = primary.port.to_string();
        let replica =
            Server::start(&["--save", "", "--appendonly", "no", "--replicaof", "127.0.0.1", &port]);
        until("a replica that is connected", || {
            primary.command("INFO replication").contains("state=online")
        });
        let file = format!(
            "sentinel monitor locks 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds locks 1000\n\
             sentinel failover-timeout locks 5000\n"
        );
        let sentinels: Vec<_> =
            (0..3).map(|_| Server::start_with(Some(&file), &["--sentinel"])).collect();
        until("sentinels that know each other", || {
            sentinels.iter().all(|sentinel| {
                let known = sentinel.command("SENTINEL MASTER locks");
                known.contains("num-other-sentinels\r\n$1\r\n2")
                    && known.contains("num-slaves\r\n$1\r\n1")
            })
        });
        Self { servers: vec![primary, replica], sentinels }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+sentinel://{}/locks", hosts.join(","))
    }
}

/// Servers that know nothing of each other, and save nothing.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Server>,
}

impl Fleet {
    pub(crate) fn start(size: usize) -> Self {
        let start = |_| Server::start(&["--save", "", "--appendonly", "no"]);
        Self { servers: (0..size).map(start).collect() }
    }

    pub(crate) fn url(&self, query: &str) -> String {
        let names: Vec<_> = self.servers.iter().map(Server::name).collect();
        format!("redlock://{}?{query}", names.join(","))
    }

    pub(crate) fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    /// Waits until every server says that it has run for longer than `age`.
    pub(crate) fn await_age(&self, age: Duration) {
        until_within(age + Duration::from_secs(10), "fleet that is old enough", || {
            self.servers.iter().all(|server| server.uptime() > age)
        });
    }

    /// The servers that have something under `key`.
    pub(crate) fn holding(&self, key: &str) -> Vec<usize> {
        (0..self.servers.len()).filter(|at| self.servers[*at].holds(key)).collect()
    }
}

fn spawn(arguments: &[String], folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    Command::new("redis-server")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|failure| panic!("redis-server cannot be started: {failure}"))
}

fn ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    // The server answers what it has, then closes.
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A cluster's bus listens 10,000 above.
pub(crate) fn free_port() -> u16 {
    let free = || Some(conformance_tests::free_port());
    std::iter::from_fn(free).find(|port| conformance_tests::is_free(port + 10_000)).unwrap()
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, test: impl FnMut() -> bool) {
    until_within(Duration::from_secs(30), what, test);
}

fn until_within(limit: Duration, what: &str, mut test: impl FnMut() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < limit, "no {what} within {limit:?}");
        sleep(Duration::from_millis(50));
    }
}
