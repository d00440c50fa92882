//! What goes over the wire, and how other clients see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lock_core::Attempt;
use lock_core::Claim;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::SharedBackend;
use lock_redis::DRIVER;

use crate::servers::Server;
use crate::servers::until;

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

/// Returns the commands that the server gets while `work` runs, scripts by their keys.
async fn commands(server: &Server, work: impl Future<Output = ()>) -> Vec<String> {
    let client = redis::Client::open(server.url()).unwrap();
    let mut heard = client.get_async_monitor().await.unwrap().into_on_message::<String>();
    work.await;
    server.command("ECHO end-of-work");
    let mut commands = Vec::new();
    while let Some(line) = heard.next().await {
        if line.contains("end-of-work") {
            return commands;
        }
        // What a script does is marked `lua`.
        if !line.contains(" lua] ") {
            commands.push(line);
        }
    }
    commands
}

#[tokio::test]
async fn a_free_key_costs_one_command_to_lock_and_one_to_unlock() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    // The first time the scripts are sent in full.
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    let heard = commands(&server, async {
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    });
    let heard = heard.await;
    assert_eq!(heard.len(), 2, "{heard:#?}");
    assert!(heard.iter().all(|line| line.contains("\"EVALSHA\"")), "{heard:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_locks_and_waiters_share_one_connection() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    let options = LockOptions::new().ttl(Duration::from_secs(3));
    let mut held = Vec::new();
    for n in 0..200 {
        held.push(locks.lock(&format!("key:{n}"), &options).await.unwrap());
    }
    let wait = LockOptions::new().wait(Duration::from_secs(10));
    let waiting: Vec<_> = (0..50)
        .map(|n| {
            let (locks, wait) = (locks.clone(), wait.clone());
            tokio::spawn(async move {
                locks.lock(&format!("key:{n}"), &wait).await.unwrap().unlock().await.unwrap();
            })
        })
        .collect();
    // Long enough for a renewal of all.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // One is the question's own.
    assert!(server.command("INFO clients").contains("connected_clients:2\r\n"));
    for guard in held {
        guard.unlock().await.unwrap();
    }
    for waiter in waiting {
        waiter.await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_that_waits_for_replicas_costs_one_more_command_sent_along() {
    let server = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
    until("a replica that has caught up", || {
        replica.command("INFO replication").contains("master_link_status:up")
    });
    let locks = connect(&format!("{}?wait_replicas=1&wait_timeout=3s", server.url())).await;
    let locks = locks.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    let heard = commands(&server, async {
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    });
    let verb = |line: &String| line.split('"').nth(1).unwrap_or_default().to_owned();
    let ours = |verb: &String| !["REPLCONF", "PING"].contains(&verb.as_str());
    let heard: Vec<_> = heard.await.iter().map(verb).filter(ours).collect();
    assert_eq!(heard, ["EVALSHA", "WAIT", "EVALSHA"]);
}

#[tokio::test]
async fn an_exclusive_lock_is_a_string_that_any_client_respects() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    let held = locks.lock("order:1", &LockOptions::new()).await.unwrap();
    assert!(server.command("SET order:1 mine NX PX 5000").starts_with("$-1"));
    assert!(server.command("TYPE order:1").contains("string"));
    let left: i64 = server.command("PTTL order:1").trim_start_matches(':').trim().parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left}");
    held.unlock().await.unwrap();
    assert!(server.command("GET order:1").starts_with("$-1"));
    assert!(server.command("SET order:1 mine NX PX 5000").contains("OK"));
}

#[tokio::test]
async fn a_foreign_lock_is_respected_shown_and_waited_for() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    assert!(server.command("SET order:1 theirs NX PX 400").contains("OK"));
    for mode in ["exclusive", "shared", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap());
        let refused = locks.try_lock("order:1", &options).await.unwrap();
        assert!(refused.acquired().is_none(), "{mode}");
    }
    let status = locks.status("order:1").await.unwrap();
    assert_eq!(status.holders.len(), 1);
    assert_eq!(status.holders[0].owner, None);
    let wait = LockOptions::new().wait(Duration::from_secs(5));
    locks.lock("order:1", &wait).await.unwrap().unlock().await.unwrap();
}

/// When the next look is due, by an attempt and by a look.
async fn next_looks(backend: &SharedBackend, claim: &Claim) -> [Duration; 2] {
    let tried = backend.attempt(claim).await.unwrap();
    let Attempt::Held { retry_in: Some(tried), .. } = tried else { panic!("{tried:?}") };
    let looked = backend.peek(slice::from_ref(claim)).await.unwrap().remove(0);
    let Peek::Held { retry_in: Some(looked), .. } = looked else { panic!("{looked:?}") };
    [tried, looked]
}

#[tokio::test]
async fn behind_a_client_that_tells_nobody_of_its_release_the_next_one_looks_often() {
    let server = Server::start(&[]);
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    let claim = || {
        let key = LockKey::new("order:1").unwrap();
        Claim::new(key, Owner::new("me").unwrap(), Duration::from_secs(30))
    };
    let (soon, late) = (Duration::from_millis(50), Duration::from_secs(20));
    for theirs in ["SET order:1 theirs PX 60000", "SET order:1 theirs"] {
        server.command(theirs);
        assert_eq!(next_looks(&backend, &claim()).await, [soon; 2], "{theirs}");
    }
    server.command("DEL order:1");
    backend.attempt(&claim()).await.unwrap();
    assert!(next_looks(&backend, &claim()).await.iter().all(|left| *left > late));
}

#[tokio::test]
async fn readers_and_permits_keep_a_foreign_client_out() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    for mode in ["shared", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap());
        let first = locks.lock("a", &options).await.unwrap();
        let second = locks.lock("a", &options).await.unwrap();
        first.unlock().await.unwrap();
        assert!(server.command("SET a mine NX PX 5000").starts_with("$-1"), "{mode}");
        second.unlock().await.unwrap();
        assert!(server.command("GET a").starts_with("$-1"), "{mode}");
    }
}

#[tokio::test]
async fn a_lock_that_somebody_deletes_is_lost_by_its_holder_only() {
    let server = Server::start(&[]);
    let (one, two) = (connect(&server.url()).await.unwrap(), connect(&server.url()).await.unwrap());
    let options = LockOptions::new().ttl(Duration::from_millis(900));
    for mode in ["exclusive", "shared"] {
        let options = options.clone().mode(mode.parse::<Mode>().unwrap());
        let lost = one.lock("a", &options).await.unwrap();
        server.command("DEL a");
        let held = two.lock("a", &LockOptions::new()).await.unwrap();
        assert!(held.fence() > lost.fence());
        tokio::time::timeout(Duration::from_secs(2), lost.lost()).await.unwrap();
        assert_eq!(lost.unlock().await.unwrap_err().kind(), ErrorKind::Lost);
        assert!(held.is_valid());
        held.unlock().await.unwrap();
    }
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    for _ in 0..3 {
        let held = locks.lock("a", &LockOptions::new()).await.unwrap();
        server.command("SCRIPT FLUSH");
        held.extend(Duration::from_secs(20)).await.unwrap();
        server.command("SCRIPT FLUSH");
        held.unlock().await.unwrap();
        server.command("SCRIPT FLUSH");
    }
}

#[tokio::test]
async fn a_server_that_would_drop_locks_is_refused() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]);
    let error = connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("noeviction"), "{error}");
    connect(&format!("{}?unsafe_eviction=allow", server.url())).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_refused() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    let error = connect(&replica.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("replica"), "{error}");
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    let server = Server::start(&["--requirepass", "s3cret"]);
    let address = format!("127.0.0.1:{}", server.port);
    let none = connect(&format!("redis://{address}")).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config, "{none}");
    let wrong = connect(&format!("redis://:hunter2@{address}")).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Config, "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("hunter2"));
    let locks = connect(&format!("redis://:s3cret@{address}")).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    assert!(!format!("{locks:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_key_somebody_spoils_takes_no_other_with_it() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    let options = LockOptions::new().ttl(Duration::from_secs(1));
    let other = locks.lock("other", &options).await.unwrap();
    let spoilt = locks.lock("spoilt", &options).await.unwrap();
    server.command("DEL spoilt");
    server.command("LPUSH spoilt x");
    tokio::time::timeout(Duration::from_secs(5), spoilt.lost()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.unlock().await.unwrap();
}
