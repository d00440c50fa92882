//! What is said when a URL names a server that is none, or one of another kind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;

use lock_core::ConnectUrl;
use lock_core::ErrorKind;
use lock_redis::DRIVER;

use crate::servers::Server;
use crate::servers::free_port;

async fn says(url: &str, kind: ErrorKind, words: &str) {
    let error = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.expect_err(url);
    assert_eq!(error.kind(), kind, "{url}: {error}");
    assert!(error.to_string().contains(words), "{url}: {error}");
}

#[tokio::test]
async fn a_server_of_another_kind_is_told_from_the_one_that_was_meant() {
    let one = Server::start(&[]);
    let address = format!("127.0.0.1:{}", one.port);
    let config = async |url: String, words: &str| says(&url, ErrorKind::Config, words).await;
    config(format!("redis://{address}/99"), "no database of that number").await;
    config(format!("redis+cluster://{address}"), "the server is no cluster").await;
    config(format!("redis+sentinel://{address}/locks"), "the server is no sentinel").await;
    let member = Server::start(&["--cluster-enabled", "yes"]);
    config(member.url(), "this server is one of a cluster").await;
    // In words of its own from Valkey 9 on, where a cluster may have several.
    config(format!("{}/1", member.url()), "database").await;
}

#[tokio::test]
async fn the_address_at_which_nobody_answers_is_named() {
    let port = free_port();
    let words = format!("127.0.0.1:{port}: nobody listens there");
    for url in
        [format!("redis://127.0.0.1:{port}"), format!("redis+sentinel://127.0.0.1:{port}/locks")]
    {
        says(&url, ErrorKind::Unavailable, &words).await;
    }
}

#[tokio::test]
async fn what_speaks_another_protocol_is_no_redis() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    });
    says(&url, ErrorKind::Unavailable, "what answers there is no Redis").await;
}
