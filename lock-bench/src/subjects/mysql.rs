//! A MariaDB server or one that is named, the two statements that a lock on it takes at the least, and what others use.

mod bare;
mod peers;
mod probe;

use std::env;
use std::path::Path;
use std::path::PathBuf;

use conformance_tests::free_port;
use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions as _;
use sqlx::MySqlConnection;
use sqlx::MySqlPool;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::mysql::MySqlSslMode;

use super::pause;
use super::run_to_end;
use super::told_version;
use crate::failure::Outcome;
use crate::store::Server;
use crate::store::Store;
use crate::subject::Rival;
use crate::subject::Subject;
use crate::subject::open;

pub(crate) const SUBJECT: Subject = Subject {
    name: "mysql",
    store: |folder| Box::pin(start(folder)),
    probe: Some(|url| Box::pin(probe::open(url))),
    version: || Box::pin(version()),
    has_processes: true,
    is_connection: |target| target.starts_with("socket:"),
    bare: Some(Rival {
        name: "bare statements",
        open: |post| {
            let post = post.clone();
            open(async move { bare::Bare::open(&post).await })
        },
    }),
    peers: &[Rival {
        name: "GET_LOCK",
        open: |post| {
            let post = post.clone();
            open(async move { peers::GetLock::open(&post).await })
        },
    }],
    notes: &[
        "bare statements: an upsert that draws a fence and an update, over a pool of 4 connections as ours has; \
         GET_LOCK: the server's own lock over a pool of 64, no expiry, no fence, nothing on disk",
        "who waits: ours looks every 5 ms in its first second, bare statements every 5 to 15 ms, GET_LOCK waits in the server",
        "held goes without GET_LOCK, which needs a connection for each lock",
        "the server writes each commit and syncs once a second (innodb_flush_log_at_trx_commit=2)",
    ],
};

/// How many connections the backend has, and who needs one for each lock.
const FEW: u32 = 4;
const MANY: u32 = 64;

/// Names a server to measure instead of MariaDB, each lane in a database of its own.
const SERVER: &str = "LOCK_BENCH_MYSQL_URL";

async fn version() -> Outcome<String> {
    let Ok(url) = env::var(SERVER) else {
        return told_version(Path::new("mariadbd"), &["--version"], "Ver ", "MariaDB");
    };
    let mut server = connect(&url).await?;
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut server).await?;
    Ok(format!("MySQL {version}"))
}

/// A database of the server that was named.
async fn given(url: &str, folder: &Path) -> Outcome<Store> {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_string());
    let name =
        name.unwrap_or_default().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    let mut connection = connect(url).await?;
    sqlx::raw_sql(create).execute(&mut connection).await?;
    let server = url.rsplit_once('/').map_or(url, |(server, _)| server);
    Ok(Store { url: format!("{server}/{name}"), server: None })
}

/// A server for one lane.
async fn start(folder: PathBuf) -> Outcome<Store> {
    if let Ok(url) = env::var(SERVER) {
        return given(&url, &folder).await;
    }
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let (data, temporary) = (option("datadir", &folder.join("data")), option("tmpdir", &folder));
    let mut user = Vec::new();
    if rustix::process::geteuid().is_root() {
        run_to_end("chown", &["mysql", &folder.display().to_string()])?;
        user.push("--user=mysql");
    }
    let install = ["--no-defaults", "--auth-root-authentication-method=normal", &data, &temporary];
    run_to_end("mariadb-install-db", &[&install[..], &user].concat())?;
    let port = free_port().to_string();
    let (port_option, socket) = (format!("--port={port}"), option("socket", &folder.join("sock")));
    let pid = option("pid-file", &folder.join("pid"));
    let own = ["--no-defaults", "--bind-address=127.0.0.1", &data, &temporary, &socket, &pid];
    let sizes = ["--max-connections=400", "--innodb-flush-log-at-trx-commit=2", &port_option];
    let mut server = Server::start("mariadbd", &[&own[..], &sizes, &user].concat(), &folder)?;
    let url = format!("mysql://root@127.0.0.1:{port}/test");
    server.ready(&folder, || connect(&url)).await?;
    Ok(Store { url, server: Some(server) })
}

fn options(url: &str) -> Outcome<MySqlConnectOptions> {
    let options = url.parse::<MySqlConnectOptions>()?.ssl_mode(MySqlSslMode::Disabled);
    Ok(options.disable_statement_logging())
}

async fn connect(url: &str) -> Outcome<MySqlConnection> {
    Ok(options(url)?.connect().await?)
}

async fn pool(url: &str, size: u32) -> Outcome<MySqlPool> {
    let pool = MySqlPoolOptions::new().max_connections(size).test_before_acquire(false);
    let pool = pool.after_connect(|connection, _| {
        Box::pin(async move {
            let settings =
                "SET time_zone = '+00:00'; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
            sqlx::raw_sql(settings).execute(connection).await.map(drop)
        })
    });
    Ok(pool.connect_with(options(url)?).await?)
}
