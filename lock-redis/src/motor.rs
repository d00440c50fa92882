//! What drives a connection, and stops when the server says nothing any more.
//!
//! There is one alarm for each connection, and none for each request: a server answers in order, so any answer
//! shows that it is there.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::Clock;
use redis::RedisResult;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How often to look for an answer while the longest silence lasts.
const LOOKS: u32 = 4;

/// The task that a connection needs; it ends with the last user of the connection, whatever the server does.
pub(crate) struct Motor {
    task: JoinHandle<()>,
    runtime: Handle,
    /// How many requests there were.
    asked: AtomicU64,
    /// How many of them have been answered.
    answered: AtomicU64,
    /// Whether somebody looks for answers.
    is_watched: AtomicBool,
    /// Set when the silence has lasted too long.
    gave_up: OnceLock<()>,
}

impl Motor {
    /// Starts the task on the runtime of the caller.
    pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            task: tokio::spawn(task),
            runtime: Handle::current(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            is_watched: AtomicBool::new(false),
            gave_up: OnceLock::new(),
        })
    }

    /// Waits for the answer to a request that goes over the connection. Once there has been none to any for
    /// `limit`, or somewhat longer, all that are under way fail. To be polled to its end.
    pub(crate) async fn answer<T>(
        self: &Arc<Self>,
        limit: Duration,
        request: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if !self.is_watched.load(Ordering::SeqCst) && !self.is_watched.swap(true, Ordering::SeqCst)
        {
            drop(self.runtime.spawn(watch(Arc::downgrade(self), limit)));
        }
        let answer = request.await;
        self.answered.fetch_add(1, Ordering::SeqCst);
        match answer {
            Err(_) if self.gave_up.get().is_some() => {
                Err(io::Error::from(io::ErrorKind::TimedOut).into())
            }
            answer => answer,
        }
    }

    /// Whether nothing is asked any more, so that nobody need look; whoever asks next begins anew.
    fn is_idle(&self) -> bool {
        if self.owes_answers() {
            return false;
        }
        self.is_watched.store(false, Ordering::SeqCst);
        // Somebody may have asked just before that.
        !self.owes_answers() || self.is_watched.swap(true, Ordering::SeqCst)
    }

    fn owes_answers(&self) -> bool {
        // Read first, for it never is the larger one.
        let answered = self.answered.load(Ordering::SeqCst);
        self.asked.load(Ordering::SeqCst) != answered
    }
}

impl Drop for Motor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stops the motor after a silence of `limit`; ends when nothing is asked.
///
/// By a clock that goes on when runtimes end, and while the machine sleeps.
async fn watch(motor: Weak<Motor>, limit: Duration) {
    let (clock, mut answers, mut silent) = (Clock::system(), 0, 0);
    loop {
        clock.sleep(limit / LOOKS).await;
        let Some(motor) = motor.upgrade() else { return };
        let now = motor.answered.load(Ordering::SeqCst);
        if now != answers {
            (answers, silent) = (now, 0);
        } else if motor.is_idle() {
            return;
        } else if silent == LOOKS {
            let _ = motor.gave_up.set(());
            return motor.task.abort();
        } else {
            silent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::future::ready;

    use tokio::sync::oneshot;
    use tokio::time::sleep;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(80);

    /// A connection that never answers, and one request that ends only with it.
    fn mute() -> (Arc<Motor>, impl Future<Output = RedisResult<()>>) {
        let (kept, ended) = oneshot::channel::<()>();
        let motor = Motor::start(async move {
            let _kept = kept;
            pending::<()>().await;
        });
        let request = async move {
            let _ = ended.await;
            Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
        };
        (motor, request)
    }

    #[tokio::test]
    async fn a_silence_ends_all_that_is_under_way_as_timed_out() {
        let (motor, request) = mute();
        let failed = timeout(LIMIT * 20, motor.answer(LIMIT, request)).await.unwrap();
        assert!(failed.unwrap_err().is_timeout());
    }

    #[tokio::test]
    async fn who_waits_long_waits_on_while_others_are_answered() {
        let (motor, request) = mute();
        let answers = async {
            for _ in 0..40 {
                motor.answer(LIMIT, ready(Ok(()))).await.unwrap();
                sleep(LIMIT / 8).await;
            }
        };
        tokio::select! {
            () = answers => {}
            _ = motor.answer(LIMIT, request) => panic!("given up"),
        }
    }

    #[tokio::test]
    async fn nobody_looks_at_a_connection_that_is_asked_nothing_and_the_next_request_is_watched() {
        let (motor, request) = mute();
        motor.answer(LIMIT, ready(Ok(()))).await.unwrap();
        assert!(motor.is_watched.load(Ordering::SeqCst));
        let idle = async {
            while motor.is_watched.load(Ordering::SeqCst) {
                sleep(LIMIT / 8).await;
            }
        };
        timeout(LIMIT * 20, idle).await.unwrap();
        let failed = timeout(LIMIT * 20, motor.answer(LIMIT, request)).await.unwrap();
        assert!(failed.unwrap_err().is_timeout());
    }
}
