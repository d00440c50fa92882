//! The command line over ZooKeeper.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;
#[path = "../../lock-zookeeper/tests/servers/mod.rs"]
mod servers;

use std::time::Duration;

use common::Place;
use common::any_store;
use common::any_store::Store;
use common::any_store::says;

use crate::servers::Server;

#[test]
fn it_does_what_it_does_over_any_store() {
    let server = Server::start();
    any_store::check(Store {
        url: &server.url(),
        name: "zookeeper",
        session: true,
        schema: false,
        ttl: "2s",
        freed: Duration::from_secs(8),
    });
}

#[test]
fn when_the_server_hangs_or_dies_the_job_is_stopped_and_it_is_76() {
    let mut server = Server::start();
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.freeze());
    server.thaw();
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.kill());
    says(&place, &["run", "k", "--", "true"], 69, "no server can be reached");
}

#[test]
fn what_no_path_can_be_is_65_and_no_password_is_shown() {
    let server = Server::start();
    let place = Place::over(&server.url());
    for key in ["a//b", "a/../b", "/a", "a/x-lock-0000000017", "zookeeper/a"] {
        says(&place, &["run", key, "--", "true"], 65, "");
    }
    let rest = format!("{}/shop?session_timeout=2s&tick_time=100ms", server.address());
    any_store::hides_the_password(
        &format!("zookeeper://ann:s3cret@{rest}"),
        &format!("zookeeper://ann@{rest}"),
    );
}
