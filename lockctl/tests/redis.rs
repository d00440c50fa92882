//! The command line over real servers of Redis: what scripts read, and what becomes of jobs.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;
#[path = "../../lock-redis/tests/servers/mod.rs"]
mod servers;

use std::env;
use std::fs;
use std::thread;
use std::time::Duration;

use common::Place;
use common::any_store;
use common::any_store::Store;
use common::any_store::parse;
use common::any_store::says;
use common::any_store::steady;
use common::finish;
use serde_json::Value;

use crate::servers::Cluster;
use crate::servers::Fleet;
use crate::servers::Server;
use crate::servers::Watched;
use crate::servers::free_port;

/// What nobody else's keys begin with.
fn prefix() -> String {
    Place::new().path("").display().to_string().replace('/', ":")
}

#[test]
fn it_does_what_it_does_over_any_store() {
    let given = env::var("LOCK_TEST_REDIS_URL").ok();
    let server = given.is_none().then(|| Server::start(&[]));
    let url = given.or_else(|| server.as_ref().map(Server::url)).unwrap();
    any_store::check(Store {
        url: &url,
        name: "redis",
        session: false,
        schema: false,
        ttl: "1s",
        freed: Duration::from_secs(3),
    });
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    says(&Place::over(&nobody), &["run", "k", "--", "true"], 69, "nobody listens there");
    says(&Place::over(&format!("{url}/9999")), &["list"], 78, "no database of that number");
}

#[test]
fn a_key_where_locks_are_described_is_65() {
    let server = Server::start(&[]);
    says(&Place::over(&server.url()), &["run", "lk:{a}", "--", "true"], 65, "cannot begin with");
}

#[test]
fn a_lock_of_a_foreign_client_is_shown_with_nulls_respected_and_taken_away_by_force() {
    let server = Server::start(&[]);
    let place = Place::over(&server.url());
    assert!(server.command("SET k theirs NX PX 600000").contains("OK"));
    let status = place.run(&["status", "k", "--json"]).stdout;
    let (before, left) = status.split_once("\"expires_in_ms\":").unwrap();
    assert_eq!(
        before,
        "{\"key\":\"k\",\"locked\":true,\"holders\":[{\"owner\":null,\"mode\":null,\
         \"fence\":null,\"acquired_at\":null,"
    );
    let (left, after) = left.split_once('}').unwrap();
    assert!((500_000..=600_000).contains(&left.parse::<u64>().unwrap()), "{status}");
    assert_eq!(after, "],\"waiting\":0}\n");
    assert_eq!(place.run(&["list", "--json"]).stdout, "", "a list has our own only");
    says(&place, &["run", "k", "--", "true"], 75, "\"k\" is held by an unknown client, for ");
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    assert!(server.command("SET k theirs NX").contains("OK"));
    let forever = parse(&place.run(&["status", "k", "--json"]).stdout);
    assert_eq!(forever["holders"][0]["expires_in_ms"], Value::Null);
}

#[test]
fn what_makes_no_sense_is_named_with_the_way_to_clear_it_away() {
    let server = Server::start(&[]);
    let place = Place::over(&format!("{}?prefix=shop:", server.url()));
    assert_eq!(place.run(&["acquire", "k", "--hold-for", "60s"]).code, 0);
    let keys = server.command("KEYS lk:*:shop:k");
    let card = keys.lines().nth(2).unwrap();
    server.command(&format!("HSET {card} f rubbish"));
    let way_out = "; lockctl unlock --force \"k\" clears it away";
    says(&place, &["list"], 69, "lockctl: list \"k\" on redis: ");
    says(&place, &["list"], 69, way_out);
    says(&place, &["status", "k"], 69, way_out);
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    assert_eq!(place.run(&["list"]).code, 0);
}

#[test]
fn when_the_server_hangs_or_dies_the_job_is_stopped_at_its_deadline_and_it_is_76() {
    let mut server = Server::start(&[]);
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.freeze());
    server.thaw();
    let place = Place::over(&server.url());
    any_store::stops_in_time(&place, "2s", Duration::from_millis(2300), || server.kill());
}

#[test]
fn a_command_that_ends_while_the_server_is_away_keeps_its_code_and_the_doubt_is_told() {
    let mut server = Server::start(&[]);
    let place = Place::over(&server.url());
    let script = "until [ -e go ]; do sleep 0.01; done; exit 3";
    let job = place.start_job(&["run", "k", "--ttl", "5s"], "job", script);
    server.kill();
    fs::write(place.path("go"), "").unwrap();
    let ended = finish(job);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("lockctl: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("the release is not confirmed"), "{}", ended.stderr);
}

#[test]
fn a_server_that_comes_back_while_it_is_waited_for_is_used() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let place = Place::over(&server.url());
    assert_eq!(place.run(&["acquire", "k", "--hold-for", "6s"]).code, 0);
    let waiter = place.start(&["run", "k", "--wait", "30s", "--", "true"]);
    thread::sleep(Duration::from_millis(500));
    server.kill();
    let late = place.run(&["run", "k", "--wait", "300ms", "--", "true"]);
    assert_eq!(late.code, 69, "{}", late.stderr);
    server.restart();
    let waiter = finish(waiter);
    assert_eq!(waiter.code, 0, "{}", waiter.stderr);
}

#[test]
fn no_command_gets_the_password() {
    let server = Server::start(&["--requirepass", "s3cret"]);
    let place = Place::over(&format!("redis://:s3cret@127.0.0.1:{}/0?ttl=5s", server.port));
    let mut command = place.lockctl(&["-v", "run", "k", "--", "env"]);
    command.env("LOCK_REDIS_SENTINEL_PASSWORD", "s3cret");
    let ended = finish(command.spawn().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let shown = format!("LOCK_URL=redis://127.0.0.1:{}/0?ttl=5s\n", server.port);
    assert!(ended.stdout.contains(&shown), "{}", ended.stdout);
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

/// What has to work over whatever URL.
fn essentials(url: &str) {
    let place = Place::over(url);
    let job = place.start_job(&["run", "k", "--ttl", "5s", "--owner", "ann"], "job", "sleep 1000");
    says(&place, &["run", "k", "--", "true"], 75, "held by ann");
    let status = parse(&place.run(&["status", "k", "--json"]).stdout);
    assert_eq!(steady(status.clone())["holders"][0]["owner"], "ann");
    let listed = place.run(&["list", "--json"]).stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    let lost = finish(job);
    assert_eq!(lost.code, 76, "{}", lost.stderr);
    let acquired = place.run(&["acquire", "k", "--hold-for", "5s", "--json"]);
    assert_eq!(acquired.code, 0, "{}", acquired.stderr);
    let acquired = parse(&acquired.stdout);
    assert!(acquired["fence"].as_u64() > status["holders"][0]["fence"].as_u64());
    let handle = acquired["handle"].as_str().unwrap();
    assert_eq!(place.run(&["renew", handle, "--hold-for", "4s"]).code, 0);
    assert_eq!(place.run(&["release", handle]).code, 0);
    for arguments in [&["cleanup"][..], &["profile"], &["schema"]] {
        assert_eq!(place.run(arguments).code, 0, "{arguments:?}");
    }
    assert!(!place.is_locked("k"));
}

#[test]
fn sentinels_lead_to_the_server() {
    let watched = Watched::start();
    for sentinel in &watched.sentinels {
        // The server is not to be replaced because the machine has much to do.
        let patient = sentinel.command("SENTINEL SET locks down-after-milliseconds 60000");
        assert!(patient.contains("OK"), "{patient}");
    }
    essentials(&watched.url());
}

#[test]
fn a_cluster_is_used_as_one() {
    let cluster = Cluster::start();
    for server in &cluster.servers {
        assert!(server.command("CONFIG SET cluster-node-timeout 60000").contains("OK"));
    }
    essentials(&cluster.url());
}

#[test]
fn a_majority_of_servers_is_used_as_one() {
    let query = format!("ttl_max=6s&ttl=5s&node_timeout=1s&prefix={}", prefix());
    if let Ok(urls) = env::var("LOCK_TEST_REDLOCK_URLS") {
        return essentials(&format!("redlock://{}?{query}", urls.replace("redis://", "")));
    }
    let fleet = Fleet::start(3);
    fleet.await_age(Duration::from_secs(7));
    essentials(&fleet.url(&query));
}
