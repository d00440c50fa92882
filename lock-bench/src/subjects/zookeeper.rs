//! A ZooKeeper server, the three calls that a lock on it takes at the least, and its client's own lock.

mod bare;
mod peers;
mod probe;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use conformance_tests::free_port;
use zookeeper_client::Client;

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
    name: "zookeeper",
    store: |folder| Box::pin(start(folder)),
    probe: Some(|url| Box::pin(probe::open(url))),
    version: || Box::pin(version()),
    has_processes: true,
    is_connection: |target| target.starts_with("socket:"),
    bare: Some(Rival {
        name: "bare calls",
        open: |post| {
            let post = post.clone();
            open(async move { bare::Bare::open(&post).await })
        },
    }),
    peers: &[Rival {
        name: "zookeeper-client",
        open: |post| {
            let post = post.clone();
            open(async move { peers::Recipe::open(&post).await })
        },
    }],
    notes: &[
        "bare calls: create and list sent together, and a delete, on one session; zookeeper-client: the lock of the same \
         client, with the names of Curator; its guard deletes in the background, here the delete is waited for",
        "who waits: ours and zookeeper-client watch who is before them, bare calls look every 5 to 15 ms",
        "the server syncs each write; the ping is one, as a release and a grant are",
    ],
};

/// What Debian's packages bring.
const JAR: &str = "/usr/share/java/zookeeper.jar";
const CLASSES: &str = "/etc/zookeeper/conf_example:/usr/share/java/zookeeper.jar";

/// A server for one lane.
async fn start(folder: PathBuf) -> Outcome<Store> {
    let port = free_port();
    let settings = format!(
        "tickTime=1000\nmaxSessionTimeout=60000\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
         dataDir={}\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n",
        folder.join("data").display()
    );
    std::fs::write(folder.join("zoo.cfg"), settings)?;
    let arguments = [
        "-Xmx512m",
        "-Xshare:auto",
        "-Djava.net.preferIPv4Stack=true",
        "-Dzookeeper.log.dir=.",
        "-cp",
        CLASSES,
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        "zoo.cfg",
    ];
    let mut server = Server::start("java", &arguments, &folder)?;
    let url = format!("zookeeper://127.0.0.1:{port}?session_timeout=6s&tick_time=1s");
    server.ready(&folder, || probe::ask(&url, "srvr")).await?;
    Ok(Store { url, server: Some(server) })
}

async fn version() -> Outcome<String> {
    let asked = ["-cp", JAR, "org.apache.zookeeper.version.VersionInfoMain"];
    told_version(Path::new("java"), &asked, "version ", "ZooKeeper")
}

/// Connects with the session of the backend.
async fn connect(url: &str) -> Outcome<Client> {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(6));
    Ok(connector.connect(&address(url)).await?)
}

fn address(url: &str) -> String {
    let rest = url.trim_start_matches("zookeeper://");
    rest.split('?').next().unwrap_or(rest).to_owned()
}

/// A client, and the nodes that it knows to be there.
async fn session(post: &Post) -> Outcome<Client> {
    connect(&post.url).await.map_err(|failure| Failure::new(format!("no session: {failure}")))
}
