//! Servers and users that cannot keep the promise are refused with what to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::path::Path;
use std::path::PathBuf;

use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::certificate;
use crate::servers::connect;
use crate::servers::ms;

#[tokio::test]
async fn a_server_that_is_read_only_or_logs_statements() {
    let server = Server::start(&[]);
    let mut cli = Cli::connect(&server.url()).await;
    for (set, back, kind, hint) in [
        ("read_only = 1", "read_only = 0", ErrorKind::Unavailable, "primary"),
        ("binlog_format = 'STATEMENT'", "binlog_format = 'ROW'", ErrorKind::Config, "ROW"),
    ] {
        cli.run(&format!("SET GLOBAL {set}")).await.unwrap();
        let error = connect(&server.url()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{set}: {error}");
        assert!(error.to_string().contains(hint), "{error}");
        cli.run(&format!("SET GLOBAL {back}")).await.unwrap();
        connect(&server.url()).await.unwrap();
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_with_several_writers() {
    const GALERA: &str = "/usr/lib/galera/libgalera_smm.so";
    if !Path::new(GALERA).exists() {
        eprintln!("not run: a node of a Galera cluster, as {GALERA} is not there");
        return;
    }
    let provider = format!("--wsrep-provider={GALERA}");
    let server = Server::start(&[
        "--wsrep-on=ON",
        &provider,
        "--wsrep-cluster-address=gcomm://",
        "--wsrep-new-cluster",
        "--binlog-format=ROW",
        "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:0",
    ]);
    let error = connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("unsafe_cluster=allow"), "{error}");
    let url = format!("{}?unsafe_cluster=allow", server.url());
    let locks = connect(&url).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_or_too_few_rights_and_nothing_secret_is_shown() {
    let server = Server::start(&[]);
    let mut cli = Cli::connect(&server.url()).await;
    cli.run("CREATE USER ann@'127.0.0.1' IDENTIFIED BY 's3cret'").await.unwrap();
    let url = |password: &str, database: &str| {
        format!("mariadb://ann:{password}@127.0.0.1:{}/{database}", server.port)
    };
    let wrong = connect(&url("hunter2", "locks")).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Config, "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("hunter2"), "{wrong:?}");
    cli.run("GRANT SELECT, INSERT, UPDATE, DELETE ON locks.* TO ann@'127.0.0.1'").await.unwrap();
    let poor = connect(&url("s3cret", "locks")).await.unwrap_err();
    assert_eq!(poor.kind(), ErrorKind::Config, "{poor}");
    assert!(poor.to_string().contains("grants"), "{poor}");
    // Once somebody else has made the tables, what the documents list is enough.
    connect(&server.url()).await.unwrap();
    cli.run("REVOKE ALL PRIVILEGES, GRANT OPTION FROM ann@'127.0.0.1'").await.unwrap();
    for grant in include_str!("../src/docs.md").lines().filter(|line| line.starts_with("GRANT ")) {
        let grant = grant.replace("shop.", "locks.").replace(" app;", " ann@'127.0.0.1'");
        cli.run(&grant).await.unwrap();
    }
    let locks = connect(&url("s3cret", "locks")).await.unwrap();
    for mode in ["exclusive", "shared", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse().unwrap()).fair().wait(ms(5_000));
        let held = locks.lock("a", &options).await.unwrap();
        assert!(locks.status("a").await.unwrap().is_locked());
        locks.force_unlock("a", Eviction::LockOnly).await.unwrap();
        drop(held);
    }
    locks.list("").await.unwrap();
    locks.cleanup_expired().await.unwrap();
    assert!(!format!("{locks:?}").contains("s3cret"));
    let none = connect(&url("s3cret", "nowhere")).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config, "{none}");
}

#[tokio::test]
async fn encryption_is_used_where_it_is_asked_for() {
    let server = Server::start(&["--skip-ssl"]);
    let plain = connect(&format!("{}?ssl-mode=required", server.url())).await.unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::Config, "{plain}");
    let Ok(mysql) = std::env::var("LOCK_TEST_MYSQL9_URL") else {
        eprintln!("not run: encryption, as LOCK_TEST_MYSQL9_URL names no server");
        return;
    };
    let mysql = mysql.split('?').next().unwrap();
    // MySQL makes certificates of its own, which no system trusts.
    let locks = connect(&format!("{mysql}?ssl-mode=REQUIRED")).await.unwrap();
    locks.lock("tls:a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    let error = connect(&format!("{mysql}?ssl-mode=verify_identity")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let mut cli = Cli::connect(mysql).await;
    let user = format!("ann{}", std::process::id());
    cli.run(&format!("CREATE USER {user} IDENTIFIED BY 's3cret'")).await.unwrap();
    cli.run(&format!("GRANT ALL ON *.* TO {user}")).await.unwrap();
    let own = mysql.replace("root@", &format!("{user}:s3cret@"));
    // Its password is sent encrypted or not at all.
    let error = connect(&format!("{own}?ssl-mode=disabled")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    connect(&own).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_checked_where_that_is_asked_for() {
    let folder = folder();
    let (certificate, key) = certificate(&folder);
    let server = Server::start(&[
        &format!("--ssl-cert={certificate}"),
        &format!("--ssl-key={key}"),
        "--require-secure-transport=ON",
    ]);
    let url = |query: &str| format!("{}?{query}", server.url());
    let full = format!("ssl-mode=verify_identity&ssl-ca={certificate}");
    for query in ["ssl-mode=required", &full] {
        let locks = connect(&url(query)).await.unwrap();
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    }
    // Nobody else vouches for it, and it is not for another name.
    let other = url(&full).replace("127.0.0.1", "localhost");
    for refused in [url("ssl-mode=verify_identity"), other, url("ssl-mode=disabled")] {
        let error = connect(&refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{refused}: {error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lock-mysql-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
