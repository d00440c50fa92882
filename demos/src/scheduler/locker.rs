//! What happens at a tick: the job runs here, or is skipped, and why.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use lock::Hold;
use lock::LockGuard;
use lock::LockOptions;
use lock::LockProvider;
use lock::TryLock;

use super::config::Options;
use crate::story::pause;

/// Lets one instance run a job at a time, if there are locks.
#[derive(Clone, Debug)]
pub(super) struct Locker {
    pub(super) locks: Option<Arc<dyn LockProvider>>,
    pub(super) options: Options,
}

/// What became of a tick on this instance.
#[derive(Debug)]
pub(super) enum Tick {
    /// The job ran here.
    Ran,
    /// Another instance has the job.
    Skipped(String),
    /// The job of an earlier tick still runs here.
    Busy,
    /// It is so late that another instance may have run it and released the lock since.
    Late,
    /// The job was stopped, because its lock was lost.
    Lost,
    /// The job panicked.
    Panicked,
    /// The store did not answer.
    Failed(lock::Error),
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran => f.write_str("ran"),
            Self::Skipped(holder) => write!(f, "skipped: {holder}"),
            Self::Busy => f.write_str("busy"),
            Self::Late => f.write_str("late"),
            Self::Lost => f.write_str("lost"),
            Self::Panicked => f.write_str("panicked"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// A job of one instance, of which one run is under way at the most.
#[derive(Debug)]
pub(super) struct Singleton {
    name: &'static str,
    busy: AtomicBool,
}

impl Singleton {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, busy: AtomicBool::new(false) }
    }
}

/// Ends the run when it is dropped, however the run ended.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Locker {
    /// Runs `body` if no other instance does; `lateness` tells how long ago the tick was due.
    ///
    /// A tick is taken up in the first half of `min_hold` only, and whoever runs it keeps its lock through the second half as well:
    /// so whoever is granted the lock in time knows that nobody has run the tick, as long as clocks differ by less than
    /// that half.
    pub(super) async fn tick(
        &self,
        job: &Singleton,
        lateness: impl Fn() -> Duration,
        body: impl AsyncFnOnce(Option<Hold>),
    ) -> Tick {
        if job.busy.swap(true, Ordering::SeqCst) {
            return Tick::Busy;
        }
        let _busy = Busy(&job.busy);
        let Some(locks) = &self.locks else { return run(body(None)).await };
        let in_time = self.options.min_hold() / 2;
        let is_late = || !in_time.is_zero() && lateness() >= in_time;
        if is_late() {
            return Tick::Late;
        }
        let min_hold = self.options.min_hold().saturating_sub(lateness());
        match self.acquire(&**locks, job.name, min_hold).await {
            Ok(TryLock::Acquired(_)) if is_late() => Tick::Late,
            Ok(TryLock::Acquired(guard)) => under(guard, body).await,
            Ok(TryLock::Held(holders)) => {
                let holder = holders.first().map(ToString::to_string);
                Tick::Skipped(holder.unwrap_or_default())
            }
            Err(error) => Tick::Failed(error),
        }
    }

    /// Retries what failed, not what is held.
    async fn acquire(
        &self,
        locks: &dyn LockProvider,
        name: &str,
        min_hold: Duration,
    ) -> lock::Result<TryLock> {
        let Options { key_prefix, max_retries, retry_delay, .. } = &self.options;
        let key = format!("{key_prefix}{name}");
        let options = LockOptions::new().ttl(self.options.ttl()).min_hold(min_hold);
        let mut retries = 0;
        loop {
            match locks.try_lock(&key, &options).await {
                Err(error) if error.is_retryable() && retries < *max_retries => retries += 1,
                done => return done,
            }
            pause(Duration::from_millis(*retry_delay)).await;
        }
    }
}

async fn under(guard: LockGuard, body: impl AsyncFnOnce(Option<Hold>)) -> Tick {
    let hold = Some(guard.hold());
    let ran = tokio::select! {
        biased;
        _ = guard.lost() => Tick::Lost,
        ran = run(body(hold)) => ran,
    };
    match guard.unlock().await {
        Err(error) if error.kind() == lock::ErrorKind::Lost => Tick::Lost,
        _ => ran,
    }
}

/// A job that panics takes neither the instance nor its lock along.
async fn run(body: impl Future<Output = ()>) -> Tick {
    match AssertUnwindSafe(body).catch_unwind().await {
        Ok(()) => Tick::Ran,
        Err(_) => Tick::Panicked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::ms;

    const DUE: fn() -> Duration = || Duration::ZERO;

    /// Two instances with a store of their own.
    async fn lockers(store: &str, options: Options) -> [Locker; 2] {
        let url = format!("memory:locker-{store}");
        let locks = [lock::connect(&url).await.unwrap(), lock::connect(&url).await.unwrap()];
        locks.map(|locks| Locker { locks: Some(locks), options: options.clone() })
    }

    fn short() -> Options {
        Options { lock_duration: 1, min_hold: 300, ..Options::default() }
    }

    #[tokio::test]
    async fn a_tick_runs_once_also_when_the_other_instance_is_behind() {
        let [one, two] = lockers("behind", short()).await;
        let jobs = [Singleton::new("a"), Singleton::new("a")];
        assert!(matches!(one.tick(&jobs[0], DUE, async |_| {}).await, Tick::Ran));
        pause(ms(100)).await;
        assert!(matches!(two.tick(&jobs[1], DUE, async |_| {}).await, Tick::Skipped(_)));
        pause(ms(300)).await;
        assert!(matches!(two.tick(&jobs[1], || ms(400), async |_| {}).await, Tick::Late));
        assert!(matches!(two.tick(&jobs[1], DUE, async |_| {}).await, Tick::Ran), "the next one");
    }

    #[tokio::test]
    async fn a_job_that_outlives_its_lock_duration_is_kept_and_not_started_again() {
        let [one, two] = lockers("long", short()).await;
        let jobs = [Singleton::new("report"), Singleton::new("report")];
        let long = async |_| pause(ms(2500)).await;
        let (ran, busy, skipped) = tokio::join!(
            one.tick(&jobs[0], DUE, long),
            async {
                pause(ms(2200)).await;
                one.tick(&jobs[0], DUE, async |_| {}).await
            },
            async {
                pause(ms(2200)).await;
                two.tick(&jobs[1], DUE, async |_| {}).await
            },
        );
        assert!(matches!(ran, Tick::Ran), "{ran}");
        assert!(matches!(busy, Tick::Busy), "{busy}");
        assert!(matches!(skipped, Tick::Skipped(_)), "{skipped}");
    }

    #[tokio::test]
    async fn a_panic_frees_the_job() {
        let [one, _] = lockers("panic", Options { min_hold: 0, ..short() }).await;
        let job = Singleton::new("b");
        let panicked = one.tick(&job, DUE, async |_| panic!("as the test wants it")).await;
        assert!(matches!(panicked, Tick::Panicked), "{panicked}");
        let locks = one.locks.unwrap();
        assert!(!locks.is_locked("scheduler:b").await.unwrap());
        assert!(!job.busy.load(Ordering::SeqCst));
    }
}
