//! Eight real processes on one name at full rate, beside cleanups and while connections and statements are killed:
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
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;

use crate::servers::Cli;
use crate::servers::Server;
use crate::servers::both;
use crate::servers::connect;
use crate::servers::ms;

const URL: &str = "LOCK_MYSQL_TEST_URL";
const NUMBER: &str = "LOCK_MYSQL_TEST_NUMBER";
const KEY: &str = "rush";

/// How long the processes lock and unlock.
fn time() -> Duration {
    Duration::from_secs(if std::env::var_os("LOCK_TEST_FULL").is_some() { 30 } else { 4 })
}

async fn connect_stubbornly(url: &str) -> Arc<dyn LockProvider> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        // Somebody kills connections while this one is made.
        match connect(url).await {
            Ok(locks) => return locks,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

/// Locks and unlocks and prints each, if a process was started for it; as a test of its own it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let number: u64 = std::env::var(NUMBER).unwrap().parse().unwrap();
    let (locks, recorder, end) =
        (connect_stubbornly(&url).await, Recorder::aloud(), Instant::now() + time());
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

/// Kills statements and connections that are acquiring, by turns; returns how many.
async fn disturb(url: &str) -> u64 {
    let (mut cli, end, mut kills) = (Cli::connect(url).await, Instant::now() + time(), 0);
    let busy = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
                AND db = DATABASE() AND info LIKE '%distributed_locks%' ORDER BY RAND() LIMIT 1";
    while Instant::now() < end {
        for row in cli.rows(busy).await {
            let what = if kills % 2 == 0 { "QUERY" } else { "CONNECTION" };
            kills += u64::from(cli.run(&format!("KILL {what} {}", row[0])).await.is_ok());
        }
        // Somebody has to get through.
        tokio::time::sleep(ms(100 + kills % 8)).await;
    }
    kills
}

/// Nobody holds beside another, fences rise in the order of the grants, no deadlock reaches a caller, and
/// nothing is left held.
#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_on_one_name_exclude_each_other_while_connections_end() {
    let server = Server::start(&[]);
    for url in both(&server).await {
        let cleaner = connect(&url).await.unwrap();
        let recorder = Arc::new(Recorder::default());
        let crowd: Vec<_> = (0..8).map(|number| start(&url, number)).collect();
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
        let ((), kills) = tokio::join!(cleaning, disturb(&url));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        println!("{url}: {kills} kills");
        assert!(kills >= 5, "{url}: {kills} kills");
        judge(&recorder.history());
        let left = "SELECT COUNT(*) FROM distributed_locks \
                    WHERE expires_at > NOW(6) OR line_until > NOW(6)";
        assert_eq!(Cli::connect(&url).await.one(left).await, "0", "left held or in line");
    }
}

fn judge(history: &[Record]) {
    let grants = history.iter().filter(|it| it.op == Op::Acquire && it.result == Done::Ok).count();
    let failures = history.iter().filter(|it| it.result == Done::Fail).count();
    println!("{grants} grants, {failures} failures");
    assert!(grants >= 10, "{grants} grants");
    check::fences_are_unique(history).unwrap();
    check::fences_rise_in_real_time(history).unwrap();
    check::fences_follow_holds(history).unwrap();
    check::holds_do_not_overlap(history).unwrap();
}
