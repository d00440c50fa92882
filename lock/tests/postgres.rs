//! What users see over real servers of Postgres: the manual's words.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

#[path = "../../lock-postgres/tests/servers/mod.rs"]
mod servers;
mod words;

use conformance_tests::free_port;

use crate::servers::Pooler;
use crate::servers::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_refused_in_the_manual_s_words() {
    let server = Server::start(&[]);
    let mut psql = server.psql().await;
    psql.run("CREATE ROLE ann LOGIN PASSWORD 's3cret'").await;
    let standby = server.standby();
    let pooler = Pooler::start(&server, "transaction");
    server.demand_passwords();
    psql.run("SELECT pg_reload_conf()").await;
    let port = |name: &str| match name {
        "none" => free_port(),
        "any" => server.port,
        "a replica" => standby.port,
        "PgBouncer, transactions" => port_of(&pooler.url()),
        _ => panic!("the test does not know {name}"),
    };
    words::check("| Postgres server |", |name| (port(name), ())).await;
}

fn port_of(url: &str) -> u16 {
    lock::ConnectUrl::parse(url).unwrap().hosts()[0].port.unwrap()
}
