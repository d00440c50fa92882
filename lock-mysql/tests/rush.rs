//! The known traps, driven at full rate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use lock_core::LockOptions;
use lock_core::LockProvider;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

fn is_full() -> bool {
    std::env::var_os("LOCK_TEST_FULL").is_some()
}

/// Eight clients on one name beside cleanups by us and by hand: no error reaches a caller, nobody holds
/// beside another, and fences rise in the order of the grants.
#[tokio::test(flavor = "multi_thread")]
async fn eight_clients_on_one_name_see_no_deadlock_and_no_inversion() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let until = Instant::now() + Duration::from_secs(if is_full() { 30 } else { 4 });
        let (last, busy) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut clients = Vec::new();
        for _ in 0..8 {
            let (locks, last, busy) = (connect(&url).await.unwrap(), last.clone(), busy.clone());
            clients.push(tokio::spawn(async move {
                let (mut grants, wait) = (0_u64, LockOptions::new().wait(Duration::from_secs(30)));
                while Instant::now() < until {
                    let guard = locks.lock("rush", &wait).await.unwrap();
                    assert!(!busy.swap(true, Ordering::SeqCst), "two hold at once");
                    let fence = guard.fence().get();
                    assert!(last.swap(fence, Ordering::SeqCst) < fence, "an inversion");
                    busy.store(false, Ordering::SeqCst);
                    guard.unlock().await.unwrap();
                    grants += 1;
                }
                grants
            }));
        }
        let cleaning = tokio::spawn(clean(url.clone(), until));
        let mut grants = 0;
        for client in clients {
            grants += client.await.unwrap();
        }
        let cleanups = cleaning.await.unwrap();
        println!("{url}: {grants} grants beside {cleanups} cleanups");
        assert!(grants >= 10, "{url}: only {grants} grants");
    }
}

/// Cleans up as an operator and as a provider do, in a hot loop; ours must not fail.
async fn clean(url: String, until: Instant) -> u64 {
    let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
    let mut rounds = 0;
    while Instant::now() < until {
        locks.cleanup_expired().await.unwrap();
        // A victim of a deadlock may be the operator, who does not retry.
        let _ = cli.run("DELETE FROM distributed_locks WHERE expires_at < NOW()").await;
        rounds += 1;
    }
    rounds
}

/// Insert and delete in turn deadlock; so we check that what is deleted by hand all the time is no worse
/// than slow.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_somebody_deletes_all_the_time_are_made_anew() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let until = Instant::now() + Duration::from_secs(3);
        let mut clients = Vec::new();
        for number in 0..8_usize {
            let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
            clients.push(tokio::spawn(async move {
                let (mut last, mut grants) = (0, 0_u64);
                let wait = LockOptions::new().wait(Duration::from_secs(30));
                while Instant::now() < until {
                    let guard = locks.lock("fresh", &wait).await.unwrap();
                    assert!(guard.fence().get() > last);
                    last = guard.fence().get();
                    grants += 1;
                    guard.unlock().await.unwrap();
                    if number < 4 {
                        let free = "DELETE FROM distributed_locks WHERE lock_key = 'fresh' \
                                    AND expires_at IS NULL";
                        let _ = cli.run(free).await;
                    }
                }
                grants
            }));
        }
        let mut grants = 0;
        for client in clients {
            grants += client.await.unwrap();
        }
        println!("{url}: {grants} grants of a row that comes and goes");
        assert!(grants >= 10, "{url}: only {grants} grants");
    }
}

/// Futures dropped about when the grant comes: nothing is left held.
#[tokio::test(flavor = "multi_thread")]
async fn waits_dropped_at_the_grant_leave_nothing_held() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let locks = connect(&url).await.unwrap();
        let rounds = if is_full() { 10_000 } else { 1_600 };
        let mut dropping = tokio::task::JoinSet::new();
        for task in 0..16_u64 {
            let locks = locks.clone();
            dropping.spawn(async move {
                // Moves to where as many are granted as are not, however fast the server is.
                let (mut granted, mut patience) = (0_u64, ms(2));
                for round in 0..rounds / 16 {
                    let key = format!("drop:{}", (task + round) % 24);
                    let wait = LockOptions::new().wait(ms(500)).ttl(Duration::from_secs(600));
                    let locking = locks.lock(&key, &wait);
                    if tokio::time::timeout(patience, locking).await.is_ok() {
                        granted += 1;
                        patience = patience * 9 / 10;
                    } else {
                        patience = patience * 10 / 9 + Duration::from_micros(9);
                    }
                }
                granted
            });
        }
        let granted: u64 = dropping.join_all().await.into_iter().sum();
        println!("{url}: {granted} of {rounds} were granted, and dropped then");
        assert!(granted > rounds / 10 && granted < rounds * 9 / 10, "{granted} of {rounds}");
        let mut cli = Cli::connect(&url).await;
        all_free(&mut cli, "drop:%").await;
    }
}

/// Waits for what is on its way, far less than a TTL.
/// One look for all the waiters of a process, whatever they wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_waiters_ask_little() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (holder, waiter) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
        let keys: Vec<_> = (0..1000).map(|n| format!("many:{n}")).collect();
        let mut held = Vec::new();
        for key in &keys {
            let options = LockOptions::new().ttl(Duration::from_secs(60));
            held.push(holder.lock(key, &options).await.unwrap());
        }
        let mut waiting = tokio::task::JoinSet::new();
        for key in keys {
            let waiter = waiter.clone();
            waiting.spawn(async move {
                let wait = LockOptions::new().wait(Duration::from_secs(60));
                waiter.lock(&key, &wait).await.unwrap().unlock().await.unwrap();
            });
        }
        let (mut cli, mut rates) = (Cli::connect(&url).await, Vec::new());
        // Until all have come to wait, and looks are more frequent in a wait's first second.
        while rates.len() < 30 && rates.last().is_none_or(|rate| *rate > 40) {
            let before = asked(&mut cli).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            rates.push(asked(&mut cli).await - before);
        }
        println!("{url}: statements in each second for 1,000 waiters: {rates:?}");
        assert!(rates.last().is_some_and(|rate| (2..=40).contains(rate)), "{url}: {rates:?}");
        drop(held);
        waiting.join_all().await;
    }
}

/// Returns how many statements clients have sent to the server.
async fn asked(cli: &mut Cli) -> u64 {
    cli.rows("SHOW GLOBAL STATUS LIKE 'Questions'").await[0][1].parse().unwrap()
}

async fn all_free(cli: &mut Cli, keys: &str) {
    let held = format!(
        "SELECT COUNT(*) FROM distributed_locks WHERE lock_key LIKE '{keys}' \
         AND (expires_at > NOW(6) OR line_until > NOW(6))"
    );
    let start = Instant::now();
    while cli.one(&held).await != "0" {
        assert!(start.elapsed() < Duration::from_secs(60), "locks are left held: {keys}");
        tokio::time::sleep(ms(50)).await;
    }
}

/// Statements killed while they acquire: what comes of each is found out, and nothing is left held.
#[tokio::test(flavor = "multi_thread")]
async fn statements_killed_while_they_acquire_leave_nothing_held() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let until = Instant::now() + Duration::from_secs(if is_full() { 30 } else { 4 });
        let killing = tokio::spawn(kill(url.clone(), until));
        let mut clients = Vec::new();
        for _ in 0..4 {
            let locks = connect_stubbornly(&url).await;
            clients.push(tokio::spawn(async move {
                let (mut grants, mut failures) = (0_u64, 0_u64);
                while Instant::now() < until {
                    let options = LockOptions::new().wait(ms(800)).ttl(Duration::from_secs(600));
                    match locks.lock("killed", &options).await {
                        Ok(guard) => {
                            grants += 1;
                            // An unlock that is not confirmed goes on in the background.
                            let _ = guard.unlock().await;
                        }
                        Err(_) => failures += 1,
                    }
                }
                (locks, grants, failures)
            }));
        }
        let mut alive = Vec::new();
        for client in clients {
            alive.push(client.await.unwrap());
        }
        let kills = killing.await.unwrap();
        let grants: u64 = alive.iter().map(|(_, grants, _)| grants).sum();
        let failures: u64 = alive.iter().map(|(_, _, failures)| failures).sum();
        println!("{url}: {kills} kills, {grants} grants, {failures} failures");
        assert!(kills >= 10 && grants >= 10, "{url}: {kills} kills and {grants} grants");
        all_free(&mut Cli::connect(&url).await, "killed").await;
    }
}

async fn connect_stubbornly(url: &str) -> Arc<dyn LockProvider> {
    loop {
        if let Ok(locks) = connect(url).await {
            return locks;
        }
    }
}

/// Kills statements and connections that are acquiring, by turns.
async fn kill(url: String, until: Instant) -> u64 {
    let mut cli = Cli::connect(&url).await;
    let busy = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
                AND db = DATABASE() AND info LIKE 'INSERT INTO%'";
    let mut kills = 0;
    while Instant::now() < until {
        for row in cli.rows(busy).await {
            let what = if kills % 2 == 0 { "QUERY" } else { "CONNECTION" };
            kills += u64::from(cli.run(&format!("KILL {what} {}", row[0])).await.is_ok());
        }
        // Somebody has to get through.
        tokio::time::sleep(ms(kills % 8)).await;
    }
    kills
}
