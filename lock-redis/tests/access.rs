//! Who may do what: users with the least rights, over lines that are encrypted both ways.
//!
//! The certificates in `tls/` are for nothing else; they name `localhost` and last for a century.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_redis::DRIVER;

use crate::servers::Server;
use crate::servers::free_port;

/// The rights of a user that locks, as the documentation has them.
fn rights() -> &'static str {
    let docs = include_str!("../src/docs.md");
    docs.split("```acl\n").nth(1).unwrap().split("\n```").next().unwrap()
}

fn file(name: &str) -> String {
    format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::new().prefix("shop:"))?))
}

/// Does all that locks can do.
async fn do_everything(locks: &Arc<dyn LockProvider>) {
    for mode in ["exclusive", "shared", "permits:2"] {
        let mode: Mode = mode.parse().unwrap();
        let options = LockOptions::new().mode(mode).ttl(Duration::from_millis(600));
        let held = locks.lock("a", &options).await.unwrap();
        let waiter = locks.clone();
        let waiting = tokio::spawn(async move {
            let fair = LockOptions::new().fair().wait(Duration::from_secs(9));
            waiter.lock("a", &fair).await.unwrap().unlock().await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(locks.status("a").await.unwrap().waiting, 1);
        assert_eq!(locks.list("").await.unwrap().len(), 1);
        held.extend(Duration::from_secs(20)).await.unwrap();
        held.unlock().await.unwrap();
        waiting.await.unwrap();
        let held = locks.lock("a", &options).await.unwrap();
        locks.force_unlock("a", Eviction::LockOnly).await.unwrap();
        held.unlock().await.unwrap_err();
    }
    locks.cleanup_expired().await.unwrap();
}

fn url(server: &Server) -> String {
    format!("redis://locks:secret@{}", server.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_least_rights_can_do_everything_and_needs_each_of_them() {
    let server = Server::start(&[]);
    assert!(server.command(&format!("ACL SETUSER {}", rights())).contains("OK"));
    do_everything(&connect(&url(&server)).await.unwrap()).await;
    assert_eq!(server.command("ACL LOG").trim(), "*0");
    let used = server.command("INFO commandstats");
    for right in rights().split(' ').filter_map(|right| right.strip_prefix('+')) {
        // Channels are left only if there are many, and a line is counted for whoever just looks at it.
        let rare = ["unsubscribe", "zcard"].contains(&right);
        let needed = rare || used.contains(&format!("cmdstat_{right}:"));
        assert!(needed, "{right} is not used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_channels_locks_and_releases_and_waits_by_looking() {
    let server = Server::start(&[]);
    let deaf = rights().replace(" &lk:*", "");
    assert!(server.command(&format!("ACL SETUSER {deaf}")).contains("OK"));
    do_everything(&connect(&url(&server)).await.unwrap()).await;
}

#[tokio::test]
async fn a_user_without_rights_to_the_key_is_told_so() {
    let server = Server::start(&[]);
    assert!(server.command(&format!("ACL SETUSER {}", rights())).contains("OK"));
    let backend = DRIVER.open(ConnectUrl::parse(&url(&server)).unwrap()).await.unwrap();
    let locks = Engine::new(backend, EngineOptions::new().prefix("other:")).unwrap();
    let error = locks.try_lock("a", &LockOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("the user may not do this"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_encrypted_both_ways_and_nothing_less_is_taken() {
    let port = free_port();
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-ca-cert-file",
        &ca,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
    ]);
    assert!(server.command(&format!("ACL SETUSER {}", rights())).contains("OK"));
    let (cert, key) = (file("client.pem"), file("client.key"));
    let plain = format!("rediss://locks:secret@localhost:{port}?connect_timeout=1s");
    let good = format!("{plain}&tls_ca={ca}&tls_cert={cert}&tls_key={key}");
    do_everything(&connect(&good).await.unwrap()).await;
    let (encrypted, unencrypted) = (port.to_string(), server.port.to_string());
    for (bad, told) in [
        (plain.clone(), "UnknownIssuer"),
        (format!("{plain}&tls_cert={cert}&tls_key={key}"), "UnknownIssuer"),
        (format!("{plain}&tls_ca={ca}"), "no connection"),
        (good.replace("rediss", "redis"), "but nothing is encrypted"),
        (plain.replace("rediss", "redis"), "if TLS is spoken there, write rediss://"),
        (good.replace(&encrypted, &unencrypted), "if TLS is not spoken there, write redis://"),
        (format!("{plain}&tls=false"), "leave out query key \"tls\""),
        (good.replace("localhost", "127.0.0.1"), "not valid for name"),
        (good.replace("secret", "hunter2"), "the server refused user or password"),
        (format!("{plain}&tls_ca={key}"), "\"tls_ca\" has no certificate in it"),
        (
            format!("{plain}&tls_ca={ca}&tls_cert={cert}&tls_key={cert}"),
            "\"tls_key\" has no key in it",
        ),
    ] {
        let error = connect(&bad).await.err().unwrap_or_else(|| panic!("{told}: was taken"));
        assert!(error.to_string().contains(told), "{told}: {error}");
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("secret") && !shown.contains("hunter2"), "{shown}");
    }
}
