//! What users see over a real etcd: the manual's words.

#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

#[path = "../../lock-etcd/tests/servers/mod.rs"]
mod servers;
mod words;

use std::process::Command;

use conformance_tests::free_port;

use crate::servers::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_refused_in_the_manual_s_words() {
    let (server, guarded) = (Server::start(&[]), Server::start(&[]));
    for arguments in [
        &["user", "add", "root:s3cret"][..],
        &["user", "add", "ann:s3cret"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("127.0.0.1:{}", guarded.port)]);
        assert!(etcdctl.args(arguments).status().unwrap().success(), "{arguments:?}");
    }
    let port = |name: &str| match name {
        "none" => free_port(),
        "any" => server.port,
        "with users" => guarded.port,
        _ => panic!("the test does not know {name}"),
    };
    words::check("| etcd server |", |name| (port(name), ())).await;
}
