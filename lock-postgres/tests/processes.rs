//! Eight real processes on one name at full rate, beside cleanups and while sessions and statements are ended:
//! this program starts itself again as [`child`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::time::Duration;

use conformance_tests::Outcome;
use conformance_tests::history::Done;
use conformance_tests::history::Op;
use conformance_tests::history::Record;
use conformance_tests::rush;
use conformance_tests::rush::KEY;
use conformance_tests::rush::Rush;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_postgres::DRIVER;

use crate::servers::Server;

async fn connect(url: &str) -> Result<SharedBackend> {
    DRIVER.open(ConnectUrl::parse(url)?).await
}

/// As a test of its own it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn child() -> Outcome {
    rush::child(connect).await
}

/// Ends sessions of others and stops their statements, by turns, and notes when it ended one: its locks were
/// free then, before its holder could know.
async fn disturb(server: &Server, rush: &Rush) -> (u64, u64) {
    let (mut psql, mut ended, mut stopped) = (server.psql().await, 0, 0);
    while rush.lasts() {
        let stop = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE state = 'active' \
                    AND application_name = 'lock' AND query LIKE '%\"locks\".%'";
        for _ in 0..50 {
            stopped += psql.one::<i64>(stop).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let record = Record::begin(100, KEY, Op::Forget);
        let one = "SELECT count(pg_terminate_backend(pid, 1000)) FROM (SELECT pid FROM pg_stat_activity \
                   WHERE application_name = 'lock' ORDER BY random() LIMIT 1) one";
        ended += psql.one::<i64>(one).await;
        rush.add(record.end(Done::Ok));
    }
    (ended.cast_unsigned(), stopped.cast_unsigned())
}

/// Nobody holds beside another, fences rise in the order of the grants, no deadlock reaches a caller, and
/// nothing is left held.
#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_on_one_name_exclude_each_other_while_sessions_end() {
    let server = Server::start(&["deadlock_timeout=100ms"]);
    let backend = connect(&server.url()).await.unwrap();
    let cleaner = Engine::new(backend, EngineOptions::default()).unwrap();
    let rush = Rush::start(&server.url()).unwrap();
    let (cleaned, (ended, stopped)) = tokio::join!(rush.clean(&cleaner), disturb(&server, &rush));
    cleaned.unwrap();
    let grants = rush.judge().unwrap();
    println!("{grants} grants, {ended} sessions ended, {stopped} statements stopped");
    assert!(grants >= 25 && ended >= 5 && stopped >= 5, "too little to tell");
    let mut psql = server.psql().await;
    assert_eq!(psql.one::<i64>("SELECT count(*) FROM locks.held").await, 0, "left held");
    assert_eq!(psql.one::<i64>("SELECT count(*) FROM locks.waiting").await, 0, "left in line");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(psql.one::<i64>(deadlocks).await, 0);
}
