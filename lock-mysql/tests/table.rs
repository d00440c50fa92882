//! The table as its operators see it: made, refused, read and cleaned by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::Mode;
use lock_mysql::DRIVER;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;
use crate::servers::without_found_rows;

/// As the workflow runner's document prints them.
const INDEXES: [&str; 2] = [
    "CREATE INDEX idx_lock_key ON distributed_locks(lock_key)",
    "CREATE INDEX idx_expires_at ON distributed_locks(expires_at)",
];
const CLEAN: &str = "DELETE FROM distributed_locks WHERE expires_at < NOW()";
const SHOW: &str =
    "SELECT lock_key, owner, expires_at FROM distributed_locks WHERE lock_key LIKE 'workflow_%'";

const ZONES: [&str; 4] = ["+00:00", "+08:00", "-11:00", "SYSTEM"];

#[tokio::test]
async fn the_documents_statements_work_as_printed_from_any_time_zone() {
    let server = Server::start(&["--default-time-zone=+05:30"]);
    for url in both(&server).await {
        let mut cli = Cli::connect(&url).await;
        let locks = connect(&url).await.unwrap();
        let held = locks
            .lock("workflow_execution:work_123", &LockOptions::new().owner("replica-1"))
            .await
            .unwrap();
        for index in INDEXES {
            cli.run(index).await.unwrap();
        }
        for zone in ZONES {
            cli.run(&format!("SET time_zone = '{zone}'")).await.unwrap();
            let brief = LockOptions::new().ttl(ms(100));
            locks.lock("workflow_dead", &brief).await.unwrap().into_handle().unwrap();
            tokio::time::sleep(ms(1_200)).await;
            assert_eq!(cli.run(CLEAN).await.unwrap(), 1, "{zone}: the dead one and no other");
            let shown = cli.rows(SHOW).await;
            assert_eq!(shown.len(), 1, "{zone}: {shown:?}");
            assert_eq!(shown[0][..2], ["workflow_execution:work_123", "replica-1"], "{zone}");
            let left = "SELECT TIMESTAMPDIFF(SECOND, NOW(), expires_at) FROM distributed_locks \
                        WHERE owner = 'replica-1'";
            let left: i64 = cli.one(left).await.parse().unwrap();
            assert!((15..=30).contains(&left), "{zone}: {left} s left");
        }
        // The indexes change nothing, neither for those who have the table open nor for others.
        assert!(held.is_valid());
        let other = connect(&url).await.unwrap();
        assert!(
            other.try_lock(held.key(), &LockOptions::new()).await.unwrap().acquired().is_none()
        );
        held.unlock().await.unwrap();
        let again = other.lock("workflow_execution:work_123", &LockOptions::new()).await;
        again.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test]
async fn no_mode_of_the_server_changes_anything() {
    let server = Server::start(&[]);
    let maria = [
        "ORACLE",
        "SIMULTANEOUS_ASSIGNMENT",
        "EMPTY_STRING_IS_NULL",
        "ANSI,NO_BACKSLASH_ESCAPES",
        "PAD_CHAR_TO_FULL_LENGTH,TIME_ROUND_FRACTIONAL",
        "TRADITIONAL",
        "",
    ];
    let mysql = ["ANSI,NO_BACKSLASH_ESCAPES", "PAD_CHAR_TO_FULL_LENGTH", "TRADITIONAL", ""];
    for (at, url) in both(&server).await.iter().enumerate() {
        let mut cli = Cli::connect(url).await;
        let before = cli.one("SELECT @@GLOBAL.sql_mode").await;
        for (number, mode) in (if at == 0 { &maria[..] } else { &mysql[..] }).iter().enumerate() {
            let zone = ZONES[number % ZONES.len()];
            let set = format!("SET GLOBAL sql_mode = '{mode}', GLOBAL time_zone = '{zone}'");
            cli.run(&set).await.unwrap();
            all_modes_work(url, &format!("mode:{number}"), mode).await;
        }
        let restore = format!("SET GLOBAL sql_mode = '{before}', GLOBAL time_zone = 'SYSTEM'");
        cli.run(&restore).await.unwrap();
    }
}

#[tokio::test]
async fn it_works_whatever_else_the_server_sets_for_sessions() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let mut cli = Cli::connect(&url).await;
        let settings = "SET GLOBAL completion_type = 'CHAIN', GLOBAL sql_select_limit = 1, \
                        GLOBAL max_join_size = 1, GLOBAL sql_big_selects = 0";
        cli.run(settings).await.unwrap();
        cli.run("SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY").await.unwrap();
        all_modes_work(&url, "set", settings).await;
        let defaults = "SET GLOBAL completion_type = DEFAULT, GLOBAL sql_select_limit = DEFAULT, \
                        GLOBAL max_join_size = DEFAULT, GLOBAL sql_big_selects = DEFAULT";
        cli.run(defaults).await.unwrap();
        let usual = "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE";
        cli.run(usual).await.unwrap();
    }
}

async fn all_modes_work(url: &str, key: &str, what: &str) {
    let (one, two) = (connect(url).await.unwrap(), connect(url).await.unwrap());
    let mut last = 0;
    for mode in ["exclusive", "shared", "permits:2", "exclusive"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap()).ttl(ms(900));
        let held = one.lock(key, &options).await.unwrap();
        assert!(held.fence().get() > last, "{what}, {mode}: {} after {last}", held.fence());
        last = held.fence().get();
        let refused = two.try_lock(key, &LockOptions::new()).await.unwrap();
        assert!(refused.acquired().is_none(), "{what}, {mode}");
        tokio::time::sleep(ms(1_100)).await;
        assert!(held.is_valid(), "{what}, {mode}: it is kept");
        held.unlock().await.unwrap();
    }
}

/// The driver always asks for matched rows; another client of the same table may not.
#[tokio::test]
async fn it_makes_no_difference_whether_matched_or_changed_rows_are_counted() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let through = without_found_rows(&url).await;
        let mut other = Cli::connect(&through).await;
        other.run("CREATE TABLE flag (a INT)").await.unwrap();
        other.run("INSERT INTO flag VALUES (1)").await.unwrap();
        assert_eq!(other.run("UPDATE flag SET a = 1").await.unwrap(), 0, "the flag is off");
        all_modes_work(&through, "flag", "changed rows").await;
    }
}

#[tokio::test]
async fn a_table_of_another_shape_is_refused_with_what_to_do() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let mut cli = Cli::connect(&url).await;
        let ddl = DRIVER.schema;
        let named = |table: &str| format!("{url}?table={table}");
        let good = ddl(&ConnectUrl::parse(&named("odd")).unwrap()).unwrap().unwrap();
        let locks = good.split(";\n").next().unwrap().to_owned();
        let spoilt = [
            "CREATE TABLE odd (id INT PRIMARY KEY)".to_owned(),
            locks.replace("TIMESTAMP(6) NULL DEFAULT NULL,\n  line", "DATETIME(6) NULL,\n  line"),
            locks.replace("TIMESTAMP(6)", "TIMESTAMP"),
            locks.replace("0900_bin", "bin").replace("nopad_bin", "bin"),
            locks.replace("PRIMARY KEY (lock_key)", "PRIMARY KEY (lock_key), UNIQUE (fence)"),
            locks.replace("PRIMARY KEY (lock_key)", "UNIQUE (fence)"),
            "CREATE VIEW odd AS SELECT * FROM distributed_locks".to_owned(),
        ];
        connect(&url).await.unwrap();
        for create in spoilt {
            assert_ne!(create, locks, "it has to differ");
            cli.run(&create).await.unwrap();
            let error = connect(&named("odd")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{create}: {error}");
            let text = error.to_string();
            assert!(text.contains("lockctl schema") && text.contains("?table="), "{text}");
            let what = if create.contains("VIEW") { "VIEW" } else { "TABLE" };
            cli.run(&format!("DROP {what} odd")).await.unwrap();
        }
        cli.run(&good).await.unwrap();
        let locks = connect(&named("odd")).await.unwrap();
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        assert_eq!(cli.one("SELECT COUNT(*) FROM odd").await, "1");
        cli.run("DROP TABLE odd, odd_claims").await.unwrap();
    }
}

#[tokio::test]
async fn a_delete_by_hand_ends_a_lock_for_its_holder() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let mut cli = Cli::connect(&url).await;
        let (one, two) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
        for mode in ["exclusive", "shared", "permits:2"] {
            let options = LockOptions::new().ttl(ms(900)).mode(mode.parse::<Mode>().unwrap());
            let lost = one.lock("hand:a", &options).await.unwrap();
            cli.run("DELETE FROM distributed_locks WHERE lock_key = 'hand:a'").await.unwrap();
            let held = two.lock("hand:a", &LockOptions::new()).await.unwrap();
            assert!(held.fence() > lost.fence(), "{mode}");
            tokio::time::timeout(Duration::from_secs(2), lost.lost()).await.unwrap();
            assert_eq!(lost.unlock().await.unwrap_err().kind(), ErrorKind::Lost, "{mode}");
            assert!(held.is_valid(), "{mode}");
            held.unlock().await.unwrap();
        }
    }
}

#[tokio::test]
async fn readers_and_permits_keep_a_plain_statement_out_and_show_themselves() {
    let server = Server::start(&[]);
    let taken = "SELECT COUNT(*) FROM distributed_locks WHERE lock_key = 'plain:a' \
                 AND expires_at > NOW(6)";
    for url in both(&server).await {
        let (locks, mut cli) = (connect(&url).await.unwrap(), Cli::connect(&url).await);
        for mode in ["shared", "permits:2"] {
            let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap()).owner("reader");
            let first = locks.lock("plain:a", &options).await.unwrap();
            let second = locks.lock("plain:a", &options.clone().owner("other")).await.unwrap();
            first.unlock().await.unwrap();
            assert_eq!(cli.one(taken).await, "1", "{mode}");
            let owner = "SELECT owner FROM distributed_locks WHERE lock_key = 'plain:a'";
            assert_eq!(cli.one(owner).await, "other", "{mode}");
            second.unlock().await.unwrap();
            assert_eq!(cli.one(taken).await, "0", "{mode}");
        }
    }
}

#[tokio::test]
async fn what_the_dead_leave_is_counted_once_and_the_fence_goes_on() {
    let server = Server::start(&[]);
    let locks = connect(&server.url()).await.unwrap();
    let mut cli = Cli::connect(&server.url()).await;
    let brief = LockOptions::new().ttl(ms(100));
    let mut fence = None;
    for number in 0..3 {
        let guard = locks.lock(&format!("dead:{number}"), &brief).await.unwrap();
        fence = Some(guard.fence());
        guard.into_handle().unwrap();
    }
    let kept = locks.lock("alive", &LockOptions::new()).await.unwrap();
    tokio::time::sleep(ms(300)).await;
    assert_eq!(locks.cleanup_expired().await.unwrap(), 3);
    assert_eq!(locks.cleanup_expired().await.unwrap(), 0);
    // Once their fences are old, the rows go as well.
    cli.run("UPDATE distributed_locks SET fence = fence - 20000000 WHERE lock_key LIKE 'dead:%'")
        .await
        .unwrap();
    assert_eq!(locks.cleanup_expired().await.unwrap(), 3);
    assert_eq!(cli.one("SELECT COUNT(*) FROM distributed_locks").await, "1");
    let again = locks.lock("dead:2", &LockOptions::new()).await.unwrap();
    assert!(Some(again.fence()) > fence && kept.is_valid());
}

#[tokio::test]
async fn a_spoilt_row_is_named_by_a_list_passed_over_by_a_cleanup_and_cleared_by_force() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let (mut cli, locks) = (Cli::connect(&url).await, connect(&url).await.unwrap());
        for spoilt in ["token = 'x'", "mode = 'x'", "fence = -1"] {
            let _held = locks.lock("spoilt", &LockOptions::new()).await.unwrap();
            locks.lock("freed", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
            // A purge leaves what the clock has not passed by far.
            let old = "UPDATE distributed_locks SET fence = 1 WHERE lock_key = 'freed'";
            cli.run(old).await.unwrap();
            let spoil = format!("UPDATE distributed_locks SET {spoilt} WHERE lock_key = 'spoilt'");
            cli.run(&spoil).await.unwrap();
            let error = locks.list("").await.unwrap_err();
            let named = (error.kind(), error.key());
            assert_eq!(named, (ErrorKind::Corrupt, Some("spoilt")), "{spoilt}: {error}");
            assert!(locks.cleanup_expired().await.unwrap() > 0, "{spoilt}");
            let left = "SELECT COUNT(*) FROM distributed_locks WHERE lock_key = 'freed'";
            assert_eq!(cli.one(left).await, "0", "{spoilt}");
            locks.force_unlock("spoilt", Eviction::LockOnly).await.unwrap();
            assert_eq!(locks.list("").await.unwrap().len(), 0, "{spoilt}");
            cli.run("DELETE FROM distributed_locks WHERE lock_key = 'spoilt'").await.unwrap();
        }
    }
}
