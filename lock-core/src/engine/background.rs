//! Where the engine does what no caller waits for: renewals, polls and late releases.

use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::options::Background;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::Unattended;
use crate::sync::Notify;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs jobs, and counts those that a shutdown has to wait for.
#[derive(Debug)]
pub(crate) struct Executor {
    place: Place,
    debts: Arc<Debts>,
}

#[derive(Debug)]
enum Place {
    Thread(mpsc::UnboundedSender<Job>),
    Runtime(Handle),
    /// As tasks of the scheduler that tries out interleavings.
    #[cfg(shuttle)]
    Tasks,
}

impl Executor {
    pub(crate) fn new(background: Background) -> Result<Self> {
        let place = match background {
            #[cfg(not(shuttle))]
            Background::Thread => start_thread().map_err(no_thread)?,
            #[cfg(shuttle)]
            Background::Thread => Place::Tasks,
            Background::Runtime(handle) => Place::Runtime(handle),
        };
        Ok(Self { place, debts: Arc::default() })
    }

    /// Runs `job` some time, without blocking; drops it if the runtime has ended.
    pub(crate) fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        match &self.place {
            // The thread ends after the last sender, so it is there.
            Place::Thread(jobs) => drop(jobs.send(Box::pin(job))),
            Place::Runtime(handle) => drop(handle.spawn(job)),
            // Not let go of, so that the scheduler sees each to its end.
            #[cfg(shuttle)]
            Place::Tasks => std::mem::forget(shuttle::future::spawn(job)),
        }
    }

    /// Runs `job` to its end, also if nobody waits for its outcome any more.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (outcome, brought) = oneshot::channel();
        self.spawn(async move { drop(outcome.send(job.await)) });
        brought
    }

    /// Polls a request in its caller's task, and goes on with it here if the caller is dropped:
    /// [`settled`](Self::settled) waits for it.
    pub(crate) async fn see_through<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let _debt = self.owe();
        let leave = |rest| self.spawn_debt(async move { drop(rest.await) });
        Unattended::new(request, leave).await
    }

    /// Counts a debt to the store that a caller pays: [`settled`](Self::settled) waits for it.
    pub(crate) fn owe(&self) -> Debt<&Debts> {
        Debt::new(&*self.debts)
    }

    /// Runs a job that pays a debt to the store: [`settled`](Self::settled) waits for it.
    pub(crate) fn spawn_debt(&self, job: impl Future<Output = ()> + Send + 'static) {
        let debt = Debt::new(self.debts.clone());
        self.spawn(async move {
            job.await;
            drop(debt);
        });
    }

    /// Returns how many debts are unpaid.
    pub(crate) fn debts(&self) -> usize {
        self.debts.unpaid.load(Ordering::SeqCst)
    }

    /// Completes when no debt is unpaid.
    pub(crate) async fn settled(&self) {
        self.debts.awaited.store(true, Ordering::SeqCst);
        loop {
            let paid = self.debts.paid.notified();
            tokio::pin!(paid);
            paid.as_mut().enable();
            if self.debts() == 0 {
                return;
            }
            paid.await;
        }
    }
}

/// How many debts are unpaid.
#[derive(Debug, Default)]
pub(crate) struct Debts {
    unpaid: AtomicUsize,
    /// Whether anybody wants to know that all are paid: only a shutdown does.
    awaited: AtomicBool,
    paid: Notify,
}

/// Counts one debt until it is dropped.
#[derive(Debug)]
pub(crate) struct Debt<D: Deref<Target = Debts>>(D);

impl<D: Deref<Target = Debts>> Debt<D> {
    fn new(debts: D) -> Self {
        debts.unpaid.fetch_add(1, Ordering::SeqCst);
        Self(debts)
    }
}

impl<D: Deref<Target = Debts>> Drop for Debt<D> {
    fn drop(&mut self) {
        let last = self.0.unpaid.fetch_sub(1, Ordering::SeqCst) == 1;
        // Either this sees that somebody waits, or they see that nothing is left.
        if last && self.0.awaited.load(Ordering::SeqCst) {
            self.0.paid.notify_waiters();
        }
    }
}

#[cfg_attr(shuttle, allow(dead_code, reason = "tasks of the scheduler stand in for the thread"))]
fn start_thread() -> io::Result<Place> {
    let (jobs, queue) = mpsc::unbounded_channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let work = move || runtime.block_on(run(queue));
    thread::Builder::new().name("lock-engine".into()).spawn(work)?;
    Ok(Place::Thread(jobs))
}

#[cfg_attr(shuttle, allow(dead_code, reason = "tasks of the scheduler stand in for the thread"))]
fn no_thread(error: io::Error) -> Error {
    let message = "the process cannot start the thread that renews its locks: raise its limits";
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

/// Runs what comes until the engine is gone, then finishes what has begun.
async fn run(mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            job = queue.recv() => match job {
                Some(job) => drop(running.spawn(job)),
                None => break,
            },
            Some(_) = running.join_next() => {}
        }
    }
    while running.join_next().await.is_some() {}
}
