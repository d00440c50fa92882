//! The callers' side of the one connection of a backend.
//!
//! SQLite's calls can block, so they run on a thread of their own, in the order they were asked for.
//! What has gathered while one was at work goes into one transaction (group commit). A short step
//! for which nothing is in the way (no call before it, no other process at the write lock, no log to
//! sync) runs on the caller's thread at once: it only writes to memory, and two changes of thread
//! would cost more than the step. A call that is dropped is carried out all the same, so a release
//! that follows finds what there is to release.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Poll;
use std::thread;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use rustix::event::EventfdFlags;
use rustix::event::eventfd;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::actor::Actor;
use crate::boot::Boot;
use crate::config::SqliteConfig;
use crate::core::Call;
use crate::core::Core;
use crate::core::Kind;
use crate::fs::Place;
use crate::store::Store;
use crate::wake::Wake;

/// The most calls in one transaction on a caller's thread: they take well under a millisecond.
const OWN_GROUP: usize = 32;

/// The callers' side.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    boot: Boot,
    /// Closed by the end of the thread.
    ended: watch::Receiver<()>,
}

/// What callers and thread share.
pub(crate) struct Shared {
    /// The connection; taken while calls are carried out, empty before and after. Locked before
    /// the queue, never after it.
    pub(crate) core: Mutex<Option<Core>>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) bell: OwnedFd,
    pub(crate) wake: Arc<Wake>,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) calls: VecDeque<Box<dyn Call>>,
    pub(crate) closed: bool,
    /// Whether the thread waits for the bell.
    pub(crate) asleep: bool,
}

impl Client {
    /// Starts the thread, which opens the database.
    pub(crate) async fn open(config: SqliteConfig, place: Place, boot: Boot) -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|cause| no_resource("a file", cause.into()))?;
        let wake = Arc::new(Wake::new(place.beside("-turn")));
        let (core, queue) = (Mutex::new(None), Mutex::default());
        let shared = Arc::new(Shared { core, queue, bell, wake });
        let (alive, ended) = watch::channel(());
        let client = Self { shared: shared.clone(), boot: boot.clone(), ended };
        let (opened, reply) = oneshot::channel();
        let run = move || {
            let _alive = alive;
            let actor = Actor::new(shared);
            let outcome = actor.open(&config, place, boot);
            let is_open = outcome.is_ok();
            if opened.send(outcome).is_ok() && is_open {
                actor.run();
            }
        };
        let thread = thread::Builder::new().name("lock-sqlite".into()).spawn(run);
        thread.map_err(|cause| no_resource("a thread", cause))?;
        reply.await.unwrap_or_else(|_| Err(thread_ended()))?;
        Ok(client)
    }

    pub(crate) fn boot(&self) -> &Boot {
        &self.boot
    }

    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.shared.wake
    }

    /// Runs a short step, on this thread if nothing is in its way.
    ///
    /// # Cancel safety
    ///
    /// As for [`call`](Self::call).
    pub(crate) async fn step<T: Send + 'static>(
        &self,
        work: impl Fn(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut reply = self.shared.push(Kind::Step, work)?;
        let mut hurry = Hurry { shared: &self.shared, done: false };
        // Others of this thread may have a step too: they all go into one transaction.
        yield_once().await;
        if let Ok(outcome) = reply.try_recv() {
            hurry.done = true;
            return outcome;
        }
        hurry.done = self.shared.try_pending();
        drop(hurry);
        reply.await.unwrap_or_else(|_| Err(thread_ended()))
    }

    /// Runs `work` on the connection's own thread.
    ///
    /// # Cancel safety
    ///
    /// Once it was polled, `work` is carried out whether or not the future is dropped.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl Fn(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reply = self.shared.push(kind, work)?;
        self.shared.ring(self.shared.lock());
        reply.await.unwrap_or_else(|_| Err(thread_ended()))
    }

    /// Lets the thread finish what it was asked for, close the connection and end.
    ///
    /// # Cancel safety
    ///
    /// Once it was polled, the thread ends whether or not the future is dropped.
    pub(crate) async fn close(&self) {
        self.shared.close();
        // Nothing is ever sent: this returns when the thread drops its end.
        let _ = self.ended.clone().changed().await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    /// Puts a call into the queue; somebody has to see to it.
    fn push<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl Fn(&Store) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (sender, reply) = oneshot::channel();
        let call = Pending { kind, work, outcome: Err(thread_ended()), sender };
        let mut queue = self.lock();
        if queue.closed {
            return Err(Error::new(ErrorKind::Closed, "the database was closed"));
        }
        queue.calls.push_back(Box::new(call));
        Ok(reply)
    }

    /// Carries out what is pending on this thread, if that can be done at once.
    fn try_pending(&self) -> bool {
        let Ok(mut slot) = self.core.try_lock() else { return false };
        let Some(core) = slot.as_mut() else { return false };
        let mut queue = self.lock();
        let quick = queue.calls.iter().all(|call| call.kind() == Kind::Step);
        if !quick || queue.calls.is_empty() || queue.calls.len() > OWN_GROUP {
            return false;
        }
        let mut steps: Vec<_> = queue.calls.drain(..).collect();
        drop(queue);
        let done = core.try_steps(&mut steps);
        if !done {
            // Before what has come since: the order of the queue is the order of the calls.
            let mut queue = self.lock();
            steps.drain(..).rev().for_each(|step| queue.calls.push_front(step));
        }
        let kept = core.rest().is_some();
        drop(slot);
        steps.into_iter().for_each(|step| step.answer());
        if kept {
            // The thread gives the turn away if no other call comes soon.
            self.ring(self.lock());
        }
        done
    }

    fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        self.ring(queue);
    }

    fn ring(&self, mut queue: MutexGuard<'_, Queue>) {
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            // A full counter means that the bell rings already.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings for what is left in the queue, also when its caller was dropped meanwhile.
struct Hurry<'a> {
    shared: &'a Shared,
    done: bool,
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.ring(self.shared.lock());
        }
    }
}

/// A call and its outcome.
struct Pending<T, W> {
    kind: Kind,
    work: W,
    outcome: Result<T>,
    sender: oneshot::Sender<Result<T>>,
}

impl<T: Send, W: Fn(&Store) -> Result<T> + Send> Call for Pending<T, W> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn run(&mut self, store: &Store) {
        self.outcome = (self.work)(store);
    }

    fn fail(&mut self, error: Error) {
        self.outcome = Err(error);
    }

    fn can_repeat(&self) -> bool {
        self.outcome.as_ref().is_err_and(|error| error.is_retryable() && !error.is_ambiguous())
    }

    fn answer(self: Box<Self>) {
        drop(self.sender.send(self.outcome));
    }
}

/// Lets the other tasks of this thread go first.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

fn thread_ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the thread of the database ended unexpectedly")
        .permanent()
        .ambiguous()
}

fn no_resource(what: &str, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot start {what} for the database"))
        .with_source(cause)
}
