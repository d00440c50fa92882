//! The one connection of a backend and the thread that owns it.
//!
//! SQLite's calls block, so they run on a thread of their own, in the order they were asked for. What
//! has gathered while one was at work goes into one transaction (group commit). A call that is
//! dropped is carried out all the same, so a release that follows finds what there is to release.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::eventfd;
use rustix::event::poll;
use rustix::time::Timespec;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::boot::Boot;
use crate::config::SqliteConfig;
use crate::fs::Identity;
use crate::fs::Place;
use crate::open::open;
use crate::statements::Statements;
use crate::store::Store;
use crate::turn::Turn;
use crate::wake::Wake;

/// The most calls in one transaction: more would keep other processes waiting for too long.
const GROUP: usize = 128;

/// The most keys in one look for those who wait.
const LOOK_KEYS: usize = 500;

/// The shortest time between two looks: releases in a hot loop elsewhere must not cost a waiter's
/// process more than a few per cent of a core.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// What a call does to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It reads.
    Read,
    /// It writes with one statement, which is a transaction of its own.
    Step,
    /// It writes with several statements, which need one transaction.
    Steps,
}

/// A call on its way: run on the connection, it leaves an answer, which is sent after the commit.
struct Call {
    kind: Kind,
    /// Does the work, or takes note that there is no store to do it on.
    run: Run,
}

type Run = Box<dyn FnOnce(Result<&Store>) -> Answer + Send>;

/// Sends a call's answer, or the failure that undid it.
type Answer = Box<dyn FnOnce(Option<Error>)>;

/// An [`Answer`] that knows what came of the commit.
type Reply = Box<dyn FnOnce()>;

/// The callers' side.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    boot: Boot,
    /// Closed by the end of the thread.
    ended: watch::Receiver<()>,
}

/// What callers and thread share.
struct Shared {
    queue: Mutex<Queue>,
    bell: OwnedFd,
}

struct Queue {
    calls: VecDeque<Call>,
    closed: bool,
    /// Whether the thread waits for the bell.
    asleep: bool,
}

impl Client {
    /// Starts the thread, which opens the database.
    pub(crate) async fn open(config: SqliteConfig, place: Place, boot: Boot) -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|cause| no_resource("a file", cause.into()))?;
        let queue = Mutex::new(Queue { calls: VecDeque::new(), closed: false, asleep: false });
        let shared = Arc::new(Shared { queue, bell });
        let wake = Arc::new(Wake::new(place.beside("-turn")));
        let (alive, ended) = watch::channel(());
        let client = Self { shared: shared.clone(), wake: wake.clone(), boot: boot.clone(), ended };
        let (opened, reply) = oneshot::channel();
        let run = move || {
            let _alive = alive;
            let _closer = Closer(shared.clone());
            match Actor::open(&config, place, boot, shared, wake) {
                Ok(mut actor) => {
                    let _ = opened.send(Ok(()));
                    actor.run();
                }
                Err(error) => drop(opened.send(Err(error))),
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
        &self.wake
    }

    /// Runs `work` on the connection.
    ///
    /// # Cancel safety
    ///
    /// Once it was polled, `work` is carried out whether or not the future is dropped.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, reply) = oneshot::channel();
        let run = move |store: Result<&Store>| -> Answer {
            let outcome = store.and_then(work);
            Box::new(move |undone| drop(sender.send(undone.map_or(outcome, Err))))
        };
        self.shared.push(Call { kind, run: Box::new(run) })?;
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
    fn push(&self, call: Call) -> Result<()> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Error::new(ErrorKind::Closed, "the database was closed"));
        }
        queue.calls.push_back(call);
        self.ring(queue);
        Ok(())
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

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// Refuses calls once the thread has ended, also by a panic; the callers of those that are left
/// see their reply dropped.
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.calls);
        drop(queue);
        drop(left);
    }
}

/// What the thread finds when it looks for work.
enum Work {
    Calls(Vec<Call>),
    None,
    End,
}

/// The thread's side.
struct Actor {
    store: Store,
    place: Place,
    identity: Option<Identity>,
    turn: Turn,
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    /// When the waiters' keys may be looked at again.
    next_look: Instant,
}

impl Actor {
    fn open(
        config: &SqliteConfig,
        place: Place,
        boot: Boot,
        shared: Arc<Shared>,
        wake: Arc<Wake>,
    ) -> Result<Self> {
        let mut turn = Turn::open(&place);
        // Many that open a new file at once would fail on each other's change of the journal.
        turn.take();
        let connection = open(config, &place)?;
        turn.give();
        let store = Store::new(connection, Statements::new(&config.table), boot);
        let identity = place.identity();
        let next_look = Instant::now();
        Ok(Self { store, place, identity, turn, shared, wake, next_look })
    }

    fn run(&mut self) {
        loop {
            match self.find_work() {
                Work::Calls(calls) => self.carry_out(calls),
                Work::None => self.wait(),
                Work::End => return,
            }
        }
    }

    fn find_work(&self) -> Work {
        let mut queue = self.shared.lock();
        if queue.calls.is_empty() {
            queue.asleep = !queue.closed;
            return if queue.closed { Work::End } else { Work::None };
        }
        let count = queue.calls.len().min(GROUP);
        Work::Calls(queue.calls.drain(..count).collect())
    }

    /// Waits for a call, or for a release by somebody while callers wait for one.
    fn wait(&mut self) {
        let linger = self.turn.rest();
        let pause = self.next_look.saturating_duration_since(Instant::now());
        let watched = self.wake.descriptor().filter(|_| pause.is_zero());
        let limit = [linger, (!pause.is_zero()).then_some(pause)].into_iter().flatten().min();
        let mut fds = vec![PollFd::new(&self.shared.bell, PollFlags::IN)];
        fds.extend(watched.map(|watched| PollFd::new(watched, PollFlags::IN)));
        // Interrupted or not, the thread looks again.
        let _ = poll(&mut fds, limit.map(timespec).as_ref());
        let rung = !fds[0].revents().is_empty();
        let freed = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if rung {
            let _ = rustix::io::read(&self.shared.bell, &mut [0_u8; 8]);
        } else if linger.is_some() {
            self.turn.give();
        }
        if freed {
            self.look();
        }
    }

    /// Hints the waiters whose keys are free. A key that cannot be judged is hinted too, so that
    /// the waiter's own attempt tells why.
    fn look(&mut self) {
        for keys in self.wake.drain().chunks(LOOK_KEYS) {
            match self.store.peek(keys) {
                Ok(peeks) => {
                    let free = |peek: &lock_core::Peek| matches!(peek, lock_core::Peek::Free);
                    let freed = keys.iter().zip(&peeks).filter(|(_, peek)| free(peek));
                    self.wake.hint(freed.map(|(key, _)| key));
                }
                Err(_) => self.wake.hint(keys),
            }
        }
        self.next_look = Instant::now() + LOOK_PAUSE;
    }

    fn carry_out(&mut self, calls: Vec<Call>) {
        let answers = if calls.iter().all(|call| call.kind == Kind::Read) {
            self.run_alone(calls)
        } else {
            self.write(calls)
        };
        for answer in answers {
            answer();
        }
    }

    fn write(&mut self, calls: Vec<Call>) -> Vec<Reply> {
        self.turn.pass();
        self.turn.take();
        let replies = if self.place.identity() != self.identity {
            refuse(calls, &replaced())
        } else if calls.len() == 1 && calls.iter().all(|call| call.kind == Kind::Step) {
            self.run_alone(calls)
        } else {
            self.run_grouped(calls)
        };
        // After the commit, so that whoever is woken finds the key free.
        if self.store.take_freed() {
            self.turn.announce();
        }
        replies
    }

    fn run_alone(&self, calls: Vec<Call>) -> Vec<Reply> {
        let run = |call: Call| -> Reply {
            let answer = (call.run)(Ok(&self.store));
            Box::new(move || answer(None))
        };
        calls.into_iter().map(run).collect()
    }

    /// Runs `calls` in one transaction. A statement that fails is undone by itself; a failure that
    /// ends the transaction, or of the commit, undoes all.
    fn run_grouped(&self, calls: Vec<Call>) -> Vec<Reply> {
        if let Err(error) = self.store.begin() {
            return refuse(calls, &error);
        }
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let store = if self.store.in_transaction() { Ok(&self.store) } else { Err(undone()) };
            answers.push((call.run)(store));
        }
        let failure =
            if self.store.in_transaction() { self.store.commit().err() } else { Some(undone()) };
        let reply = |answer: Answer| -> Reply {
            let failure = failure.clone();
            Box::new(move || answer(failure))
        };
        answers.into_iter().map(reply).collect()
    }
}

fn refuse(calls: Vec<Call>, error: &Error) -> Vec<Reply> {
    let refuse = |call: Call| -> Reply {
        let answer = (call.run)(Err(error.clone()));
        Box::new(move || answer(None))
    };
    calls.into_iter().map(refuse).collect()
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn undone() -> Error {
    let why = "a grave failure of the database undid the transaction";
    Error::new(ErrorKind::Unavailable, why).ambiguous()
}

fn replaced() -> Error {
    let why = "the database file was removed or replaced while it was open: connect again";
    Error::new(ErrorKind::Unavailable, why).permanent()
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
