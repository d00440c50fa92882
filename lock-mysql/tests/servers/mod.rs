//! Real servers on free ports of this host, each in a folder of its own, that tests can hurt.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a server that does not start must end the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use conformance_tests::free_port;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockProvider;
use lock_mysql::DRIVER;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::mysql::MySqlConnection;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// One MariaDB server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    folder: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server with an empty database `locks`, whose root has no password.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("lock-mysql-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        install(&folder);
        let mut all = vec![format!("--port={port}"), "--bind-address=127.0.0.1".to_owned()];
        all.extend(arguments.iter().map(|&it| it.to_owned()));
        let child = spawn(&all, &folder);
        let server = Self { port, arguments: all, folder, child };
        server.await_ready();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/locks", self.port)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
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

    pub(crate) fn freeze(&self) {
        conformance_tests::freeze(&self.child).unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn await_ready(&self) {
        let socket = self.folder.join("sock");
        let create = "CREATE DATABASE IF NOT EXISTS locks CHARACTER SET utf8mb4";
        until("a server that answers", || {
            let mut client = Command::new("mariadb");
            client.args(["--no-defaults", "-uroot", "-e", create, "-S"]).arg(&socket);
            client.stderr(Stdio::null()).status().unwrap().success()
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

/// A client that is not ours, with the settings of the server.
pub(crate) struct Cli(MySqlConnection);

impl Cli {
    pub(crate) async fn connect(url: &str) -> Self {
        let url = url.replace("mariadb://", "mysql://");
        Self(MySqlConnection::connect(&url).await.unwrap())
    }

    /// Runs one statement as a person types it.
    pub(crate) async fn run(&mut self, sql: &str) -> sqlx::Result<u64> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.0).await?;
        Ok(done.rows_affected())
    }

    /// Returns the rows of a query, each column as text.
    pub(crate) async fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.0).await;
        let text = |row: &sqlx::mysql::MySqlRow, at| {
            let value: Option<String> = row.try_get_unchecked(at).unwrap();
            value.unwrap_or_else(|| "NULL".into())
        };
        rows.unwrap().iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
    }

    pub(crate) async fn one(&mut self, sql: &str) -> String {
        self.rows(sql).await.swap_remove(0).swap_remove(0)
    }
}

/// Makes a certificate for a server on this host, and its key.
pub(crate) fn certificate(folder: &Path) -> (String, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    make.args(["-nodes", "-days", "2", "-subj", "/CN=locks", "-addext"]);
    make.args(["subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    let made = make.args(["-keyout", &key, "-out", &certificate]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // The server's user is another one.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    (certificate, key)
}

fn install(folder: &Path) {
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    install.arg(format!("--datadir={}", folder.join("data").display()));
    install.arg(format!("--tmpdir={}", folder.display()));
    let done = as_its_user(&mut install, folder).stdout(Stdio::null()).output();
    let done = done.unwrap_or_else(|failure| panic!("mariadb-install-db: {failure}"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn spawn(arguments: &[String], folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut server = Command::new("mariadbd");
    server.arg("--no-defaults").arg(format!("--datadir={}", folder.join("data").display()));
    server.arg(format!("--socket={}", folder.join("sock").display()));
    server.arg(format!("--pid-file={}", folder.join("pid").display()));
    // A server that starts clears away what others have in a folder that they share.
    server.arg(format!("--tmpdir={}", folder.display()));
    // Small, and no slower than the disk has to make it: what the server has written outlives its end.
    server.args(["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2"]);
    let server = as_its_user(&mut server, folder).args(arguments).current_dir(folder);
    let server = server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    server.spawn().unwrap_or_else(|failure| panic!("mariadbd cannot be started: {failure}"))
}

/// A server does not run as root: it becomes the user that the package has made for it.
fn as_its_user<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").arg("mysql").arg(folder).status().unwrap();
        assert!(owned.success(), "there is no user mysql");
        command.arg("--user=mysql");
    }
    command
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, test: impl Fn() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(30), "no {what} within 30 s");
        sleep(Duration::from_millis(50));
    }
}

/// Connects a provider of its own.
pub(crate) async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

/// Returns where a test is to be run: on a server of its own, and on MySQL where there is one, in a
/// database of its own.
pub(crate) async fn both(own: &Server) -> Vec<String> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let mut urls = vec![own.url()];
    match std::env::var("LOCK_TEST_MYSQL9_URL") {
        Ok(url) => {
            let number = LAST.fetch_add(1, Ordering::Relaxed);
            let database = format!("locks_{}_{number}", std::process::id());
            let mut cli = Cli::connect(&url).await;
            cli.run(&format!("CREATE DATABASE {database}")).await.unwrap();
            urls.push(url.replace("/locks", &format!("/{database}")));
        }
        Err(_) => eprintln!("not run on MySQL: LOCK_TEST_MYSQL9_URL names no server"),
    }
    urls
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Listens on the runtime of the caller and forwards to the server of `url`, but takes CLIENT_FOUND_ROWS
/// from what clients ask for, which the driver cannot; returns the URL to connect by.
pub(crate) async fn without_found_rows(url: &str) -> String {
    let server = ConnectUrl::parse(url).unwrap().hosts()[0].to_string();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let plain = if url.contains('?') { "&ssl-mode=disabled" } else { "?ssl-mode=disabled" };
    let through = url.replace(&server, &address) + plain;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(forward(client, server));
        }
    });
    through
}

async fn forward(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut greeting, mut answer) = (vec![0; 4096], vec![0; 4096]);
    let length = server.read(&mut greeting).await?;
    client.write_all(&greeting[..length]).await?;
    let length = client.read(&mut answer).await?;
    // After a header of four bytes come the client's capabilities.
    assert!(length > 8 && answer[4] & FOUND_ROWS != 0, "no longer asked for: take this proxy out");
    answer[4] &= !FOUND_ROWS;
    server.write_all(&answer[..length]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

const FOUND_ROWS: u8 = 2;
