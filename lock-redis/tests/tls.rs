//! Encrypted connections, and what is said when only one side encrypts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::fs;
use std::sync::Arc;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Result;
use lock_redis::DRIVER;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::servers::Server;
use crate::servers::free_port;

/// A server that encrypts on one port and does not on another.
struct Encrypted {
    server: Server,
    port: u16,
    files: TempDir,
}

impl Encrypted {
    /// `clients` tells whether clients need a certificate too.
    fn start(clients: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::default();
        // Were it named as those it vouches for, these would seem to vouch for themselves.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        fs::write(files.path().join("ca"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
            let certificate = certificate.signed_by(&key, &authority).unwrap();
            fs::write(files.path().join(name), certificate.pem()).unwrap();
            fs::write(files.path().join(format!("{name}-key")), key.serialize_pem()).unwrap();
        }
        let port = free_port();
        let file = |name: &str| files.path().join(name).display().to_string();
        let server = Server::start(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("server"),
            "--tls-key-file",
            &file("server-key"),
            "--tls-ca-cert-file",
            &file("ca"),
            "--tls-auth-clients",
            clients,
        ]);
        Self { server, port, files }
    }

    fn url(&self, query: &str) -> String {
        let folder = self.files.path().display();
        let query = query.replace("FOLDER", &folder.to_string());
        format!("rediss://localhost:{}?{query}", self.port)
    }
}

async fn connect(url: &str) -> Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

async fn refusal(url: &str) -> Error {
    connect(url).await.expect_err("it should be refused")
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, words: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn a_lock_is_taken_over_tls_from_a_server_that_is_trusted() {
    let encrypted = Encrypted::start("no");
    let locks = connect(&encrypted.url("tls_ca=FOLDER/ca")).await.unwrap();
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    assert!(encrypted.server.command("EXISTS a").starts_with(":1"));
    held.unlock().await.unwrap();
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let encrypted = Encrypted::start("no");
    let error = refusal(&encrypted.url("timeout=5s")).await;
    says(&error, ErrorKind::Unavailable, "invalid peer certificate: UnknownIssuer");
    let error = refusal(&encrypted.url("tls_ca=FOLDER/server-key")).await;
    says(&error, ErrorKind::Config, "\"tls_ca\" has no certificate in it");
    // The certificate is for another name.
    let url = encrypted.url("tls_ca=FOLDER/ca").replace("localhost", "127.0.0.1");
    says(&refusal(&url).await, ErrorKind::Unavailable, "not valid for name \"127.0.0.1\"");
}

#[tokio::test]
async fn a_server_can_want_a_certificate_of_its_clients() {
    let encrypted = Encrypted::start("yes");
    says(
        &refusal(&encrypted.url("tls_ca=FOLDER/ca")).await,
        ErrorKind::Unavailable,
        "no connection",
    );
    let half = encrypted.url("tls_ca=FOLDER/ca&tls_cert=FOLDER/client");
    says(&refusal(&half).await, ErrorKind::Config, "tls_cert and tls_key go together");
    let both = "tls_ca=FOLDER/ca&tls_cert=FOLDER/client&tls_key=FOLDER/client-key";
    let locks = connect(&encrypted.url(both)).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn who_encrypts_alone_is_told_so() {
    let encrypted = Encrypted::start("no");
    let plain = format!("redis://localhost:{}", encrypted.port);
    says(&refusal(&plain).await, ErrorKind::Unavailable, "if TLS is spoken there, write rediss://");
    let alone = encrypted.url("connect_timeout=300ms");
    let alone = alone.replace(&encrypted.port.to_string(), &encrypted.server.port.to_string());
    says(&refusal(&alone).await, ErrorKind::Unavailable, "if TLS is not spoken there");
    let files = format!("{plain}?tls_ca={}/ca", encrypted.files.path().display());
    says(&refusal(&files).await, ErrorKind::Config, "nothing is encrypted");
    for url in [encrypted.url("tls=false"), format!("{plain}?tls=true")] {
        says(&refusal(&url).await, ErrorKind::Config, "leave out query key \"tls\"");
    }
}
