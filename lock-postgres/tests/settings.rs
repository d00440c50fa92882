//! Whatever the server, the database or the role sets for sessions: it works, or is refused with what to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_postgres::DRIVER;
use tokio::time::timeout;

use crate::servers::Psql;
use crate::servers::Server;

/// A row each: what `ALTER ROLE app SET` gets, some at a time that do not get in each other's way.
const ROLE: [&[&str]; 5] = [
    &[
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "search_path = ''",
        "standard_conforming_strings = off",
        "backslash_quote = off",
        "client_min_messages = 'debug5'",
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'German'",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
        "client_encoding = 'LATIN1'",
        "quote_all_identifiers = on",
        "transform_null_equals = on",
        "array_nulls = off",
        "xmloption = 'document'",
        "log_statement = 'all'",
        "exit_on_error = on",
    ],
    &[
        "statement_timeout = '50ms'",
        "lock_timeout = '1ms'",
        "idle_session_timeout = '300ms'",
        "idle_in_transaction_session_timeout = '100ms'",
        "search_path = 'nowhere, \"$user\"'",
        "session_replication_role = 'replica'",
        "row_security = off",
        "synchronous_commit = 'remote_apply'",
    ],
    &[
        "enable_indexscan = off",
        "enable_bitmapscan = off",
        "enable_seqscan = off",
        "plan_cache_mode = 'force_custom_plan'",
        "jit_above_cost = 0",
        "from_collapse_limit = 1",
        "join_collapse_limit = 1",
        "work_mem = '64kB'",
        "max_parallel_workers_per_gather = 8",
        "parallel_setup_cost = 0",
        "parallel_tuple_cost = 0",
        "min_parallel_table_scan_size = 0",
        "search_path = 'evil, pg_catalog'",
    ],
    // Postgres 15 calls the first by another name than later ones, and does not know the second.
    &["force_parallel_mode = 'on'", "debug_parallel_query = 'on'"],
    &["transaction_timeout = '60ms'"],
];

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Returns the URL of another role or database of the server.
fn url_of(server: &Server, role: &str, database: &str) -> String {
    format!("postgres://{role}@127.0.0.1:{}/{database}", server.port)
}

/// Locks in each mode from two clients, waits, is kept, is taken away, lists and cleans up.
async fn all_works(url: &str, what: &str) {
    let (one, two) = (connect(url).await.unwrap(), connect(url).await.unwrap());
    let mut last = 0;
    for mode in ["exclusive", "permits:2"] {
        let options = LockOptions::new().mode(mode.parse::<Mode>().unwrap()).ttl(secs(1));
        let held = one.lock("a\\ 'b' \"é🔒\" %", &options).await.unwrap();
        assert!(held.fence().get() > last, "{what}, {mode}: {} after {last}", held.fence());
        last = held.fence().get();
        let refused = two.try_lock(held.key(), &LockOptions::new()).await.unwrap();
        assert!(refused.acquired().is_none(), "{what}, {mode}");
        let (locks, wait) = (two.clone(), LockOptions::new().fair().wait(secs(20)));
        let key = held.key().to_owned();
        let waiting = tokio::spawn(async move { locks.lock(&key, &wait).await });
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(held.is_valid(), "{what}, {mode}: it is kept");
        assert_eq!(two.list("a").await.unwrap().len(), 1, "{what}, {mode}");
        held.unlock().await.unwrap();
        waiting.await.unwrap().unwrap().unlock().await.unwrap();
    }
    let held = one.lock("forced", &LockOptions::new()).await.unwrap();
    two.force_unlock("forced", Eviction::LockOnly).await.unwrap();
    timeout(secs(5), held.lost()).await.unwrap();
    two.cleanup_expired().await.unwrap();
}

async fn make_role(psql: &mut Psql, role: &str) {
    psql.run(&format!("CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE postgres TO {role}"))
        .await;
}

#[tokio::test]
async fn nothing_that_a_role_sets_changes_anything() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    psql.run(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
         CREATE FUNCTION evil.pg_try_advisory_lock(bigint) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION evil.hashtextextended(text, int) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
         CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    .await;
    let mut tried = Vec::new();
    for (number, settings) in ROLE.iter().enumerate() {
        let role = format!("role{number}");
        make_role(&mut psql, &role).await;
        for setting in *settings {
            let name = setting.split(' ').next().unwrap();
            let known = format!("SELECT current_setting('{name}', true) IS NOT NULL");
            if psql.one::<bool>(&known).await {
                psql.run(&format!("ALTER ROLE {role} SET {setting}")).await;
            } else {
                eprintln!("not run: {setting}, which this server does not know");
            }
        }
        let url = format!("{}?schema={role}_locks", url_of(&server, &role, "postgres"));
        tried.push(tokio::spawn(async move { all_works(&url, &role).await }));
    }
    for role in tried {
        role.await.unwrap();
    }
}

#[tokio::test]
async fn what_keeps_bytes_will_do_and_an_encoding_that_lacks_letters_is_refused() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    for (name, encoding) in [("bytes", "SQL_ASCII"), ("latin", "LATIN1")] {
        let create =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        psql.run(&create).await;
    }
    let error = connect(&url_of(&server, "postgres", "latin")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("LATIN1") && error.to_string().contains("UTF8"), "{error}");
    all_works(&url_of(&server, "postgres", "bytes"), "bytes").await;
}

#[tokio::test]
async fn rows_that_are_hidden_from_a_role_are_refused() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    connect(&server.url()).await.unwrap();
    psql.run("CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA locks TO app").await;
    psql.run("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA locks TO app").await;
    psql.run("ALTER TABLE locks.claims ENABLE ROW LEVEL SECURITY").await;
    psql.run("CREATE POLICY own ON locks.claims USING (owner LIKE current_user || '%')").await;
    let app = url_of(&server, "app", "postgres");
    let error = connect(&app).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("BYPASSRLS"), "{error}");
    // Whoever owns the tables, and a superuser, sees all.
    connect(&server.url()).await.unwrap();
    psql.run("ALTER TABLE locks.claims DISABLE ROW LEVEL SECURITY").await;
    connect(&app).await.unwrap();
}

#[tokio::test]
async fn a_role_with_too_few_connections_is_told() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    make_role(&mut psql, "app").await;
    let app = url_of(&server, "app", "postgres");
    psql.run("ALTER ROLE app CONNECTION LIMIT 1").await;
    let error = connect(&format!("{app}?connect_timeout=1s")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("a client needs two"), "{error}");
    psql.run("ALTER ROLE app CONNECTION LIMIT 3").await;
    let connected = async {
        loop {
            // Those that were refused may be a moment in going.
            match connect(&app).await {
                Ok(locks) => return locks,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
    };
    let locks = timeout(secs(10), connected).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
}
