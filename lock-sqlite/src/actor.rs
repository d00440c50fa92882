//! The thread that owns the connection: it carries calls out, wakes waiters and gives turns away.

use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use lock_core::Hint;
use lock_core::Result;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;
use rustix::time::Timespec;

use crate::boot::Boot;
use crate::client::Shared;
use crate::config::SqliteConfig;
use crate::core::Call;
use crate::core::Core;

use crate::fs::Place;
use crate::open::open;
use crate::store::Store;
use crate::turn::Turn;

/// The most calls in one transaction: more would keep other processes waiting for too long.
const GROUP: usize = 128;

/// The shortest time between two looks for waiters: releases in a hot loop elsewhere must not cost
/// a waiter's process more than a few per cent of a core.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// The thread's side of a [`Client`](crate::client::Client).
pub(crate) struct Actor(Arc<Shared>);

/// What there is to do next.
enum Next {
    /// Answer, then look for more.
    Answer(Vec<Box<dyn Call>>),
    /// Wait, at most for so long if it is said.
    Wait(Option<Duration>),
    End,
}

impl Actor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Opens the database. Many that open a new file at once would fail on each other's change of
    /// the journal, so they take turns.
    pub(crate) fn open(&self, config: &SqliteConfig, place: Place, boot: Boot) -> Result<()> {
        let mut turn = Turn::open(&place);
        turn.take();
        let connection = open(config, &place)?;
        turn.give();
        let store = Store::new(connection, config, boot)?;
        *self.core() = Some(Core::new(store, place, turn));
        Ok(())
    }

    pub(crate) fn run(&self) {
        let mut next_look = Instant::now();
        loop {
            match self.next() {
                Next::Answer(calls) => calls.into_iter().for_each(|call| call.answer()),
                Next::Wait(limit) => {
                    let pause = next_look.saturating_duration_since(Instant::now());
                    if self.wait(limit, pause) {
                        self.look();
                        next_look = Instant::now() + LOOK_PAUSE;
                    }
                }
                Next::End => return,
            }
        }
    }

    /// Carries out what is pending. The queue is emptied under the connection's mutex, so that no
    /// caller's own step can come before what was asked earlier.
    fn next(&self) -> Next {
        let mut slot = self.core();
        let Some(core) = slot.as_mut() else { return Next::End };
        let mut queue = self.0.lock();
        if queue.calls.is_empty() {
            queue.asleep = !queue.closed;
            let closed = queue.closed;
            drop(queue);
            core.tend_log();
            return if closed { Next::End } else { Next::Wait(core.rest()) };
        }
        let count = queue.calls.len().min(GROUP);
        let mut calls: Vec<_> = queue.calls.drain(..count).collect();
        drop(queue);
        core.tend_log();
        core.carry_out(&mut calls);
        Next::Answer(calls)
    }

    /// Waits for the bell or `limit`; for a release by somebody too once `pause` is over, and tells
    /// of one.
    fn wait(&self, limit: Option<Duration>, pause: Duration) -> bool {
        let watched = self.0.wake.descriptor().filter(|_| pause.is_zero());
        let limit = [limit, (!pause.is_zero()).then_some(pause)].into_iter().flatten().min();
        let mut fds = vec![PollFd::new(&self.0.bell, PollFlags::IN)];
        fds.extend(watched.map(|watched| PollFd::new(watched, PollFlags::IN)));
        // Interrupted or not, the thread looks again.
        let _ = poll(&mut fds, limit.map(timespec).as_ref());
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(&self.0.bell, &mut [0_u8; 8]);
        }
        fds.get(1).is_some_and(|fd| !fd.revents().is_empty())
    }

    fn look(&self) {
        let hints = self.core().as_ref().map(|core| core.look(&self.0.wake));
        hints.iter().flatten().for_each(Hint::give);
    }

    fn core(&self) -> MutexGuard<'_, Option<Core>> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Also after a panic: calls are refused from now on, the callers of those that are left see their
/// reply dropped, and the connection is closed.
impl Drop for Actor {
    fn drop(&mut self) {
        let core = self.core().take();
        let mut queue = self.0.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.calls);
        drop(queue);
        drop((left, core));
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
