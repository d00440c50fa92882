//! Runs every case on every fixture, each as one trial of an ordinary test program.

use std::collections::BTreeMap;
use std::env;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use libtest_mimic::Arguments;
use libtest_mimic::Completion;
use libtest_mimic::Failed;
use libtest_mimic::Trial;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use crate::Case;
use crate::Cx;
use crate::Failure;
use crate::Fixture;
use crate::Load;
use crate::Verdict;
use crate::cases::all;
use crate::clauses;

/// Names, separated by commas, of fixtures that are not to run.
pub const EXCLUDE: &str = "LOCK_TEST_EXCLUDE";

/// How many light cases run at a time: they sleep most of their time, whatever the machine.
const SIDE_BY_SIDE: u32 = 16;

/// How many heavy ones: as many as keep two cores busy without lengthening each other's pauses.
const HEAVY: u32 = 2;

/// Runs the suite on `fixtures`; the body of a test's `main` (with `harness = false`).
///
/// Arguments are those of `cargo test`. A fixture that does not come up fails the run unless
/// [`EXCLUDE`] names it. How much was ignored for which reason is said at the end.
pub fn run(fixtures: Vec<Arc<dyn Fixture>>) -> ExitCode {
    if let Some(code) = crate::child::run(&fixtures) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE as usize);
    let suite = Arc::new(Suite::default());
    let listing = arguments.list;
    let mut trials: Vec<_> =
        fixtures.iter().flat_map(|fixture| suite.trials(fixture, listing)).collect();
    // Heavy ones last: each waits until it has room, and what comes after it waits behind it.
    trials.sort_by_key(|(load, _)| *load == Load::Heavy);
    let trials = trials.into_iter().map(|(_, trial)| trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listing {
        suite.summarise();
        suite.tear_down();
    }
    conclusion.exit_code()
}

/// Runs one case on one fixture, within its time.
///
/// The case has a thread and a runtime of its own; one that does not end in time is left behind.
pub fn run_case(case: &'static Case, fixture: &Arc<dyn Fixture>) -> Verdict {
    let (send, receive) = mpsc::channel();
    let cx = Cx::new(fixture.clone(), &fresh_namespace());
    let body = move || {
        let verdict = block_on(guarded(case, cx));
        // Nobody listens when the time was up.
        let _ = send.send(verdict);
    };
    if let Err(error) = thread::Builder::new().name(case.name.into()).spawn(body) {
        return Verdict::Failed(format!("no thread for the case: {error}"));
    }
    receive
        .recv_timeout(case.limit)
        .unwrap_or_else(|_| Verdict::Failed(format!("did not end within {:?}", case.limit)))
}

async fn guarded(case: &'static Case, cx: Cx) -> Verdict {
    match AssertUnwindSafe(checked(case, cx)).catch_unwind().await {
        Ok(verdict) => verdict,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Verdict::Failed(format!("panicked: {}", text.unwrap_or_default()))
        }
    }
}

async fn checked(case: &'static Case, cx: Cx) -> Verdict {
    let client = match cx.client().await {
        Ok(client) => client,
        Err(failure) => return failure.into_verdict(),
    };
    let missing = |need: &crate::Need| need.missing(client.profile(), cx.fixture());
    if let Some(reason) = case.needs.iter().find_map(missing) {
        return Failure::skipped(reason).into_verdict();
    }
    (case.run)(cx).await.into()
}

pub(crate) fn fresh_namespace() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // The start of the process tells runs on one server apart.
    let started = lock_core::Clock::system().unix_micros() % 1_000_000_000;
    format!("lt{started:x}-{}-{number}:", std::process::id())
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("the process can start two threads");
    let output = runtime.block_on(future);
    // A task of a case that failed must not hold the trial up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    output
}

/// What the trials of one run share.
struct Suite {
    room: Semaphore,
    /// How many cases of which fixture, and why.
    ignored: Mutex<BTreeMap<(String, String), usize>>,
    up: Mutex<Vec<Arc<dyn Fixture>>>,
}

impl Default for Suite {
    fn default() -> Self {
        let room = Semaphore::new(SIDE_BY_SIDE as usize);
        Self { room, ignored: Mutex::default(), up: Mutex::default() }
    }
}

impl Suite {
    fn trials(self: &Arc<Self>, fixture: &Arc<dyn Fixture>, listing: bool) -> Vec<(Load, Trial)> {
        let (mut down, mut trials) = (None, Vec::new());
        if excluded(fixture.name()) {
            down = Some(format!("excluded by {EXCLUDE}"));
        } else if !listing && let Err(error) = self.set_up(fixture) {
            down = Some("the store is not there".to_owned());
            let message = format!("{error}; to run without it, name it in {EXCLUDE}");
            let name = format!("{}/fixture::is_there", fixture.name());
            trials.push((Load::Light, Trial::test(name, || Err(message.into()))));
        }
        trials.extend(all().map(|case| (case.load, self.trial(case, fixture, down.clone()))));
        trials
    }

    fn set_up(&self, fixture: &Arc<dyn Fixture>) -> lock_core::Result<()> {
        block_on(fixture.set_up())?;
        self.up.lock().unwrap_or_else(PoisonError::into_inner).push(fixture.clone());
        Ok(())
    }

    fn tear_down(&self) {
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        up.iter().for_each(|fixture| block_on(fixture.tear_down()));
    }

    fn trial(
        self: &Arc<Self>,
        case: &'static Case,
        fixture: &Arc<dyn Fixture>,
        down: Option<String>,
    ) -> Trial {
        let name = format!("{}/{}", fixture.name(), case.name);
        let (suite, fixture) = (self.clone(), fixture.clone());
        Trial::ignorable_test(name, move || match down {
            Some(reason) => Ok(suite.ignore(&*fixture, reason)),
            None => suite.complete(case, &fixture),
        })
    }

    fn complete(
        &self,
        case: &'static Case,
        fixture: &Arc<dyn Fixture>,
    ) -> Result<Completion, Failed> {
        let share = if case.load == Load::Heavy { SIDE_BY_SIDE / HEAVY } else { 1 };
        let _room = block_on(self.room.acquire_many(share));
        match run_case(case, fixture) {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Skipped(reason) => Ok(self.ignore(&**fixture, reason)),
            Verdict::Failed(message) => {
                Err(format!("{message}{}", clauses::lines(case.clauses)).into())
            }
        }
    }

    fn ignore(&self, fixture: &dyn Fixture, reason: String) -> Completion {
        let mut ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        *ignored.entry((fixture.name().to_owned(), reason.clone())).or_default() += 1;
        Completion::ignored_with(reason)
    }

    fn summarise(&self) {
        let ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        for ((fixture, reason), cases) in ignored.iter() {
            println!("ignored on {fixture}: {cases} cases, as {reason}");
        }
    }
}

fn excluded(name: &str) -> bool {
    let excluded = env::var(EXCLUDE).unwrap_or_default();
    excluded.split(',').any(|excluded| excluded.trim() == name)
}
