//! Processes that lock one name as fast as they can, for tests that hurt their store meanwhile.
//!
//! The test program starts itself again, so it has a test `child` that calls [`child`].

use std::env;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::Failure;
use crate::Outcome;
use crate::check;
use crate::cx::in_full;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::sleep;
use crate::failure::check;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::history::Recorder;

/// What all the processes lock.
pub const KEY: &str = "rush";

const PROCESSES: u64 = 8;

const URL: &str = "LOCK_RUSH_URL";
const NUMBER: &str = "LOCK_RUSH_NUMBER";

/// How long a call waits, a process tries to connect, and what is not confirmed goes on.
const PATIENCE: Duration = ms(30_000);

/// How long the processes lock and unlock.
fn length() -> Duration {
    if in_full() { ms(30_000) } else { ms(4000) }
}

/// Locks and unlocks, and prints each, if a [`Rush`] has started this process; does nothing in any other.
///
/// # Errors
///
/// If a call fails but for an outage, or saw a deadlock.
///
/// # Cancel safety
///
/// Dropping it drops the guard that is held.
pub async fn child(connect: impl AsyncFn(&str) -> Result<SharedBackend>) -> Outcome {
    let Ok(url) = env::var(URL) else { return Ok(()) };
    let number: u64 = env::var(NUMBER)?.parse()?;
    let backend = connect_stubbornly(&url, connect).await?;
    let locks = Engine::new(backend, EngineOptions::default())?;
    let (recorder, end) = (Recorder::aloud(), now() + length());
    // A line of its own makes the other half of them take the long way.
    let wait = LockOptions::new().wait(PATIENCE);
    let wait = if number.is_multiple_of(2) { wait } else { wait.fair() };
    while now() < end {
        lock_once(&locks, number, &wait, &recorder).await?;
    }
    Ok(locks.shutdown(PATIENCE).await?)
}

/// Connects while somebody ends connections.
async fn connect_stubbornly(
    url: &str,
    connect: impl AsyncFn(&str) -> Result<SharedBackend>,
) -> Outcome<SharedBackend> {
    let end = now() + PATIENCE;
    loop {
        match connect(url).await {
            Err(_) if now() < end => {}
            connected => return Ok(connected?),
        }
    }
}

async fn lock_once(
    locks: &Engine,
    number: u64,
    wait: &LockOptions,
    recorder: &Recorder,
) -> Outcome {
    let record = Record::begin(number, KEY, Op::Acquire);
    let guard = match locks.lock(KEY, wait).await {
        Ok(guard) => guard,
        Err(error) => {
            check!(is_outage(&error), "{error:?}");
            recorder.add(record.end(Done::Fail));
            return Ok(());
        }
    };
    recorder.add(record.end(Done::Ok).of(&guard));
    if number % 4 >= 2 {
        // Holds that last are what others could come into, from the line and without.
        sleep(ms(20)).await;
    }
    let record = Record::begin(number, KEY, Op::Release).of(&guard);
    let done = match guard.unlock().await {
        Ok(()) => Done::Ok,
        Err(error) if error.kind() == ErrorKind::Lost => Done::Fail,
        Err(_) => Done::Info,
    };
    recorder.add(record.end(done));
    Ok(())
}

fn is_outage(error: &Error) -> bool {
    let told = format!("{error:?}").to_lowercase();
    error.kind() == ErrorKind::Unavailable && !told.contains("deadlock")
}

/// Eight processes on one name.
#[derive(Debug)]
pub struct Rush {
    end: BootInstant,
    recorder: Arc<Recorder>,
    readers: Vec<JoinHandle<Outcome>>,
}

impl Rush {
    /// Starts them on the store at `url`.
    ///
    /// # Errors
    ///
    /// If this program cannot be started again.
    pub fn start(url: &str) -> Outcome<Self> {
        let mut this =
            Self { end: now() + length(), recorder: Arc::default(), readers: Vec::new() };
        for number in 0..PROCESSES {
            let (child, recorder) = (start(url, number)?, this.recorder.clone());
            this.readers.push(thread::spawn(move || hear(child, &recorder)));
        }
        Ok(this)
    }

    /// Tells whether they still lock and unlock.
    pub fn lasts(&self) -> bool {
        now() < self.end
    }

    /// Notes what somebody else has done to the store.
    pub fn add(&self, record: Record) {
        self.recorder.add(record);
    }

    /// Cleans up by `locks` all the while.
    ///
    /// # Errors
    ///
    /// If that fails but for an outage.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn clean(&self, locks: &dyn LockProvider) -> Outcome {
        while self.lasts() {
            if let Err(error) = locks.cleanup_expired().await {
                check!(is_outage(&error), "{error:?}");
            }
        }
        Ok(())
    }

    /// Waits for their ends and returns how many grants there were: nobody held beside another, and fences rose in
    /// the order of the grants.
    ///
    /// # Errors
    ///
    /// If that is not so, or if a process saw what it should not.
    pub fn judge(self) -> Outcome<usize> {
        for reader in self.readers {
            reader.join().map_err(|_| Failure::new("a reader has panicked"))??;
        }
        let history = self.recorder.history();
        check::fences_are_unique(&history)?;
        check::fences_rise_in_real_time(&history)?;
        check::fences_follow_holds(&history)?;
        check::holds_do_not_overlap(&history)?;
        let is_grant = |it: &&Record| it.op == Op::Acquire && it.result == Done::Ok;
        Ok(history.iter().filter(is_grant).count())
    }
}

/// Starts a process that locks; it ends by itself.
fn start(url: &str, number: u64) -> Outcome<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", "child", "--nocapture", "--quiet"]).stdout(Stdio::piped());
    Ok(command.env(URL, url).env(NUMBER, number.to_string()).spawn()?)
}

fn hear(mut child: Child, recorder: &Recorder) -> Outcome {
    if let Some(said) = child.stdout.take() {
        recorder.add_lines(BufReader::new(said))?;
    }
    check!(child.wait()?.success(), "a process saw what it should not");
    Ok(())
}
