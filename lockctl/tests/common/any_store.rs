//! What lockctl does over any store that has a server, in one place: what scripts read, and what becomes of jobs.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use super::Place;
use super::eventually;
use super::finish;
use super::id;
use super::is_alive;
use super::kill;

/// A store, and what differs between stores.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    pub url: &'a str,
    pub name: &'static str,
    /// Whether its locks end with the session that took them.
    pub session: bool,
    /// Whether it needs tables.
    pub schema: bool,
    /// A TTL that is as short as the store keeps.
    pub ttl: &'static str,
    /// How long a lock may outlive a holder who was killed.
    pub freed: Duration,
}

/// Runs all that has to work over whatever store, side by side: so they all come at once to a store that may be empty.
pub fn check(store: Store<'_>) {
    let parts = [exit_codes, states, handles, modes, order, force, killed, election, changes];
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || part(store));
        }
    });
}

impl Store<'_> {
    /// A place with keys that nobody else has.
    pub fn place(&self) -> Place {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let sign = if self.url.contains('?') { '&' } else { '?' };
        Place::over(&format!("{}{sign}prefix=t{}-{number}:", self.url, std::process::id()))
    }
}

/// Waits for a file, then ends with 3.
const UNTIL_GO: &str = "until [ -e go ]; do sleep 0.01; done; exit 3";

fn hold(place: &Place, arguments: &[&str], name: &str) -> Child {
    place.start_job(&[&["run"], arguments].concat(), name, UNTIL_GO)
}

fn go(place: &Place, child: Child) {
    fs::write(place.path("go"), "").unwrap();
    let ended = finish(child);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
}

pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Replaces the numbers that differ from run to run.
pub fn steady(mut state: Value) -> Value {
    for holder in state["holders"].as_array_mut().unwrap() {
        for field in ["fence", "expires_in_ms"] {
            assert!(holder[field].is_u64() || holder[field].is_null(), "{holder}");
            holder[field] = json!(1);
        }
        let since = &holder["acquired_at"];
        assert!(since.is_null() || since.as_str().unwrap().ends_with('Z'), "{holder}");
        holder["acquired_at"] = json!("then");
    }
    state
}

/// Runs lockctl and checks how it ends, and a part of what it says.
pub fn says(place: &Place, arguments: &[&str], code: i32, sentence: &str) {
    let ended = place.run(arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
    assert!(ended.stderr.contains(sentence), "{arguments:?}: {}", ended.stderr);
}

fn exit_codes(store: Store<'_>) {
    let place = store.place();
    assert_eq!(place.run(&["run", "k", "--", "sh", "-c", "exit 7"]).code, 7);
    let holder = hold(&place, &["k", "--owner", "ann"], "holder");
    says(&place, &["run", "k", "--", "true"], 75, "lockctl: \"k\" is held by ann, fence ");
    says(&place, &["run", "k", "--wait", "500ms", "--", "true"], 75, "the wait is over, \"k\" is");
    says(&place, &["run", "k", "--skip-ok", "--", "true"], 0, "; skipped");
    go(&place, holder);
    assert_eq!(place.run(&["run", "k", "--", "true"]).code, 0);
    says(&place, &["unlock", "--force", "k"], 1, "nobody holds \"k\"");
    says(&place, &["status", ""], 65, "at least one byte");
    says(&place, &["run", &"k".repeat(513), "--", "true"], 65, "at most 512 bytes");
    let misspelt = place.url().replace("prefix=", "perfix=");
    says(&place, &["--url", &misspelt, "list"], 78, "did you mean \"prefix\"?");
    for arguments in [&["cleanup"][..], &["profile"], &["schema"]] {
        assert_eq!(place.run(arguments).code, 0, "{arguments:?}");
    }
}

fn states(store: Store<'_>) {
    let place = store.place();
    let free = place.run(&["status", "a", "--json"]).stdout;
    assert_eq!(free, "{\"key\":\"a\",\"locked\":false,\"holders\":[],\"waiting\":0}\n");
    let holder = hold(&place, &["a", "--owner", "ann"], "holder");
    let held = json!({"key": "a", "locked": true, "holders": [{"owner": "ann",
        "mode": "exclusive", "fence": 1, "acquired_at": "then", "expires_in_ms": 1}], "waiting": 0});
    let status = parse(&place.run(&["status", "a", "--json"]).stdout);
    assert!(status["holders"][0]["fence"].as_u64() > Some(0), "{status}");
    assert_eq!(steady(status), held);
    let list = place.run(&["list", "--json"]).stdout;
    assert_eq!(list.lines().map(|line| steady(parse(line))).collect::<Vec<_>>(), [held]);
    assert_eq!(place.run(&["list", "b", "--json"]).stdout, "");
    assert!(place.run(&["status", "a"]).stdout.contains("ann"));
    go(&place, holder);
    assert!(!place.is_locked("a"));
    assert!(parse(&place.run(&["cleanup", "--json"]).stdout)["removed"].is_u64());
    let schema = parse(&place.run(&["schema", "--json"]).stdout);
    assert_eq!(schema["schema"].is_string(), store.schema, "{schema}");
    let profile = parse(&place.run(&["profile", "--json"]).stdout);
    let lease = if store.session { "session" } else { "per lock" };
    assert_eq!((&profile["backend"], &profile["lease"]), (&json!(store.name), &json!(lease)));
}

fn handles(store: Store<'_>) {
    let place = store.place();
    let call = ["acquire", "a", "--owner", "ann", "--hold-for", "1h", "--json"];
    if store.session {
        let refusal = format!(
            "acquire cannot work with {}: its locks end with the session that took them; use run",
            store.name
        );
        return says(&place, &call, 2, &refusal);
    }
    let acquired = parse(&place.run(&call).stdout);
    assert_eq!(acquired.as_object().unwrap().len(), 4, "{acquired}");
    assert_eq!(acquired["key"], "a");
    let status = parse(&place.run(&["status", "a", "--json"]).stdout);
    assert_eq!(status["holders"][0]["fence"], acquired["fence"]);
    let handle = acquired["handle"].as_str().unwrap();
    let renewed = parse(&place.run(&["renew", handle, "--hold-for", "2h", "--json"]).stdout);
    assert!(renewed["valid_for_ms"].as_u64().unwrap() > 3_600_000, "{renewed}");
    let released = place.run(&["release", handle, "--json"]).stdout;
    assert_eq!(released, "{\"key\":\"a\",\"released\":true}\n");
    assert_eq!(place.run(&["release", handle]).code, 1);
}

fn modes(store: Store<'_>) {
    let place = store.place();
    let hold = |key: &str, mode: &str, name: &str| hold(&place, &[key, "--mode", mode], name);
    let readers = [hold("r", "shared", "r1"), hold("r", "shared", "r2")];
    says(&place, &["run", "r", "--", "true"], 75, " and 1 more");
    let permits = [hold("p", "permits:2", "p1"), hold("p", "permits:2", "p2")];
    says(&place, &["run", "p", "--mode", "permits:2", "--", "true"], 75, "is held by");
    let other = ["run", "p", "--mode", "permits:3", "--", "true"];
    says(&place, &other, 65, "the store has this lock as permits:2");
    for child in readers.into_iter().chain(permits) {
        go(&place, child);
    }
}

fn order(store: Store<'_>) {
    let place = store.place();
    let holder = hold(&place, &["k"], "holder");
    let waiters = (1..=4).map(|n| {
        let script = format!("echo {n} >> order");
        let call = ["run", "k", "--fair", "--wait", "30s", "--", "sh", "-c", &script];
        let waiter = place.start(&call);
        eventually("it is in line", || {
            let status = parse(&place.run(&["status", "k", "--json"]).stdout);
            status["waiting"] == json!(n)
        });
        waiter
    });
    let waiters: Vec<Child> = waiters.collect();
    go(&place, holder);
    for waiter in waiters {
        assert_eq!(finish(waiter).code, 0);
    }
    assert_eq!(place.read("order"), "1\n2\n3\n4\n");
}

fn force(store: Store<'_>) {
    for arguments in
        [&["unlock", "--force", "k"][..], &["unlock", "--force", "k", "--kill-session"]]
    {
        let place = store.place();
        let ttl = ["run", "k", "--ttl", "5s"];
        let robbed = place.start_job(&ttl, "job", "trap '' TERM; sleep 1000");
        says(&place, arguments, 0, "took \"k\" away from its holder");
        let robbed = finish(robbed);
        assert_eq!(robbed.code, 76, "{}", robbed.stderr);
        assert!(robbed.stderr.contains("lost \"k\": "), "{}", robbed.stderr);
        assert!(!is_alive(place.pid("job")));
        assert_eq!(place.run(&["run", "k", "--wait", "10s", "--", "true"]).code, 0);
    }
}

fn killed(store: Store<'_>) {
    let place = store.place();
    let script = "trap '' TERM; while :; do date +%s%N >> beats; sleep 0.001; done";
    let mut killed = place.start_job(&["run", "k", "--ttl", store.ttl], "job", script);
    eventually("the job is at work", || place.read("beats").ends_with('\n'));
    kill(id(&killed), Signal::KILL);
    let begin = Instant::now();
    killed.wait().unwrap();
    let next = place.run(&["run", "k", "--wait", "30s", "--", "date", "+%s%N"]);
    assert_eq!(next.code, 0, "{}", next.stderr);
    assert!(begin.elapsed() < store.freed, "{:?}", begin.elapsed());
    assert!(!is_alive(place.pid("job")));
    let last: u128 = place.read("beats").lines().last().unwrap().parse().unwrap();
    assert!(last < next.stdout.trim().parse().unwrap(), "two were at work");
}

fn election(store: Store<'_>) {
    let place = store.place();
    let script = "echo $LOCK_FENCE >> terms; sleep 1000";
    let leader = place.start(&["elect", "k", "--ttl", "3s", "--", "sh", "-c", script]);
    eventually("the first term", || place.read("terms").lines().count() == 1);
    assert_eq!(place.run(&["unlock", "--force", "k"]).code, 0);
    eventually("the second term", || place.read("terms").lines().count() == 2);
    let terms = place.read("terms");
    let fences: Vec<u64> = terms.lines().map(|line| line.parse().unwrap()).collect();
    assert!(fences[0] < fences[1], "{fences:?}");
    kill(id(&leader), Signal::TERM);
    assert_eq!(finish(leader).code, 143);
}

fn changes(store: Store<'_>) {
    let place = store.place();
    let mut watch = place.start(&["watch", "--json"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let holder = hold(&place, &["a", "--owner", "ann"], "holder");
    let taken = parse(&lines.next().unwrap().unwrap());
    assert_eq!((&taken["key"], &taken["holders"][0]["owner"]), (&json!("a"), &json!("ann")));
    go(&place, holder);
    let freed = parse(&lines.next().unwrap().unwrap());
    assert_eq!((&freed["key"], &freed["locked"]), (&json!("a"), &json!(false)));
    kill(id(&watch), Signal::TERM);
    watch.wait().unwrap();
}

/// Checks that a job is stopped in time, with 76, when `hurt` has been done to its server.
pub fn stops_in_time(place: &Place, ttl: &str, within: Duration, hurt: impl FnOnce()) {
    // A server that was hurt before may need a moment to free what an earlier job had.
    let run = ["run", "k", "--ttl", ttl, "--wait", "10s"];
    let job = place.start_job(&run, "job", "trap '' TERM; sleep 1000");
    let start = Instant::now();
    hurt();
    eventually("the job is dead", || !is_alive(place.pid("job")));
    assert!(start.elapsed() < within, "{:?}", start.elapsed());
    let ended = finish(job);
    assert_eq!(ended.code, 76, "{}", ended.stderr);
    assert!(ended.stderr.contains("lost \"k\": "), "{}", ended.stderr);
    assert!(ended.stderr.contains("the command was stopped"), "{}", ended.stderr);
}

/// Checks that a command over `url`, in which `s3cret` is the password, gets `shown` instead.
pub fn hides_the_password(url: &str, shown: &str) {
    let place = Place::over(url);
    let ended = finish(place.start(&["-v", "run", "k", "--", "env"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains(&format!("LOCK_URL={shown}\n")), "{}", ended.stdout);
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}
