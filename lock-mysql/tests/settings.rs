//! Whatever the server sets for sessions and allows a user: it works, or is refused with what to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::process::Command;
use std::sync::Arc;

use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

/// What the server is told, and how to take it back; some at a time that do not get in each other's way.
const SETTINGS: [&[&str]; 3] = [
    &[
        "autocommit = 0",
        "character_set_server = latin1",
        "collation_connection = latin1_german1_ci",
        "explicit_defaults_for_timestamp = 0",
        "group_concat_max_len = 4",
        "default_storage_engine = MyISAM",
        "sql_auto_is_null = 1",
        "transaction_isolation = 'SERIALIZABLE'",
        "tx_isolation = 'SERIALIZABLE'",
        "time_zone = 'Europe/Berlin'",
        "foreign_key_checks = 0",
        "sql_notes = 0",
        "innodb_rollback_on_timeout = 1",
        "query_cache_type = 1",
    ],
    &[
        "character_set_server = utf8mb3",
        "wait_timeout = 1",
        "interactive_timeout = 1",
        "net_read_timeout = 1",
        "net_write_timeout = 1",
        "default_week_format = 7",
        "lc_time_names = 'de_DE'",
        "sql_require_primary_key = 1",
        "div_precision_increment = 0",
        "sql_mode = 'HIGH_NOT_PRECEDENCE,IGNORE_SPACE,REAL_AS_FLOAT,NO_UNSIGNED_SUBTRACTION'",
        "innodb_snapshot_isolation = 1",
        "innodb_deadlock_detect = 0",
    ],
    // Those of a user whom the settings above do not spare.
    &["init_connect = 'SET autocommit = 0, sql_mode = \"ANSI\", time_zone = \"+08:00\", \
       character_set_client = latin1, sql_select_limit = 1, completion_type = 2; \
       SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY'"],
];

/// The settings of a server are those of all tests that use it.
static SERVER: Mutex<()> = Mutex::const_new(());

/// A user with no more than the documents list, who has made the tables; returns its URL.
async fn least(cli: &mut Cli, url: &str, name: &str, with: &str) -> String {
    connect(url).await.unwrap();
    let database = url.rsplit('/').next().unwrap();
    cli.run(&format!("CREATE USER {name}@'%' IDENTIFIED BY 's3cret' {with}")).await.unwrap();
    for grant in include_str!("../src/docs.md").lines().filter(|line| line.starts_with("GRANT ")) {
        let grant = grant
            .replace("shop.", &format!("{database}."))
            .replace(" app;", &format!(" {name}@'%'"));
        cli.run(&grant).await.unwrap();
    }
    url.replace("root@", &format!("{name}:s3cret@"))
}

async fn all_works(url: &str, what: &str) {
    let (one, two) = (connect(url).await.unwrap(), connect(url).await.unwrap());
    let key = "a\\ 'b' \"é🔒\" %_ ";
    let mut last = 0;
    for mode in ["exclusive", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap()).ttl(ms(900));
        let held = one.lock(key, &options).await.unwrap();
        assert!(held.fence().get() > last, "{what}, {mode}: {} after {last}", held.fence());
        last = held.fence().get();
        // A key that differs in a space at its end, or in a letter's case, is another one.
        two.lock(key.trim_end(), &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        two.lock(&key.to_uppercase(), &LockOptions::new()).await.unwrap().unlock().await.unwrap();
        let (locks, wait) = (two.clone(), LockOptions::new().fair().wait(ms(20_000)));
        let waiting = tokio::spawn(async move { locks.lock(key, &wait).await });
        tokio::time::sleep(ms(1_000)).await;
        assert!(held.is_valid(), "{what}, {mode}: it is kept");
        assert_eq!(two.list("a\\").await.unwrap().len(), 1, "{what}, {mode}");
        held.unlock().await.unwrap();
        waiting.await.unwrap().unwrap().unlock().await.unwrap();
    }
    let held = one.lock("forced", &LockOptions::new().ttl(ms(900))).await.unwrap();
    two.force_unlock("forced", Eviction::LockOnly).await.unwrap();
    tokio::time::timeout(ms(3_000), held.lost()).await.unwrap();
    two.cleanup_expired().await.unwrap();
}

/// Tells the server some zones by name.
fn load_zones(server: &Server) {
    let load = format!(
        "mariadb-tzinfo-to-sql /usr/share/zoneinfo/Europe/Berlin Europe/Berlin | \
         mariadb --no-defaults -uroot -S {} mysql",
        server.folder().join("sock").display()
    );
    assert!(Command::new("sh").args(["-c", &load]).status().unwrap().success());
}

#[tokio::test]
async fn nothing_that_a_server_sets_changes_anything() {
    let _alone = SERVER.lock().await;
    let server = Server::start(&[]);
    load_zones(&server);
    for (at, url) in both(&server).await.iter().enumerate() {
        let mut cli = Cli::connect(url).await;
        let name = format!("least_{}_{at}", std::process::id());
        let user = least(&mut cli, url, &name, "").await;
        for (number, settings) in SETTINGS.iter().enumerate() {
            let mut set = Vec::new();
            for setting in *settings {
                let name = setting.split(' ').next().unwrap();
                // MySQL and MariaDB have different ones.
                match cli.run(&format!("SET GLOBAL {setting}")).await {
                    Ok(_) => set.push(name),
                    Err(error) => eprintln!("not run on {url}: {setting}: {error}"),
                }
            }
            all_works(&user, &format!("{url}, {number}")).await;
            for name in set {
                cli.run(&format!("SET GLOBAL {name} = DEFAULT")).await.unwrap();
            }
        }
        cli.run(&format!("DROP USER {name}@'%'")).await.unwrap();
    }
}

#[tokio::test]
async fn names_in_small_letters_are_found() {
    let server = Server::start(&["--lower-case-table-names=1"]);
    let url = format!("{}?table=My_Locks", server.url());
    for _ in 0..2 {
        let locks = connect(&url).await.unwrap();
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_have_few_connections() {
    let _alone = SERVER.lock().await;
    let server = Server::start(&[]);
    for (at, url) in both(&server).await.iter().enumerate() {
        let mut cli = Cli::connect(url).await;
        for allowed in 1..=3 {
            let name = format!("few_{}_{at}_{allowed}", std::process::id());
            let with = format!("WITH MAX_USER_CONNECTIONS {allowed}");
            let locks = connect(&least(&mut cli, url, &name, &with).await).await.unwrap();
            let kept = locks.lock("kept", &LockOptions::new().ttl(ms(900))).await.unwrap();
            // None of them is to hear of it, although they have no patience.
            let mut all = JoinSet::new();
            (0..16).for_each(|n| drop(all.spawn(try_often(locks.clone(), n))));
            while let Some(one) = all.join_next().await {
                one.unwrap();
            }
            assert!(kept.is_valid(), "{allowed}");
            kept.unlock().await.unwrap();
            let error = match allowed {
                1 => connect(&url.replace("root@", &format!("{name}:s3cret@"))).await.err(),
                _ => None,
            };
            assert!(
                error.is_none_or(|it| it.is_retryable() && it.to_string().contains("connections"))
            );
            drop(locks);
            cli.run(&format!("DROP USER {name}@'%'")).await.unwrap();
        }
    }
}

async fn try_often(locks: Arc<dyn LockProvider>, number: usize) {
    for _ in 0..50 {
        let tried = locks.try_lock(&format!("own {number}"), &LockOptions::new()).await;
        tried.unwrap().acquired().unwrap().unlock().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_of_small_messages_is_refused() {
    let server = Server::start(&[]);
    let mut cli = Cli::connect(&server.url()).await;
    cli.run("SET GLOBAL max_allowed_packet = 65536").await.unwrap();
    let error = connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("max_allowed_packet"), "{error}");
}
