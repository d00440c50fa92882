//! The command line over MySQL and MariaDB.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;
#[path = "../../lock-mysql/tests/servers/mod.rs"]
mod servers;

use std::time::Duration;

use common::Place;
use common::any_store;
use common::any_store::Store;
use common::any_store::says;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

#[test]
fn it_does_what_it_does_over_any_store() {
    let server = Server::start(&[]);
    for url in block_on(both(&server)) {
        any_store::check(Store {
            url: &url,
            name: "mysql",
            session: false,
            schema: true,
            ttl: "1s",
            freed: Duration::from_secs(3),
        });
    }
}

#[test]
fn when_the_server_hangs_or_dies_the_job_is_stopped_and_it_is_76() {
    let mut server = Server::start(&[]);
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.freeze());
    server.thaw();
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.kill());
    says(&place, &["run", "k", "--", "true"], 69, "nobody listens there");
}

#[test]
fn what_is_wrong_with_a_url_or_a_role_is_said() {
    let server = Server::start(&[]);
    block_on(async {
        let mut cli = Cli::connect(&server.url()).await;
        cli.run("CREATE USER ann@'%' IDENTIFIED BY 's3cret'").await.unwrap();
        cli.run("GRANT SELECT ON locks.* TO ann@'%'").await.unwrap();
        cli.run("CREATE USER bob@'%' IDENTIFIED BY 's3cret'").await.unwrap();
        cli.run("GRANT ALL ON locks.* TO bob@'%'").await.unwrap();
    });
    let at = |user: &str, rest: &str| format!("mysql://{user}@127.0.0.1:{}/{rest}", server.port);
    let place = Place::new();
    let says = |url: &str, code, sentence| says(&place, &["--url", url, "list"], code, sentence);
    says(&at("ann:wrong", "locks"), 78, "password");
    says(&at("root", "nowhere"), 78, "nowhere");
    says(&at("ann:s3cret", "locks"), 78, "lockctl schema");
    any_store::hides_the_password(&at("bob:s3cret", "locks"), &at("bob", "locks"));
}
