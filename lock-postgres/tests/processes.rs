//! Eight real processes on one name at full rate, beside cleanups and while sessions and statements are ended:
//! this program starts itself again as [`child`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use conformance_tests::check;
use conformance_tests::history::Done;
use conformance_tests::history::Op;
use conformance_tests::history::Record;
use conformance_tests::history::Recorder;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_postgres::DRIVER;

use crate::servers::Server;

const URL: &str = "LOCK_POSTGRES_TEST_URL";
const NUMBER: &str = "LOCK_POSTGRES_TEST_NUMBER";
const KEY: &str = "rush";

/// How long the processes lock and unlock.
fn time() -> Duration {
    Duration::from_secs(if std::env::var_os("LOCK_TEST_FULL").is_some() { 30 } else { 4 })
}

async fn connect(url: &str) -> Arc<dyn LockProvider> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        // Somebody ends sessions while this one is made.
        match DRIVER.open(ConnectUrl::parse(url).unwrap()).await {
            Ok(backend) => {
                return Arc::new(Engine::new(backend, EngineOptions::default()).unwrap());
            }
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

/// Locks and unlocks and prints each, if a process was started for it; as a test of its own it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let number: u64 = std::env::var(NUMBER).unwrap().parse().unwrap();
    let (locks, recorder, end) = (connect(&url).await, Recorder::aloud(), Instant::now() + time());
    // A line of its own makes the other half of them take the long way.
    let wait = LockOptions::new().wait(Duration::from_secs(30));
    let wait = if number.is_multiple_of(2) { wait } else { wait.fair() };
    while Instant::now() < end {
        let record = Record::begin(number, KEY, Op::Acquire);
        let guard = match locks.lock(KEY, &wait).await {
            Ok(guard) => guard,
            Err(error) => {
                let told = format!("{error:?}").to_lowercase();
                assert!(
                    error.kind() == ErrorKind::Unavailable && !told.contains("deadlock"),
                    "{told}"
                );
                recorder.add(record.end(Done::Fail));
                continue;
            }
        };
        recorder.add(record.end(Done::Ok).of(&guard));
        if number % 4 == 3 {
            // Holds that last are what others could come into.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let record = Record::begin(number, KEY, Op::Release).of(&guard);
        let done = match guard.unlock().await {
            Ok(()) => Done::Ok,
            Err(error) if error.kind() == ErrorKind::Lost => Done::Fail,
            Err(_) => Done::Info,
        };
        recorder.add(record.end(done));
    }
    // What is not confirmed yet goes on until then.
    locks.shutdown(Duration::from_secs(30)).await.unwrap();
}

/// A process that locks; it ends by itself.
fn start(url: &str, number: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--quiet"]).stdout(Stdio::piped());
    command.env(URL, url).env(NUMBER, number.to_string()).spawn().unwrap()
}

/// Ends sessions of others and stops their statements, by turns, and notes when it ended one: its locks were
/// free then, before its holder could know.
async fn disturb(server: &Server, recorder: &Recorder) -> (u64, u64) {
    let (mut psql, end) = (server.psql().await, Instant::now() + time());
    let (mut ended, mut stopped) = (0, 0);
    while Instant::now() < end {
        let stop = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE state = 'active' \
                    AND application_name = 'lock' AND query LIKE '%\"locks\".%'";
        for _ in 0..50 {
            stopped += psql.one::<i64>(stop).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let record = Record::begin(100, KEY, Op::Forget);
        let one = "SELECT count(pg_terminate_backend(pid, 1000)) FROM (SELECT pid FROM pg_stat_activity \
                   WHERE application_name = 'lock' ORDER BY random() LIMIT 1) one";
        ended += psql.one::<i64>(one).await;
        recorder.add(record.end(Done::Ok));
    }
    (ended.cast_unsigned(), stopped.cast_unsigned())
}

/// Nobody holds beside another, fences rise in the order of the grants, no deadlock reaches a caller, and
/// nothing is left held.
#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_on_one_name_exclude_each_other_while_sessions_end() {
    let server = Server::start(&["deadlock_timeout=100ms"]);
    let cleaner = connect(&server.url()).await;
    let recorder = Arc::new(Recorder::default());
    let crowd: Vec<_> = (0..8).map(|number| start(&server.url(), number)).collect();
    let reader = |mut child: Child| {
        let recorder = recorder.clone();
        std::thread::spawn(move || {
            recorder.add_lines(BufReader::new(child.stdout.take().unwrap())).unwrap();
            assert!(child.wait().unwrap().success(), "a process saw what it should not");
        })
    };
    let readers: Vec<_> = crowd.into_iter().map(reader).collect();
    let cleaning = async {
        let end = Instant::now() + time();
        while Instant::now() < end {
            if let Err(error) = cleaner.cleanup_expired().await {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            }
        }
    };
    let ((), (ended, stopped)) = tokio::join!(cleaning, disturb(&server, &recorder));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    judge(&recorder.history());
    println!("{ended} sessions ended, {stopped} statements stopped");
    assert!(ended >= 5 && stopped >= 5, "{ended} sessions ended, {stopped} statements stopped");
    let mut psql = server.psql().await;
    assert_eq!(psql.one::<i64>("SELECT count(*) FROM locks.held").await, 0, "left held");
    assert_eq!(psql.one::<i64>("SELECT count(*) FROM locks.waiting").await, 0, "left in line");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(psql.one::<i64>(deadlocks).await, 0);
}

fn judge(history: &[Record]) {
    let grants = history.iter().filter(|it| it.op == Op::Acquire && it.result == Done::Ok).count();
    let failures = history.iter().filter(|it| it.result == Done::Fail).count();
    println!("{grants} grants, {failures} failures");
    assert!(grants >= 25, "{grants} grants");
    check::fences_are_unique(history).unwrap();
    check::fences_rise_in_real_time(history).unwrap();
    check::fences_follow_holds(history).unwrap();
    check::holds_do_not_overlap(history).unwrap();
}
