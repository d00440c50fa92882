//! Calls of users, each a task of its own that notes when it ended and with what.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Evicted;
use lock_core::KeyState;
use lock_core::LockGuard;
use lock_core::Result;
use tokio::task::JoinHandle;

use super::hold::Ears;
use super::program::Asked;
use super::program::Polls;
use super::truth::Truth;

/// A call under way.
pub(crate) struct Call {
    /// Counts up; those who came first have the lower number.
    pub(crate) number: usize,
    pub(crate) site: usize,
    pub(crate) what: What,
    pub(crate) began: BootInstant,
    /// What the store showed just before.
    pub(crate) before: Truth,
    /// Its place in line may be gone through no fault of the engine.
    pub(crate) disturbed: bool,
    /// Others of its owner have got in with it.
    pub(crate) blended: bool,
    task: JoinHandle<Ended>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Lock { key: usize, asked: Asked, expected: Expected, floor: u64 },
    Unlock { hold: usize, last: bool, valid: bool },
    Extend { hold: usize, ttl: u64, valid: bool },
    Renew { key: usize, fence: u64 },
    Release { key: usize, fence: u64 },
    Look { key: usize },
    Force { key: usize, session: bool },
    Cleanup,
    Shutdown { timeout: u64, first: bool },
}

/// What the reference says that a lock call has to come to, whatever the rest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The engine is free, or time will show.
    Open,
    /// The options cannot be.
    Invalid,
    Closed,
    /// Its owner holds the key already, under this fence.
    Enter(u64),
    /// Its owner holds the key in another mode.
    Clash,
    /// The key is free.
    Taken,
    /// The key is not free, and the call is not to wait.
    Refused,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) at: BootInstant,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its future was dropped after its polls.
    GivenUp,
    Locked(Result<(LockGuard, Ears)>),
    Done(Result<()>),
    Renewed(Result<Duration>),
    Looked(Result<(KeyState, bool, Vec<KeyState>)>),
    Forced(Result<Evicted>),
    Cleaned(Result<u64>),
}

impl Call {
    pub(crate) fn start(
        facts: (usize, usize, What, Truth),
        clock: &Clock,
        polls: Polls,
        future: impl Future<Output = Outcome> + Send + 'static,
    ) -> Self {
        let (number, site, what, before) = facts;
        let began = clock.now();
        let (clock, left) = (clock.clone(), if let Polls::Only(n) = polls { n } else { u8::MAX });
        let impatient = Impatient { future: Some(Box::pin(future)), left };
        let task = tokio::spawn(async move {
            let outcome = impatient.await;
            Ended { at: clock.now(), outcome }
        });
        Self { number, site, what, began, before, disturbed: false, blended: false, task }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Drops its future the next time that tasks run.
    pub(crate) fn cancel(self) {
        self.task.abort();
    }

    /// How it ended; call it once it is over.
    ///
    /// # Errors
    ///
    /// It panicked.
    pub(crate) async fn ended(&mut self) -> Result<Ended, String> {
        (&mut self.task).await.map_err(|failure| format!("a call panicked: {failure}"))
    }

    /// The key, the options and the fence below which nothing may be granted, if it is a lock call.
    pub(crate) fn lock(&self) -> Option<(usize, &Asked, u64)> {
        match &self.what {
            What::Lock { key, asked, floor, .. } => Some((*key, asked, *floor)),
            _ => None,
        }
    }

    /// Whether it waits for `key`.
    pub(crate) fn waits_for(&self, wanted: usize) -> bool {
        self.lock().is_some_and(|(key, asked, _)| key == wanted && asked.waits())
    }

    /// Whether it should have a place in the store's line for `key`.
    pub(crate) fn stands_in_line(&self, wanted: usize) -> bool {
        self.waits_for(wanted) && self.lock().is_some_and(|(_, asked, _)| asked.fair)
    }
}

/// A future that is dropped when it has been polled so often without an end.
struct Impatient<F> {
    future: Option<Pin<Box<F>>>,
    left: u8,
}

impl<F: Future<Output = Outcome>> Future for Impatient<F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(left) = self.left.checked_sub(1)
            && let Some(future) = self.future.as_mut()
        {
            if let Poll::Ready(outcome) = future.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            self.left = if left == u8::MAX - 1 { u8::MAX } else { left };
            if self.left > 0 {
                return Poll::Pending;
            }
        }
        self.future = None;
        Poll::Ready(Outcome::GivenUp)
    }
}
