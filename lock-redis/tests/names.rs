//! Names that look like ours, like tags, or like nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_redis::DRIVER;

use crate::servers::Cluster;
use crate::servers::Server;

const NAMES: &[&str] = &[
    "a",
    "A",
    "a ",
    " a",
    "a}b",
    "{a}b",
    "x{t}y",
    "{}x",
    "{}{a}",
    "a{b",
    "}{",
    "{{a}b",
    "lk",
    "lk:",
    "lk:x",
    "shared:1",
    "permits:2:x",
    "*",
    "a*",
    "[a]",
    "\\",
    "🔒",
    "é",
    "e\u{301}",
    "a\tb",
    "a:b",
    "{a}h:b",
    "}h:a",
];

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(url).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

async fn all_names_are_kept_apart(url: &str) {
    let locks = connect(url).await;
    let long = "x".repeat(512);
    let mut names: Vec<&str> = NAMES.iter().copied().chain([long.as_str()]).collect();
    let mut held = Vec::new();
    for name in &names {
        held.push(locks.lock(name, &LockOptions::new()).await.unwrap());
    }
    let listed: Vec<_> = locks.list("").await.unwrap().into_iter().map(|state| state.key).collect();
    names.sort_unstable();
    assert_eq!(listed, names);
    for name in &names {
        let matching: Vec<_> = names.iter().filter(|other| other.starts_with(name)).collect();
        assert_eq!(locks.list(name).await.unwrap().len(), matching.len(), "{name:?}");
    }
    for guard in held {
        guard.unlock().await.unwrap();
    }
    assert!(locks.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn on_one_server() {
    all_names_are_kept_apart(&Server::start(&[]).url()).await;
}

#[tokio::test]
async fn in_a_cluster() {
    let cluster = Cluster::start();
    all_names_are_kept_apart(&cluster.url()).await;
}

#[tokio::test]
async fn what_looks_like_a_companion_is_refused() {
    let server = Server::start(&[]);
    let error = connect(&server.url()).await.lock("lk:{x}", &LockOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}
