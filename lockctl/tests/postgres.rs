//! The command line over Postgres.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;
#[path = "../../lock-postgres/tests/servers/mod.rs"]
mod servers;

use std::time::Duration;

use common::Place;
use common::any_store;
use common::any_store::Store;
use common::any_store::says;

use crate::servers::Pooler;
use crate::servers::Server;

#[test]
fn it_does_what_it_does_over_any_store() {
    let server = Server::start(&["max_connections=300"]);
    any_store::check(Store {
        url: &server.url(),
        name: "postgres",
        session: true,
        schema: true,
        ttl: "1s",
        // The server sees the connection close.
        freed: Duration::from_secs(3),
    });
}

#[test]
fn when_the_server_dies_the_job_is_stopped_and_it_is_76() {
    let mut server = Server::start(&[]);
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.kill());
    says(&place, &["run", "k", "--", "true"], 69, "nobody listens there");
}

#[test]
fn what_is_wrong_with_a_url_or_a_role_is_said() {
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut psql = server.psql().await;
        psql.run("CREATE ROLE ann LOGIN PASSWORD 's3cret'").await;
        server.demand_passwords();
        psql.run("SELECT pg_reload_conf()").await;
    });
    let pooler = Pooler::start(&server, "transaction");
    let at =
        |user: &str, database: &str| format!("postgres://{user}@{}/{database}", server.address());
    let place = Place::new();
    let says = |url: &str, code, sentence| says(&place, &["--url", url, "list"], code, sentence);
    says(&at("ann:wrong", "postgres"), 78, "password");
    says(&at("postgres", "nowhere"), 78, "nowhere");
    says(&at("ann:s3cret", "postgres"), 78, "lockctl schema");
    says(&pooler.url(), 78, "pool_mode=session");
    any_store::hides_the_password(&at("postgres:s3cret", "postgres"), &at("postgres", "postgres"));
}
