//! Names that look like ours, like tags, or like nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
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
    "{}",
    "{",
    "}",
    "{}a}b",
    "{ }",
    "{\n}",
    "{🔒}é",
    "a\nb",
    "a\r\nb",
    "a\u{7f}b",
    "a%b",
    "a%00b",
    "%",
    "%s",
    "x lk:{x}",
    "LK:{x}",
    "lk:x{x}",
    "'a' \"b\"",
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

/// Everything that the servers store, by its key, with the slot that they themselves compute.
async fn stored(servers: &[Server]) -> Vec<(String, u16)> {
    let mut all = Vec::new();
    for server in servers.iter().filter(|server| server.is_primary()) {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        for key in keys {
            let mut slot = redis::cmd("CLUSTER");
            slot.arg("KEYSLOT").arg(&key);
            all.push((key, slot.query_async(&mut connection).await.unwrap()));
        }
    }
    all
}

/// Readers hold each name and a writer waits for it, so that each has all companions there are: they must
/// be in its slot, and nothing else may be stored.
async fn companions_are_in_the_slot_of_their_lock(cluster: &Cluster) {
    let locks = connect(&cluster.url()).await;
    let (mut held, mut waiting) = (Vec::new(), Vec::new());
    for name in NAMES {
        let shared = LockOptions::new().mode(Mode::Shared);
        held.push([
            locks.lock(name, &shared).await.unwrap(),
            locks.lock(name, &shared).await.unwrap(),
        ]);
        let writer = locks.clone();
        waiting.push(tokio::spawn(async move {
            writer.lock(name, &LockOptions::new().fair()).await.unwrap().unlock().await.unwrap();
        }));
        while locks.status(name).await.unwrap().waiting == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let stored = stored(&cluster.servers).await;
    assert_eq!(stored.len(), NAMES.len() * 4, "{stored:#?}");
    for name in NAMES {
        let of_it = |key: &str| {
            let companion = key.strip_prefix("lk:{").and_then(|key| key.split_once('}'));
            let companion = companion.map(|(_, rest)| rest.trim_start_matches(['h', 'q']));
            key == *name || companion.and_then(|rest| rest.strip_prefix(':')) == Some(name)
        };
        let slots: Vec<_> =
            stored.iter().filter(|(key, _)| of_it(key)).map(|(_, slot)| slot).collect();
        assert!(
            slots.len() == 4 && slots.windows(2).all(|pair| pair[0] == pair[1]),
            "{name:?}: {slots:?}"
        );
    }
    drop(held);
    for waiting in waiting {
        waiting.await.unwrap();
    }
}

#[tokio::test]
async fn on_one_server() {
    all_names_are_kept_apart(&Server::start(&[]).url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster() {
    let cluster = Cluster::start();
    all_names_are_kept_apart(&cluster.url()).await;
    for server in cluster.servers.iter().filter(|server| server.is_primary()) {
        server.command("FLUSHALL");
    }
    companions_are_in_the_slot_of_their_lock(&cluster).await;
}

#[tokio::test]
async fn what_cannot_be_a_name_is_refused_with_the_reason() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await;
    let long = "x".repeat(513);
    let refused =
        [("lk:{x}", "begin with"), ("a\0b", "NUL"), ("", "at least"), (&long, "at most 512")];
    for (name, reason) in refused {
        let error = locks.lock(name, &LockOptions::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(locks.status(name).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(server.command("DBSIZE").contains(":0"), "nothing was sent");
}
