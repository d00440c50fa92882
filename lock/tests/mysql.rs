//! What users see over a real MariaDB: the manual's words, and the configuration of services that lock in their database.

#![cfg(feature = "mysql")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

#[path = "../../lock-mysql/tests/servers/mod.rs"]
mod servers;
mod words;

use std::time::Duration;

use conformance_tests::free_port;
use lock::Config;
use lock::LockOptions;
use lock::TryLock;

use crate::servers::Cli;
use crate::servers::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_refused_in_the_manual_s_words() {
    let server = Server::start(&[]);
    let mut cli = Cli::connect(&server.url()).await;
    for sql in [
        "CREATE USER ann@'%' IDENTIFIED BY 's3cret'",
        "GRANT SELECT ON locks.* TO ann@'%'",
        "CREATE TABLE locks.other (id INT PRIMARY KEY)",
    ] {
        cli.run(sql).await.unwrap();
    }
    let logging = Server::start(&["--log-bin=log", "--binlog-format=STATEMENT"]);
    let read_only = Server::start(&["--read-only=1"]);
    let port = |name: &str| match name {
        "none" => free_port(),
        "any" => server.port,
        "that logs statements" => logging.port,
        "that is read-only" => read_only.port,
        _ => panic!("the test does not know {name}"),
    };
    words::check("| MySQL server |", |name| (port(name), ())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_s_configuration_names_table_ttl_and_retries() {
    let server = Server::start(&[]);
    let text = format!(
        "url: {}\ndefault_ttl: 10m\ndefault_retry_count: 2\ndefault_retry_delay: 50ms\n\
         mysql:\n  table_name: my_custom_locks",
        server.url()
    );
    let locks = Config::parse(&text, "yaml").unwrap().connect().await.unwrap();
    let guard = locks.lock("workflow_execution:1", &LockOptions::new()).await.unwrap();
    assert_eq!(guard.ttl(), Duration::from_secs(600));
    let mut cli = Cli::connect(&server.url()).await;
    let keys = cli.rows("SELECT lock_key FROM my_custom_locks").await;
    assert_eq!(keys, [["workflow_execution:1"]]);
    let begin = std::time::Instant::now();
    let other = lock::connect(&format!("{}?table=my_custom_locks", server.url())).await.unwrap();
    assert!(matches!(
        other.try_lock("workflow_execution:1", &LockOptions::new()).await.unwrap(),
        TryLock::Held(_)
    ));
    let variables = [
        ("LOCK_URL", server.url()),
        ("LOCK_MYSQL_TABLE_NAME", "my_custom_locks".to_owned()),
        ("LOCK_MYSQL_SSL_MODE", "disabled".to_owned()),
        ("LOCK_DEFAULT_RETRY_COUNT", "2".to_owned()),
        ("LOCK_DEFAULT_RETRY_DELAY", "50ms".to_owned()),
    ];
    let third = Config::from_vars(variables).unwrap().connect().await.unwrap();
    let error = third.lock("workflow_execution:1", &LockOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), lock::ErrorKind::Timeout);
    assert!(begin.elapsed() >= Duration::from_millis(100), "two pauses of 50 ms");
    guard.unlock().await.unwrap();
}
