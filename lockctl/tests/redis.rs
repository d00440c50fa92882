//! The command line over real servers of Redis: what scripts read, and what becomes of jobs.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;
#[path = "../../lock-redis/tests/servers/mod.rs"]
mod servers;

use std::env;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::Place;
use common::eventually;
use common::finish;
use common::id;
use common::is_alive;
use common::kill;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::servers::Cluster;
use crate::servers::Server;
use crate::servers::Watched;
use crate::servers::free_port;

/// A place on the server that was handed to the tests, with keys of its own, or on one of its own.
struct Shared {
    place: Place,
    _server: Option<Server>,
}

impl Shared {
    fn new() -> Self {
        let server = env::var_os("LOCK_TEST_REDIS_URL").is_none().then(|| Server::start(&[]));
        let url =
            server.as_ref().map_or_else(|| env::var("LOCK_TEST_REDIS_URL").unwrap(), Server::url);
        let prefix = Place::new().path("").display().to_string().replace('/', ":");
        Self { place: Place::over(&format!("{url}?prefix={prefix}")), _server: server }
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Replaces the numbers that differ from run to run.
fn steady(mut state: Value) -> Value {
    for holder in state["holders"].as_array_mut().unwrap() {
        for field in ["fence", "expires_in_ms"] {
            assert!(holder[field].is_u64(), "{holder}");
            holder[field] = json!(1);
        }
        assert!(holder["acquired_at"].as_str().unwrap().ends_with('Z'), "{holder}");
        holder["acquired_at"] = json!("then");
    }
    state
}

fn says(place: &Place, arguments: &[&str], code: i32, sentence: &str) {
    let ended = place.run(arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
    assert!(ended.stderr.contains(sentence), "{arguments:?}: {}", ended.stderr);
}

#[test]
fn the_exit_codes_are_those_of_any_store() {
    let shared = Shared::new();
    let place = &shared.place;
    assert_eq!(place.run(&["run", "k", "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(place.run(&["acquire", "k", "--hold-for", "1h", "--owner", "ann"]).code, 0);
    says(place, &["run", "k", "--", "true"], 75, "lockctl: \"k\" is held by ann, fence ");
    says(place, &["run", "k", "--wait", "500ms", "--", "true"], 75, "the wait is over, \"k\" is");
    says(place, &["run", "k", "--skip-ok", "--", "true"], 0, "; skipped");
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    says(place, &["unlock", "--force", "k"], 1, "nobody holds \"k\"");
    says(place, &["status", ""], 65, "at least one byte");
    says(place, &["run", &"k".repeat(513), "--", "true"], 65, "at most 512 bytes");
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    says(place, &["--url", &nobody, "run", "k", "--", "true"], 69, "nobody listens there");
    let none = place.url().replace('?', "/9999?");
    says(place, &["--url", &none, "list"], 78, "no database of that number");
    says(place, &["--url", "redis://h?perfix=a", "list"], 78, "did you mean \"prefix\"?");
}

#[test]
fn a_key_where_locks_are_described_is_65() {
    let server = Server::start(&[]);
    says(&Place::over(&server.url()), &["run", "lk:{a}", "--", "true"], 65, "cannot begin with");
}

#[test]
fn json_has_the_shapes_of_any_store() {
    let shared = Shared::new();
    let place = &shared.place;
    let free = place.run(&["status", "a", "--json"]).stdout;
    assert_eq!(free, "{\"key\":\"a\",\"locked\":false,\"holders\":[],\"waiting\":0}\n");
    let call = ["acquire", "a", "--owner", "ann", "--hold-for", "1h", "--json"];
    let acquired = parse(&place.run(&call).stdout);
    assert_eq!(acquired.as_object().unwrap().len(), 4, "{acquired}");
    assert_eq!(acquired["key"], "a");
    let held = json!({"key": "a", "locked": true, "holders": [{"owner": "ann",
        "mode": "exclusive", "fence": 1, "acquired_at": "then", "expires_in_ms": 1}], "waiting": 0});
    let status = parse(&place.run(&["status", "a", "--json"]).stdout);
    assert_eq!(status["holders"][0]["fence"], acquired["fence"]);
    assert_eq!(steady(status), held);
    let list = place.run(&["list", "--json"]).stdout;
    assert_eq!(list.lines().map(|line| steady(parse(line))).collect::<Vec<_>>(), [held]);
    let handle = acquired["handle"].as_str().unwrap();
    let renewed = parse(&place.run(&["renew", handle, "--hold-for", "2h", "--json"]).stdout);
    assert!(renewed["valid_for_ms"].as_u64().unwrap() > 3_600_000, "{renewed}");
    let released = place.run(&["release", handle, "--json"]).stdout;
    assert_eq!(released, "{\"key\":\"a\",\"released\":true}\n");
    assert_eq!(place.run(&["release", handle]).code, 1);
    assert!(parse(&place.run(&["cleanup", "--json"]).stdout)["removed"].is_u64());
    let schema = place.run(&["schema", "--json"]);
    assert_eq!((schema.code, parse(&schema.stdout)), (0, json!({"schema": null})));
    let profile = parse(&place.run(&["profile", "--json"]).stdout);
    assert_eq!((&profile["backend"], &profile["lease"]), (&json!("redis"), &json!("per lock")));
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
fn readers_share_permits_are_counted_and_the_fair_are_served_as_they_came() {
    let shared = Shared::new();
    let place = &shared.place;
    let acquire = |key: &str, mode: &str| {
        place.run(&["acquire", key, "--hold-for", "1h", "--mode", mode]).code
    };
    assert_eq!((acquire("r", "shared"), acquire("r", "shared")), (0, 0));
    says(place, &["run", "r", "--", "true"], 75, " and 1 more");
    let permits = ["permits:2", "permits:2", "permits:2"].map(|mode| acquire("p", mode));
    assert_eq!(permits, [0, 0, 75]);
    assert_eq!(acquire("p", "permits:3"), 65, "the number is agreed on");
    let holder = place.start_job(&["run", "k"], "holder", "until [ -e go ]; do sleep 0.01; done");
    let waiters: Vec<_> = (1..=4)
        .map(|n| {
            let script = format!("echo {n} >> order");
            let call = ["run", "k", "--fair", "--wait", "30s", "--", "sh", "-c", &script];
            let waiter = place.start(&call);
            eventually("it is in line", || {
                let status = parse(&place.run(&["status", "k", "--json"]).stdout);
                status["waiting"] == json!(n)
            });
            waiter
        })
        .collect();
    fs::write(place.path("go"), "").unwrap();
    for waiter in waiters {
        assert_eq!(finish(waiter).code, 0);
    }
    assert_eq!(place.read("order"), "1\n2\n3\n4\n");
    assert_eq!(finish(holder).code, 0);
}

#[test]
fn when_lockctl_is_killed_the_job_is_dead_before_the_next_holder_comes() {
    let shared = Shared::new();
    let place = &shared.place;
    let script = "trap '' TERM; while :; do date +%s%N >> beats; done";
    let mut killed = place.start_job(&["run", "k", "--ttl", "1s"], "job", script);
    eventually("the job is at work", || place.read("beats").ends_with('\n'));
    kill(id(&killed), Signal::KILL);
    killed.wait().unwrap();
    let next = ["run", "k", "--wait", "30s", "--", "date", "+%s%N"];
    let next = place.run(&next);
    assert_eq!(next.code, 0, "{}", next.stderr);
    assert!(!is_alive(place.pid("job")));
    let last: u128 = place.read("beats").lines().last().unwrap().parse().unwrap();
    assert!(last < next.stdout.trim().parse().unwrap(), "two were at work");
}

#[test]
fn when_the_server_hangs_or_dies_the_job_is_stopped_at_its_deadline_and_it_is_76() {
    for dies in [false, true] {
        let mut server = Server::start(&[]);
        let place = Place::over(&server.url());
        let job = place.start_job(&["run", "k", "--ttl", "2s"], "job", "trap '' TERM; sleep 1000");
        let start = Instant::now();
        if dies {
            server.kill()
        } else {
            server.freeze()
        }
        eventually("the job is dead", || !is_alive(place.pid("job")));
        assert!(start.elapsed() < Duration::from_millis(2300), "{:?}", start.elapsed());
        let ended = finish(job);
        assert_eq!(ended.code, 76, "{}", ended.stderr);
        assert!(ended.stderr.contains("lost \"k\": "), "{}", ended.stderr);
        assert!(ended.stderr.contains("the command was stopped"), "{}", ended.stderr);
        if !dies {
            server.thaw();
        }
    }
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
fn a_leader_that_is_robbed_leads_anew_with_a_higher_fence() {
    let shared = Shared::new();
    let place = &shared.place;
    let script = "echo $LOCK_FENCE >> terms; sleep 1000";
    let leader = place.start(&["elect", "k", "--ttl", "1s", "--", "sh", "-c", script]);
    eventually("the first term", || place.read("terms").lines().count() == 1);
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    eventually("the second term", || place.read("terms").lines().count() == 2);
    let terms = place.read("terms");
    let fences: Vec<u64> = terms.lines().map(|line| line.parse().unwrap()).collect();
    assert!(fences[0] < fences[1], "{fences:?}");
    kill(id(&leader), Signal::TERM);
    assert_eq!(finish(leader).code, 143);
}

#[test]
fn a_watch_tells_what_changes() {
    let shared = Shared::new();
    let place = &shared.place;
    let mut watch = place.start(&["watch", "--json"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let handle = place.run(&["acquire", "a", "--owner", "ann", "--hold-for", "1h"]).stdout;
    let taken = parse(&lines.next().unwrap().unwrap());
    assert_eq!((&taken["key"], &taken["holders"][0]["owner"]), (&json!("a"), &json!("ann")));
    assert_eq!(place.run(&["release", handle.trim()]).code, 0);
    let freed = parse(&lines.next().unwrap().unwrap());
    assert_eq!((&freed["key"], &freed["locked"]), (&json!("a"), &json!(false)));
    kill(id(&watch), Signal::TERM);
    watch.wait().unwrap();
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
    let job = place.start_job(&["run", "k", "--ttl", "1s", "--owner", "ann"], "job", "sleep 1000");
    says(&place, &["run", "k", "--", "true"], 75, "held by ann");
    let status = parse(&place.run(&["status", "k", "--json"]).stdout);
    assert_eq!(steady(status.clone())["holders"][0]["owner"], "ann");
    let listed = place.run(&["list", "--json"]).stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    let lost = finish(job);
    assert_eq!(lost.code, 76, "{}", lost.stderr);
    let acquired = place.run(&["acquire", "k", "--hold-for", "2s", "--json"]);
    assert_eq!(acquired.code, 0, "{}", acquired.stderr);
    let acquired = parse(&acquired.stdout);
    assert!(acquired["fence"].as_u64() > status["holders"][0]["fence"].as_u64());
    let handle = acquired["handle"].as_str().unwrap();
    assert_eq!(place.run(&["renew", handle, "--hold-for", "1500ms"]).code, 0);
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
    let fleet = servers::Fleet::start(3);
    fleet.await_age(Duration::from_secs(3));
    essentials(&fleet.url("ttl_max=2s&ttl=2s"));
}
