//! The one clock of the framework and its timers.
//!
//! Deadlines are instants of CLOCK_BOOTTIME, which goes on while the machine sleeps (std's `Instant`
//! does not), so a suspend cannot hide a loss. One thread per process wakes what is due, so a blocked
//! runtime cannot either. A [`ManualClock`] replaces both in tests.

mod manual;
mod system;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Add;
use std::ops::Sub;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use crate::sync::Mutex;
use crate::sync::MutexGuard;

pub use manual::ManualClock;

/// An instant of the boot clock, in nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(u64);

impl BootInstant {
    /// An instant that never comes.
    pub const FAR: Self = Self(u64::MAX);

    /// Returns the instant `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to this instant, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Saturates at [`BootInstant::FAR`].
impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// Saturates at boot.
impl Sub<Duration> for BootInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl fmt::Debug for BootInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after boot", Duration::from_nanos(self.0))
    }
}

/// A source of time and timers: the system's, or one that a test moves by hand. Cloning is cheap.
#[derive(Clone)]
pub struct Clock(Arc<dyn Source>);

/// What a kind of clock has to know.
trait Source: Send + Sync {
    fn now(&self) -> BootInstant;
    fn unix_micros(&self) -> u64;
    fn timers(&self) -> &Timers;
    /// Called after a timer was set that is due before all that were watched for.
    fn rearm(&self, at: BootInstant);
    fn name(&self) -> &'static str;
}

impl Clock {
    /// Returns the system's clock, shared by the whole process.
    pub fn system() -> Self {
        Self(system::shared())
    }

    /// Returns a clock that stands still until [`ManualClock::advance`] or
    /// [`ManualClock::jump`] moves it.
    pub fn manual() -> ManualClock {
        ManualClock::new()
    }

    /// Returns the present instant.
    pub fn now(&self) -> BootInstant {
        self.0.now()
    }

    /// Returns the wall clock in microseconds since 1970; for fences and display only, never for
    /// deadlines.
    pub fn unix_micros(&self) -> u64 {
        self.0.unix_micros()
    }

    /// Completes at `at`, woken by the clock's thread. Needs no runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping it removes the timer.
    pub fn sleep_until(&self, at: BootInstant) -> Sleep {
        Sleep { clock: self.clone(), at, timer: None }
    }

    /// Completes after `duration`; see [`sleep_until`](Self::sleep_until).
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Wakes `waker` at `at` and returns a number to cancel it with.
    pub(crate) fn wake_at(&self, at: BootInstant, waker: Waker) -> TimerId {
        let (id, rearm) = self.0.timers().insert(at, waker);
        if rearm {
            self.0.rearm(at);
        }
        id
    }

    /// Forgets a timer; one that has fired already is no error.
    pub(crate) fn cancel(&self, id: TimerId) {
        let waker = self.0.timers().lock().queue.remove(&id);
        // Dropped outside the mutex: the last waker of a hold drops that hold too.
        drop(waker);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.0.name())
    }
}

/// A timer that has been set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    at: BootInstant,
    number: u64,
}

/// The timers of one clock.
struct Timers(Mutex<TimerState>);

struct TimerState {
    queue: BTreeMap<TimerId, Waker>,
    next_number: u64,
    /// When the clock's thread will look next. Cancelling does not move it, so that a loop of
    /// short locks does not wake the thread each time.
    armed: BootInstant,
}

impl Timers {
    fn new() -> Self {
        let (queue, next_number, armed) = (BTreeMap::new(), 0, BootInstant::FAR);
        Self(Mutex::new(TimerState { queue, next_number, armed }))
    }

    fn lock(&self) -> MutexGuard<'_, TimerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the new timer and whether the thread has to look earlier than it meant to.
    fn insert(&self, at: BootInstant, waker: Waker) -> (TimerId, bool) {
        let mut state = self.lock();
        let id = TimerId { at, number: state.next_number };
        state.next_number += 1;
        state.queue.insert(id, waker);
        let rearm = at < state.armed;
        if rearm {
            state.armed = at;
        }
        (id, rearm)
    }

    /// Takes all that is due and arms for the next, which is returned.
    fn take_due(&self, now: BootInstant) -> (Vec<Waker>, BootInstant) {
        let mut state = self.lock();
        let mut due = Vec::new();
        while let Some(entry) = state.queue.first_entry() {
            if entry.key().at > now {
                break;
            }
            due.push(entry.remove());
        }
        state.armed = state.queue.first_key_value().map_or(BootInstant::FAR, |(id, _)| id.at);
        (due, state.armed)
    }
}

/// The future of [`Clock::sleep_until`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    clock: Clock,
    at: BootInstant,
    timer: Option<(TimerId, Waker)>,
}

impl Sleep {
    fn disarm(&mut self) {
        if let Some((id, _)) = self.timer.take() {
            self.clock.cancel(id);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            self.disarm();
            return Poll::Ready(());
        }
        if self.timer.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.disarm();
        let id = self.clock.wake_at(self.at, cx.waker().clone());
        self.timer = Some((id, cx.waker().clone()));
        // The clock may have passed `at` between the first look and the timer.
        if self.clock.now() >= self.at {
            self.disarm();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timer {} at {:?}", self.number, self.at)
    }
}
