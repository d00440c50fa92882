//! Eight real processes on one name at full rate, beside cleanups and while connections and statements are killed:
//! this program starts itself again as [`child`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use conformance_tests::Outcome;
use conformance_tests::rush;
use conformance_tests::rush::Rush;
use lock_core::ConnectUrl;
use lock_mysql::DRIVER;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

/// As a test of its own it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn child() -> Outcome {
    rush::child(async |url: &str| DRIVER.open(ConnectUrl::parse(url)?).await).await
}

/// Kills statements and connections that are acquiring, by turns; returns how many.
async fn disturb(url: &str, rush: &Rush) -> u64 {
    let (mut cli, mut kills) = (Cli::connect(url).await, 0);
    let busy = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
                AND db = DATABASE() AND info LIKE '%distributed_locks%' ORDER BY RAND() LIMIT 1";
    while rush.lasts() {
        for row in cli.rows(busy).await {
            let what = if kills % 2 == 0 { "QUERY" } else { "CONNECTION" };
            kills += u64::from(cli.run(&format!("KILL {what} {}", row[0])).await.is_ok());
        }
        // Somebody has to get through.
        tokio::time::sleep(ms(100 + kills % 8)).await;
    }
    kills
}

/// Nobody holds beside another, fences rise in the order of the grants, no deadlock reaches a caller, and
/// nothing is left held.
#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_on_one_name_exclude_each_other_while_connections_end() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let cleaner = connect(&url).await.unwrap();
        let rush = Rush::start(&url).unwrap();
        let (cleaned, kills) = tokio::join!(rush.clean(&*cleaner), disturb(&url, &rush));
        cleaned.unwrap();
        let grants = rush.judge().unwrap();
        println!("{url}: {grants} grants, {kills} kills");
        assert!(grants >= 10 && kills >= 5, "{url}: too little to tell");
        let left = "SELECT COUNT(*) FROM distributed_locks \
                    WHERE expires_at > NOW(6) OR line_until > NOW(6)";
        assert_eq!(Cli::connect(&url).await.one(left).await, "0", "left held or in line");
    }
}
