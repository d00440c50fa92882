//! Servers that die, freeze, restart, end connections, and keep rows locked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use lock_core::ErrorKind;
use lock_core::LockGuard;
use lock_core::LockOptions;
use lock_core::LockProvider;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Locks while the store may be in trouble: an outage is not an end.
async fn lock_by(locks: &Arc<dyn LockProvider>, key: &str, limit: Duration) -> LockGuard {
    let start = Instant::now();
    let options = LockOptions::new().ttl(seconds(2)).wait(seconds(2));
    loop {
        match locks.lock(key, &options).await {
            Ok(guard) => return guard,
            Err(error) => assert!(start.elapsed() < limit, "{:?}: {error}", start.elapsed()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_keeps_locks_and_fences_over_its_restart() {
    let mut server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    let kept = locks.lock("kept", &LockOptions::new().ttl(seconds(60))).await.unwrap();
    let lost = locks.lock("lost", &LockOptions::new().ttl(seconds(1))).await.unwrap();
    server.kill();
    tokio::time::timeout(seconds(2), lost.lost()).await.unwrap();
    server.restart();
    let after = lock_by(&locks, "lost", seconds(10)).await;
    assert!(after.fence() > lost.fence());
    let other = connect(&server.url()).await.unwrap();
    let refused = other.try_lock("kept", &LockOptions::new()).await.unwrap();
    assert!(refused.acquired().is_none() && kept.is_valid());
    kept.unlock().await.unwrap();
    lock_by(&other, "kept", seconds(2)).await.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_the_lock_at_its_deadline_and_no_later() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    let held = locks.lock("a", &LockOptions::new().ttl(seconds(1))).await.unwrap();
    server.freeze();
    let start = Instant::now();
    tokio::time::timeout(seconds(3), held.lost()).await.unwrap();
    assert!(start.elapsed() <= seconds(1) + ms(300), "{:?}", start.elapsed());
    server.thaw();
    lock_by(&locks, "a", seconds(5)).await.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ends_cost_no_lock_and_no_wait() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (one, two) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
        let mut cli = Cli::connect(&url).await;
        let held = one.lock("kill:a", &LockOptions::new().ttl(seconds(2))).await.unwrap();
        let waiting = tokio::spawn(async move { lock_by(&two, "kill:a", seconds(20)).await });
        for _ in 0..20 {
            kill_all(&mut cli).await;
            tokio::time::sleep(ms(150)).await;
        }
        assert!(held.is_valid(), "{url}: its renewals went on");
        let fence = held.fence();
        held.unlock().await.unwrap();
        assert!(waiting.await.unwrap().fence() > fence);
    }
}

/// Ends all connections but this one.
async fn kill_all(cli: &mut Cli) {
    let others = "SELECT id FROM information_schema.processlist \
                  WHERE id <> CONNECTION_ID() AND db = DATABASE()";
    for row in cli.rows(others).await {
        // It may have gone by itself.
        let _ = cli.run(&format!("KILL {}", row[0])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_transaction_keeps_hold_up_nothing_else() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
        let kept = locks.lock("row:kept", &LockOptions::new().ttl(seconds(2))).await.unwrap();
        locks.lock("row:a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        cli.run("START TRANSACTION").await.unwrap();
        cli.run("SELECT * FROM distributed_locks WHERE lock_key = 'row:a' FOR UPDATE")
            .await
            .unwrap();
        // More attempts hang than there are connections for them.
        let hanging: Vec<_> = (0..6)
            .map(|_| {
                let locks = locks.clone();
                tokio::spawn(async move {
                    let guard = locks.lock("row:a", &LockOptions::new().wait(seconds(30))).await;
                    guard.unwrap().unlock().await.unwrap();
                })
            })
            .collect();
        tokio::time::sleep(seconds(4)).await;
        assert!(kept.is_valid(), "{url}: renewals have a connection of their own");
        let start = Instant::now();
        kept.unlock().await.unwrap();
        assert!(start.elapsed() < seconds(1), "{url}: so have releases: {:?}", start.elapsed());
        cli.run("COMMIT").await.unwrap();
        for done in hanging {
            done.await.unwrap();
        }
        let row = "SELECT COUNT(*) FROM distributed_locks WHERE lock_key = 'row:a' \
                   AND expires_at > NOW(6)";
        assert_eq!(cli.one(row).await, "0", "{url}: nothing is left held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_read_only_fails_until_it_is_the_primary_again() {
    let server = Server::start(&[]);
    let mut cli = Cli::connect(&server.url()).await;
    cli.run("CREATE USER app@'127.0.0.1'").await.unwrap();
    cli.run("GRANT ALL ON locks.* TO app@'127.0.0.1'").await.unwrap();
    let url = server.url().replace("root@", "app@");
    let locks = connect(&url).await.unwrap();
    let held = locks.lock("a", &LockOptions::new().ttl(seconds(1))).await.unwrap();
    cli.run("SET GLOBAL read_only = 1").await.unwrap();
    tokio::time::timeout(seconds(3), held.lost()).await.unwrap();
    let error = locks.try_lock("b", &LockOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.to_string().contains("primary"), "{error}");
    cli.run("SET GLOBAL read_only = 0").await.unwrap();
    lock_by(&locks, "a", seconds(5)).await.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_fail_in_a_way_that_can_be_repeated() {
    // The server takes no smaller number, and one more of an administrator.
    let server = Server::start(&["--max-connections=10"]);
    let locks = connect(&server.url()).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    let mut crowd = Vec::new();
    let error = loop {
        match connect(&server.url()).await {
            Ok(one) => crowd.push(one),
            Err(error) => break error,
        }
        assert!(crowd.len() < 20, "each has a connection, and the server has ten");
    };
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    // Who has a connection goes on with it, also when it wants more than there are.
    let all = (0..8).map(|number| {
        let locks = locks.clone();
        async move { lock_by(&locks, &format!("k{number}"), seconds(20)).await.unlock().await }
    });
    for cycle in all {
        cycle.await.unwrap();
    }
}
