//! Real servers on free ports of this host, each in a folder of its own, that tests can hurt.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a server that does not start must end the test")]

use std::fs::File;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use conformance_tests::free_port;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::PgConnection;
use tempfile::TempDir;

/// The user that Debian's package brings: Postgres refuses to run as root.
const USER: &str = "postgres";

/// One server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    settings: Vec<String>,
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Makes a cluster and serves it, with `settings` such as `max_connections=10`.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        let options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"];
        checked(program("initdb").args(options).arg("--pgdata").arg(&data));
        Self::serve(folder, settings)
    }

    /// Makes a standby of this server and serves it.
    pub(crate) fn standby(&self) -> Self {
        let folder = folder();
        let mut copy = program("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]);
        checked(copy.args(["-p", &self.port.to_string(), "-D"]).arg(folder.path().join("data")));
        Self::serve(folder, &[])
    }

    fn serve(folder: TempDir, settings: &[&str]) -> Self {
        let port = free_port();
        let settings: Vec<_> = settings.iter().map(|&it| it.to_owned()).collect();
        let child = spawn(folder.path(), port, &settings);
        let server = Self { port, settings, folder, child };
        server.await_ready();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would, with all its sessions.
    pub(crate) fn kill(&mut self) {
        // Its children notice that it is gone.
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::INT);
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same port and folder.
    pub(crate) fn restart(&mut self) {
        let begin = Instant::now();
        loop {
            self.child = spawn(self.folder.path(), self.port, &self.settings);
            // What the killed one left behind may have to end first.
            sleep(Duration::from_millis(300));
            if self.child.try_wait().unwrap().is_none() {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "the server does not start again");
        }
        self.await_ready();
    }

    /// Has neither the server nor any of its sessions run.
    pub(crate) fn freeze(&self) {
        // The server first, so that no session comes after the others.
        conformance_tests::freeze(&self.child).unwrap();
        self.signal_sessions(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal_sessions(Signal::CONT);
        self.signal(Signal::CONT);
    }

    fn signal_sessions(&self, signal: Signal) {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids.filter(|pid| parent(*pid) == Some(self.child.id())) {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }

    /// Returns what the server has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Has every role but `postgres` give its password from the next reload on.
    pub(crate) fn demand_passwords(&self) {
        let rules =
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.folder.path().join("data/pg_hba.conf"), rules).unwrap();
    }

    /// Makes a certificate for the server and has it ask for encryption from its next restart on; returns its file.
    pub(crate) fn encrypt(&mut self) -> PathBuf {
        let file = |name: &str| self.folder.path().join(name);
        let (certificate, key) = (file("cert.pem"), file("key.pem"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        make.args(["-nodes", "-days", "2", "-subj", "/CN=locks", "-addext"]);
        make.args(["subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
        checked(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
        if rustix::process::getuid().is_root() {
            checked(Command::new("chown").arg(USER).arg(&key));
        }
        self.settings.push("ssl=on".to_owned());
        self.settings.push(format!("ssl_cert_file={}", certificate.display()));
        self.settings.push(format!("ssl_key_file={}", key.display()));
        certificate
    }

    /// Connects past the backend, as anybody with psql can.
    pub(crate) async fn psql(&self) -> Psql {
        Psql(PgConnection::connect(&self.url()).await.unwrap())
    }

    fn signal(&self, signal: Signal) {
        // The child is the server itself, for setpriv has become it.
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn await_ready(&self) {
        until("a server that answers", || {
            let port = self.port.to_string();
            let mut ready = program("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|it| it.success())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Interrupt is a fast shutdown, which takes the sessions' processes along.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let begin = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begin.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// A session that is not ours.
pub(crate) struct Psql(pub(crate) PgConnection);

impl Psql {
    pub(crate) async fn one<T>(&mut self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.0).await.unwrap()
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.0).await.unwrap();
    }
}

/// Reads who started a process, which stands after its name and state.
fn parent(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("lock-postgres-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    if rustix::process::getuid().is_root() {
        checked(Command::new("chown").arg(USER).arg(folder.path()));
    }
    folder
}

fn spawn(folder: &Path, port: u16, settings: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut server = program("postgres");
    server.arg("-D").arg(folder.join("data")).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    server.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
    for setting in settings {
        server.args(["-c", setting]);
    }
    server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    start(server).unwrap_or_else(|failure| panic!("postgres cannot be started: {failure}"))
}

/// Starts a server on a thread that lives as long as this program: it ends with the thread that started it, and
/// threads that may block end when they have been idle for a while.
fn start(server: Command) -> std::io::Result<Child> {
    type Started = std::io::Result<Child>;
    static STARTER: LazyLock<Sender<(Command, Sender<Started>)>> = LazyLock::new(|| {
        let (wanted, commands) = channel::<(Command, Sender<Started>)>();
        std::thread::spawn(move || {
            for (mut command, reply) in commands {
                let _ = reply.send(command.spawn());
            }
        });
        wanted
    });
    let (reply, started) = channel();
    STARTER.send((server, reply)).unwrap();
    started.recv().unwrap()
}

/// A program of the newest version that is installed, as a user who may run it.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(number);
    let path = newest.map_or_else(|| PathBuf::from(name), |newest| newest.join("bin").join(name));
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if rustix::process::getuid().is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    }
    command.arg("--").arg(path);
    command
}

fn checked(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", command.get_program());
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, test: impl Fn() -> bool) {
    let begin = Instant::now();
    while !test() {
        assert!(begin.elapsed() < Duration::from_secs(30), "no {what} within 30 s");
        sleep(Duration::from_millis(50));
    }
}

/// A PgBouncer before a server; it ends when this is dropped.
pub(crate) struct Pooler {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Pooler {
    pub(crate) fn start(server: &Server, mode: &str) -> Self {
        let (folder, port) = (folder(), free_port());
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n",
            server.port
        );
        let settings = settings.replace("dbname=postgres\n", "dbname=postgres user=postgres\n");
        std::fs::write(folder.path().join("ini"), settings).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if rustix::process::getuid().is_root() {
            command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
        }
        command.args(["--", "/usr/sbin/pgbouncer"]).arg(folder.path().join("ini"));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = child.spawn().unwrap_or_else(|failure| panic!("no pgbouncer: {failure}"));
        let pooler = Self { port, child, _folder: folder };
        until("a pooler that listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        pooler
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
