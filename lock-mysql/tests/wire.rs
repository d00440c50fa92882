//! What goes over the wire, by the server's own log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::time::Duration;
use std::time::Instant;

use lock_core::LockOptions;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

/// The log is the server's, so one test at a time has it.
static LOG: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Passes so many seconds, from when it is first polled.
async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Returns what the server was asked while `work` ran, apart from statements being prepared.
async fn heard(cli: &mut Cli, work: impl Future<Output = ()>) -> Vec<String> {
    let _log = LOG.lock().await;
    cli.run("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = 1").await.unwrap();
    cli.run("TRUNCATE mysql.general_log").await.unwrap();
    work.await;
    cli.run("SET GLOBAL general_log = 0").await.unwrap();
    let ask = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
               WHERE thread_id <> CONNECTION_ID() AND thread_id IN \
               (SELECT id FROM information_schema.processlist WHERE db = DATABASE()) AND command_type IN ('Query', 'Execute', 'Ping') \
               AND (argument LIKE '%distributed_locks%' OR argument LIKE '%TRANSACTION%' \
               OR argument LIKE '%wait_timeout%') AND argument NOT LIKE '%sql_mode%' \
               AND argument NOT LIKE '%ISOLATION%' AND argument NOT LIKE '%read_only%' ORDER BY event_time";
    cli.rows(ask).await.into_iter().map(|mut row| row.swap_remove(0)).collect()
}

#[tokio::test]
async fn a_free_key_costs_one_statement_to_lock_and_one_to_unlock() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
        let cycle = async || {
            locks.lock("wire:a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        };
        cycle().await;
        let heard = heard(&mut cli, async {
            cycle().await;
            cycle().await;
        });
        let heard = heard.await;
        assert_eq!(heard.len(), 4, "{url}: {heard:#?}");
        assert!(
            heard[0].starts_with("INSERT INTO") && heard[1].starts_with("UPDATE"),
            "{heard:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_freezes_in_a_transaction_locks_a_row_for_seconds_only() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
        let heard = heard(&mut cli, async {
            let shared = LockOptions::new().mode("shared".parse().unwrap());
            locks.lock("freeze", &shared).await.unwrap().unlock().await.unwrap();
        });
        let heard = heard.await;
        let count = |text: &str| heard.iter().filter(|it| it.contains(text)).count();
        assert_eq!(count("START TRANSACTION"), 2, "{url}: {heard:#?}");
        assert_eq!(count("wait_timeout = 5"), 2, "{url}: each is limited");
        assert_eq!(count("wait_timeout = DEFAULT"), 2, "{url}: and nothing else");
        // As a session does, and then says nothing more.
        let mut frozen = Cli::connect(&url).await;
        frozen.run("SET SESSION wait_timeout = 5; START TRANSACTION").await.unwrap();
        frozen
            .run("SELECT * FROM distributed_locks WHERE lock_key = 'freeze' FOR UPDATE")
            .await
            .unwrap();
        let start = Instant::now();
        let wait = LockOptions::new().wait(Duration::from_secs(60));
        locks.lock("freeze", &wait).await.unwrap().unlock().await.unwrap();
        let taken = start.elapsed();
        assert!(taken > ms(3_000) && taken < ms(20_000), "{url}: {taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_held_locks_are_kept_by_two_statements_a_cycle() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
        let options = LockOptions::new().ttl(Duration::from_secs(9));
        let mut guards = Vec::new();
        for number in 0..1000 {
            guards.push(locks.lock(&format!("keep:{number}"), &options).await.unwrap());
        }
        // Renewals come after a third of the TTL, and those that are half due ride along.
        let heard = heard(&mut cli, pause(6)).await;
        let keeps = heard.iter().filter(|text| text.starts_with("UPDATE")).count();
        assert!((2..=8).contains(&keeps), "{url}: {keeps} statements in two thirds of a TTL");
        assert_eq!(keeps, heard.len(), "nothing else was asked: {:?}", heard.first());
        assert!(guards.iter().all(|guard| guard.is_valid()), "{url}");
        let mine = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()";
        let connections: usize = cli.one(mine).await.parse().unwrap();
        assert!(connections <= 5, "{connections} connections, one of them the test's");
        futures_unlock(guards).await;
    }
}

async fn futures_unlock(guards: Vec<lock_core::LockGuard>) {
    for guard in guards {
        guard.unlock().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_waiters_share_ten_looks_a_second() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (holder, waiter) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
        let mut cli = Cli::connect(&url).await;
        let mut held = Vec::new();
        for number in 0..10 {
            held.push(holder.lock(&format!("look:{number}"), &LockOptions::new()).await.unwrap());
        }
        let waiting: Vec<_> = (0..1000)
            .map(|number| {
                let waiter = waiter.clone();
                tokio::spawn(async move {
                    let wait = LockOptions::new().wait(Duration::from_secs(60));
                    waiter.lock(&format!("look:{}", number % 10), &wait).await.map(drop)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let heard = heard(&mut cli, pause(2)).await;
        let looks = heard.iter().filter(|text| text.starts_with("SELECT")).count();
        assert!((5..=25).contains(&looks), "{url}: {looks} looks in 2 s");
        assert!(heard.len() <= looks + 4, "{url}: more than looks: {}", heard.len());
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        futures_unlock(held).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_handed_to_another_process_within_8_ms_at_first() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (one, two) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
        let (mut taken, mut usual) = (Vec::new(), Vec::new());
        for _ in 0..41 {
            let held = one.lock("hand", &LockOptions::new()).await.unwrap();
            let two = two.clone();
            let waiting = tokio::spawn(async move {
                let guard = two.lock("hand", &LockOptions::new().wait(ms(5_000))).await.unwrap();
                let at = Instant::now();
                guard.unlock().await.unwrap();
                at
            });
            tokio::time::sleep(ms(37)).await;
            let free = Instant::now();
            held.unlock().await.unwrap();
            usual.push(free.elapsed());
            taken.push(waiting.await.unwrap().saturating_duration_since(free));
        }
        taken.sort_unstable();
        usual.sort_unstable();
        let (median, usual) = (taken[taken.len() / 2], usual[usual.len() / 2]);
        println!("{url}: hand-over p50 {median:?}, of which the release {usual:?}");
        // A pause of the poller, a look, and the grant, which is a commit as the release is.
        let full = std::env::var_os("LOCK_TEST_FULL").is_some();
        // The figure is for a machine that has nothing else to do.
        let bound = if full { ms(8) } else { ms(25) } + usual * 3;
        assert!(median < bound, "{url}: {median:?}");
    }
}
