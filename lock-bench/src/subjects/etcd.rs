//! An etcd server, the two transactions that a lock on it takes at the least, and its own Lock RPC.

mod bare;
mod peers;
mod probe;

use std::path::Path;
use std::path::PathBuf;

use conformance_tests::free_port;
use etcd_client::Client;
use tokio::time::sleep;

use super::pause;
use super::told_version;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::store::Server;
use crate::store::Store;
use crate::subject::Rival;
use crate::subject::Subject;
use crate::subject::open;

pub(crate) const SUBJECT: Subject = Subject {
    name: "etcd",
    store: |folder| Box::pin(start(folder)),
    probe: Some(|url| Box::pin(probe::open(url))),
    version: || {
        Box::pin(async {
            told_version(Path::new("etcd"), &["--version"], "etcd Version: ", "etcd")
        })
    },
    has_processes: true,
    is_connection: |target| target.starts_with("socket:"),
    bare: Some(Rival {
        name: "bare transactions",
        open: |post| {
            let post = post.clone();
            open(async move { bare::Bare::open(&post).await })
        },
    }),
    peers: &[Rival {
        name: "Lock RPC",
        open: |post| {
            let post = post.clone();
            open(async move { peers::Rpc::open(&post).await })
        },
    }],
    notes: &[
        "bare transactions: put if the range is empty, and a delete if it is still the same, under one lease and \
         over one channel; Lock RPC: the server's own, its fence is not told",
        "who waits: ours by watch, bare transactions try again every 5 to 15 ms, Lock RPC in the server",
        "the ping is a write, as a release and a grant are",
        "contention and idle go without Lock RPC: under many waiters it stops answering until the server is started anew",
    ],
};

/// A server for one lane: what hangs in one does not reach the others.
async fn start(folder: PathBuf) -> Outcome<Store> {
    let (clients, peers) = (free_port(), free_port());
    let [client_url, peer_url] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let data = folder.join("data").display().to_string();
    let cluster = format!("only={peer_url}");
    let arguments = [
        "--name",
        "only",
        "--data-dir",
        &data,
        "--initial-cluster",
        &cluster,
        "--listen-client-urls",
        &client_url,
        "--advertise-client-urls",
        &client_url,
        "--listen-peer-urls",
        &peer_url,
        "--initial-advertise-peer-urls",
        &peer_url,
    ];
    let mut server = Server::start("etcd", &arguments, &folder)?;
    let url = format!("etcd://127.0.0.1:{clients}");
    server.ready(&folder, || async { Ok(connect(&url).await?.get("ready", None).await?) }).await?;
    Ok(Store { url, server: Some(server) })
}

async fn connect(url: &str) -> Outcome<Client> {
    Ok(Client::connect([url.replace("etcd://", "http://")], None).await?)
}

/// Grants a lease and keeps it for as long as this process lives.
async fn lease(client: &Client, post: &Post) -> Outcome<i64> {
    let ttl = i64::try_from(post.ttl.as_secs()).map_err(|_| Failure::new("the TTL is too long"))?;
    let mut leases = client.lease_client();
    let id = leases.grant(ttl, None).await?.id();
    let (mut keeper, mut answers) = leases.keep_alive(id).await?;
    let every = post.ttl / 3;
    tokio::spawn(async move {
        while keeper.keep_alive().await.is_ok() && answers.message().await.is_ok() {
            sleep(every).await;
        }
    });
    Ok(id)
}
