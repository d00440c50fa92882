//! What users see over a real ZooKeeper: the manual's words.

#![cfg(feature = "zookeeper")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

#[path = "../../lock-zookeeper/tests/servers/mod.rs"]
mod servers;
mod words;

use conformance_tests::free_port;

use crate::servers::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_refused_in_the_manual_s_words() {
    let server = Server::start();
    let port = |name: &str| match name {
        "none" => free_port(),
        "any" => server.port,
        _ => panic!("the test does not know {name}"),
    };
    words::check("| ZooKeeper server |", |name| (port(name), ())).await;
}
