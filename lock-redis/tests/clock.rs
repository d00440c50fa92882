//! What a server's clock leaves behind when it is set back: fences and places in line of a time to come.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Token;
use lock_redis::DRIVER;

use crate::servers::Server;

const HOUR: Duration = Duration::from_secs(3600);

async fn connect(server: &Server) -> Arc<dyn LockProvider> {
    let backend = DRIVER.open(ConnectUrl::parse(&server.url()).unwrap()).await.unwrap();
    Arc::new(Engine::new(backend, EngineOptions::default()).unwrap())
}

/// Since 1970, as all clocks of this host have it.
fn in_an_hour() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + HOUR
}

/// A server on which `a` was locked once, and the names of its card and its line.
struct Used {
    server: Server,
    locks: Arc<dyn LockProvider>,
    card: String,
    line: String,
}

impl Used {
    async fn once() -> Self {
        let server = Server::start(&[]);
        let locks = connect(&server).await;
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        let (card, line) = companions(&server);
        Self { server, locks, card, line }
    }
}

/// The name of the card of the only lock, and of its line.
fn companions(server: &Server) -> (String, String) {
    let answer = server.command("KEYS lk:*:a");
    let card = answer.lines().nth(2).unwrap().to_owned();
    let line = card.replace("}:", "}q:");
    (card, line)
}

fn lives_for(server: &Server, name: &str) -> Duration {
    let answer = server.command(&format!("PTTL {name}"));
    Duration::from_millis(answer.trim_start_matches(':').trim().parse().unwrap())
}

#[tokio::test]
async fn a_fence_ahead_of_the_clock_is_remembered_until_the_clock_has_passed_it() {
    let Used { server, locks, card, .. } = Used::once().await;
    let day = HOUR * 24;
    assert!(lives_for(&server, &card) < day + HOUR * 3);
    let ahead = (in_an_hour() + day * 365).as_micros();
    server.command(&format!("HSET {card} f {ahead}"));
    for mode in ["exclusive", "shared"] {
        let options = LockOptions::new().mode(mode.parse().unwrap());
        let held = locks.lock("a", &options).await.unwrap();
        assert!(u128::from(held.fence().get()) > ahead, "{mode}");
        assert!(lives_for(&server, &card) > day * 365, "{mode}");
        held.extend(HOUR).await.unwrap();
        assert!(lives_for(&server, &card) > day * 365, "kept as {mode}");
        assert!(locks.try_lock("a", &LockOptions::new()).await.unwrap().acquired().is_none());
        held.unlock().await.unwrap();
        assert!(lives_for(&server, &card) > day * 365, "released as {mode}");
    }
    locks.cleanup_expired().await.unwrap();
    assert!(lives_for(&server, &card) > day * 365, "cleaned up");
}

#[tokio::test]
async fn who_holds_for_days_is_not_forgotten_with_the_next_who_holds_for_seconds() {
    let server = Server::start(&[]);
    let locks = connect(&server).await;
    let days = HOUR * 24 * 3;
    let shared = LockOptions::new().mode("shared".parse().unwrap());
    let _long = locks.lock("a", &shared.clone().ttl(days)).await.unwrap();
    let short = locks.lock("a", &shared.ttl(Duration::from_secs(10))).await.unwrap();
    short.extend(Duration::from_secs(20)).await.unwrap();
    let (card, _) = companions(&server);
    assert!(lives_for(&server, &card) > days);
}

#[tokio::test]
async fn what_is_no_fence_is_corrupt_and_nothing_is_held() {
    let Used { server, locks, card, .. } = Used::once().await;
    for rubbish in ["rubbish", "nan", "inf", "9007199254740991"] {
        server.command(&format!("HSET {card} f {rubbish}"));
        for mode in ["exclusive", "shared"] {
            let options = LockOptions::new().mode(mode.parse().unwrap());
            let error = locks.lock("a", &options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{rubbish}: {error}");
            assert!(server.command("GET a").starts_with("$-1"), "{rubbish}");
        }
    }
}

#[tokio::test]
async fn a_place_in_line_of_a_time_to_come_holds_nobody_up() {
    let Used { server, locks, card, line } = Used::once().await;
    let dead = Token::random();
    server.command(&format!("ZADD {line} 1 {dead}"));
    let place = format!("\"{} exclusive\"", in_an_hour().as_millis());
    assert!(server.command(&format!("HSET {card} p:{dead} {place}")).starts_with(":1"));
    let fair = LockOptions::new().fair().wait(Duration::from_secs(3));
    locks.lock("a", &fair).await.unwrap().unlock().await.unwrap();
    assert_eq!(locks.status("a").await.unwrap().waiting, 0);
}

#[tokio::test]
async fn a_spoilt_key_is_named_by_a_list_passed_over_by_a_cleanup_and_cleared_by_force() {
    let Used { server, locks, card, line } = Used::once().await;
    let holders = line.replace("}q:", "}h:");
    let shared = LockOptions::new().mode("shared".parse().unwrap());
    let waiter = Token::random();
    let spoilt = [
        vec![format!("SET {line} x")],
        vec![format!("SET {card} x"), "SET a x".to_owned()],
        vec![format!("SET {holders} x"), "SET a shared:x".to_owned()],
        vec![format!("ZADD {line} 1 {waiter}"), format!("HSET {card} p:{waiter} soon")],
    ];
    for commands in spoilt {
        locks.lock("a", &shared).await.unwrap().unlock().await.unwrap();
        locks.lock("b", &shared).await.unwrap().unlock().await.unwrap();
        for command in &commands {
            let name = command.split(' ').nth(1).unwrap();
            if command.starts_with("SET") {
                server.command(&format!("DEL {name}"));
            }
            server.command(command);
        }
        let error = locks.list("").await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("a")), "{commands:?}");
        assert!(locks.cleanup_expired().await.unwrap() > 0, "{commands:?}");
        assert!(!server.command("KEYS lk:*").contains(":b"), "{commands:?}");
        locks.force_unlock("a", Eviction::LockOnly).await.unwrap();
        assert_eq!(locks.list("").await.unwrap().len(), 0, "{commands:?}");
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    }
}
