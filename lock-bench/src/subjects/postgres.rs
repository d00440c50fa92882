//! A Postgres server, the two statements that a lock on it takes at the least, and what others use.

mod bare;
mod peers;
mod probe;
mod same;

use std::path::Path;
use std::path::PathBuf;

use conformance_tests::free_port;
use sqlx::ConnectOptions as _;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;

use super::pause;
use super::run_to_end;
use super::told_version;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::store::Server;
use crate::store::Store;
use crate::subject::Rival;
use crate::subject::Subject;
use crate::subject::open;

pub(crate) const SUBJECT: Subject = Subject {
    name: "postgres",
    store: |folder| Box::pin(start(folder)),
    probe: Some(|url| Box::pin(probe::open(url))),
    version: || {
        Box::pin(async {
            told_version(&program("postgres")?, &["--version"], "(PostgreSQL) ", "Postgres")
        })
    },
    has_processes: true,
    is_connection: |target| target.starts_with("socket:"),
    bare: Some(Rival {
        name: "bare statements",
        open: |post| {
            let post = post.clone();
            open(async move { bare::Bare::open(&post).await })
        },
    }),
    peers: &[
        Rival {
            name: "the same, bare",
            open: |post| {
                let post = post.clone();
                open(async move { same::Same::open(&post).await })
            },
        },
        Rival {
            name: "PgAdvisoryLock",
            open: |post| {
                let post = post.clone();
                open(async move { peers::Sqlx::open(&post).await })
            },
        },
        Rival {
            name: "fixed polling",
            open: |post| {
                let post = post.clone();
                open(async move { peers::Polling::open(&post).await })
            },
        },
    ],
    notes: &[
        "bare statements: the advisory lock with fence and holder's row, and its unlock, on one connection that the \
         tasks share; the same, bare: the backend's own statements, which look for a line and bound the session, too, sent \
         likewise; PgAdvisoryLock: of sqlx, over a pool of 64, no fence; fixed polling: pg_try_advisory_lock on \
         a connection of a pool of 64 every 10 ms, no fence",
        "who waits: ours by NOTIFY, PgAdvisoryLock in the server; bare statements try again every 5 to 15 ms",
        "held goes without PgAdvisoryLock and fixed polling, which need a connection for each lock",
        "the server counts statements when their session tells it, once a second: commands are right to a second",
        "the server has max_locks_per_transaction=256: at its defaults it has no room for 10000 locks",
    ],
};

/// How many connections those have who need one for each lock.
const POOL: u32 = 64;

/// The user that Debian's package brings: Postgres refuses to run as root.
const USER: &str = "postgres";

/// A server for one lane, which syncs what it commits.
async fn start(folder: PathBuf) -> Outcome<Store> {
    let data = folder.join("data").display().to_string();
    let as_root = rustix::process::geteuid().is_root();
    if as_root {
        run_to_end("chown", &[USER, &folder.display().to_string()])?;
    }
    let user = ["--reuid", USER, "--regid", USER, "--init-groups", "--"];
    let user = if as_root { &user[..] } else { &["--"] };
    let initdb = program("initdb")?.display().to_string();
    let options = ["--auth=trust", "--username=postgres", "--no-sync", "--pgdata", &data];
    run_to_end("setpriv", &[user, &[initdb.as_str()], &options].concat())?;
    let port = free_port().to_string();
    let postgres = program("postgres")?.display().to_string();
    let options = ["-D", &data, "-h", "127.0.0.1", "-p", &port, "-c", "unix_socket_directories="];
    let sizes = ["-c", "max_locks_per_transaction=256", "-c", "max_connections=400"];
    let arguments = [user, &[postgres.as_str()], &options, &sizes].concat();
    let mut server = Server::start("setpriv", &arguments, &folder)?;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    server.ready(&folder, || connect(&url)).await?;
    Ok(Store { url, server: Some(server) })
}

/// A program of the newest version that Debian has installed.
fn program(name: &str) -> Outcome<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(number);
    let path = newest.map(|newest| newest.join("bin").join(name));
    path.filter(|path| Path::is_file(path)).ok_or_else(|| Failure::new("Postgres is not installed"))
}

fn options(url: &str) -> Outcome<PgConnectOptions> {
    Ok(url.parse::<PgConnectOptions>()?.disable_statement_logging())
}

async fn connect(url: &str) -> Outcome<PgConnection> {
    Ok(options(url)?.connect().await?)
}

async fn pool(url: &str) -> Outcome<PgPool> {
    let pool = PgPoolOptions::new().max_connections(POOL).test_before_acquire(false);
    Ok(pool.connect_with(options(url)?).await?)
}
