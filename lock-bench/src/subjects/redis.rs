//! A Redis server, the two scripts that a lock on it takes at the least, and what others use.

mod bare;
mod peers;
mod probe;

use std::path::PathBuf;
use std::time::Duration;

use conformance_tests::free_port;
use redis::AsyncConnectionConfig;
use redis::Client;
use redis::IntoConnectionInfo as _;
use redis::ProtocolVersion;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use tokio::process::Command;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::store::Server;
use crate::store::Store;
use crate::subject::Rival;
use crate::subject::Subject;
use crate::subject::open;

pub(crate) const SUBJECT: Subject = Subject {
    name: "redis",
    store: |folder| Box::pin(start(folder)),
    probe: Some(|url| Box::pin(probe::open(url))),
    version: || Box::pin(version()),
    has_processes: true,
    is_connection: |target| target.starts_with("socket:"),
    bare: Some(Rival {
        name: "bare scripts",
        open: |post| {
            let post = post.clone();
            open(async move { bare::Scripts::open(&post).await })
        },
    }),
    peers: &[
        Rival {
            name: "SET NX PX",
            open: |post| {
                let post = post.clone();
                open(async move { bare::Plain::open(&post).await })
            },
        },
        Rival {
            name: "rslock",
            open: |post| {
                let post = post.clone();
                open(async move { peers::RsLock::open(&post) })
            },
        },
        Rival {
            name: "distkit",
            open: |post| {
                let post = post.clone();
                open(async move { peers::Distkit::open(&post).await })
            },
        },
    ],
    notes: &[
        "bare scripts: lock with fence and unlock with PUBLISH, sent by the same client; SET NX PX: with a \
         compare-and-delete, no fence",
        "who waits: ours by push; bare scripts and SET NX PX try again every 5 to 15 ms, rslock every 0 to \
         200 ms, distkit every 50 ms",
    ],
};

/// A server for one lane, which saves nothing.
async fn start(folder: PathBuf) -> Outcome<Store> {
    let port = free_port().to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let mut server = Server::start("redis-server", &arguments, &folder)?;
    let url = format!("redis://127.0.0.1:{port}");
    server.ready(&folder, || connect(&url)).await?;
    Ok(Store { url, server: Some(server) })
}

async fn version() -> Outcome<String> {
    let output = Command::new("redis-server").arg("--version").output().await;
    let output = output.map_err(|error| Failure::new(format!("redis-server: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    let version = version.ok_or_else(|| Failure::new("redis-server tells no version"))?;
    Ok(format!("Redis {version}"))
}

/// Connects as the backend does.
async fn connect(url: &str) -> Outcome<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    Ok(client(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

fn client(url: &str) -> Outcome<Client> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let socket = TcpSettings::default().set_nodelay(true);
    Ok(Client::open(info.set_redis_settings(settings).set_tcp_settings(socket))?)
}

/// Lets some time go by before the next try.
async fn pause() {
    sleep(Duration::from_millis(rand::random_range(5..=15))).await;
}
