//! Encrypted connections, which need the feature `tls`.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use conformance_tests::free_port;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_zookeeper::DRIVER;
use tempfile::TempDir;

use crate::servers::SHORT;
use crate::servers::Server;
use crate::servers::until;

/// Sessions for servers whose first handshake takes its time.
const LONG: &str = "session_timeout=20s&tick_time=100ms";

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

async fn works(url: &str) {
    let locks = connect(url).await.unwrap();
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    let tried = locks.try_lock("a", &LockOptions::new()).await.unwrap();
    assert!(tried.acquired().is_none());
    held.unlock().await.unwrap();
}

/// Makes a certificate for this host, and the file with its key that the server wants. Returns both paths.
fn certify(folder: &TempDir) -> (String, String) {
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key, both) = (file("cert.pem"), file("key.pem"), file("both.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=locks"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = fs::read_to_string(&key).unwrap() + &fs::read_to_string(&certificate).unwrap();
    fs::write(&both, text).unwrap();
    (certificate, both)
}

#[tokio::test]
async fn a_server_with_a_certificate_is_reached_by_its_authority_only() {
    let folder = TempDir::new().unwrap();
    let (certificate, both) = certify(&folder);
    let port = free_port();
    let lines = format!(
        "secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\nssl.keyStore.location={both}\n\
         ssl.keyStore.type=PEM\nssl.trustStore.location={certificate}\nssl.trustStore.type=PEM\nssl.clientAuth=none\n\
         serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
    );
    let server = Server::start_with(&[], &lines);
    until("a port that is encrypted", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let url = format!("zookeeper://127.0.0.1:{port}?{LONG}&tls=true");
    works(&format!("{url}&tls_ca={certificate}")).await;
    // Another authority than that of the server.
    let other = TempDir::new().unwrap();
    let error = connect(&format!("{url}&tls_ca={}", certify(&other).0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    // Nor do the others speak to it.
    let plain = format!("zookeeper://127.0.0.1:{}?{SHORT}", server.port);
    for wrong in [
        format!("zookeeper://127.0.0.1:{port}?{SHORT}"),
        format!("{plain}&tls=true&tls_ca={certificate}"),
    ] {
        let error = connect(&wrong).await.unwrap_err();
        assert!(error.to_string().contains("whether TLS is spoken there"), "{error}");
    }
    works(&plain).await;
    let error = connect(&format!("{url}&tls_ca={both}&tls_key={both}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
