//! The time limits of the requests that are under way, all of one length.
//!
//! They end in the order in which they began, so they stand in a line with one alarm for its head. Who is
//! answered leaves the line and does not touch the alarm: a request costs a place in the line and neither a
//! timer nor a wake-up. An alarm that finds nothing to do is set again for whoever is the head by then.

use std::fmt;
use std::future::Future;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

use crate::BootInstant;
use crate::Clock;
use crate::clock::TimerId;
use crate::sync::Mutex;
use crate::sync::MutexGuard;

/// Where the limits of one length stand.
pub(crate) struct Limits(Arc<Line>);

impl Limits {
    pub(super) fn new(clock: Clock, length: Duration) -> Self {
        let state = State { places: Slab::new(), first: None, last: None, alarm: None };
        Self(Arc::new(Line { clock, length, state: Mutex::new(state) }))
    }

    /// Completes when a request that has begun at `now` has had its time.
    ///
    /// Dropping it leaves the line.
    pub(super) fn begin(&self, now: BootInstant) -> Limit<'_> {
        Limit { line: &self.0, until: now + self.0.length, place: None }
    }

    /// Wakes all who stand in the line, for something else to look at.
    pub(super) fn wake_all(&self) {
        let state = self.0.state();
        let wakers: Vec<_> =
            state.places.iter().filter_map(|(_, place)| place.waker.clone()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The line of the limits that have not been reached.
struct Line {
    clock: Clock,
    length: Duration,
    state: Mutex<State>,
}

struct State {
    places: Slab<Place>,
    first: Option<usize>,
    last: Option<usize>,
    /// Set for the head of the line, or for one that has left since.
    alarm: Option<TimerId>,
}

/// One limit, in the line until it is reached.
struct Place {
    until: BootInstant,
    /// Who waits; nobody once the limit has been reached.
    waker: Option<Waker>,
    before: Option<usize>,
    behind: Option<usize>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters at the end of the line. Who took long to come here stands behind some who began later, and is
    /// woken late by as much.
    fn enter(self: &Arc<Self>, until: BootInstant, waker: Waker) -> usize {
        let mut state = self.state();
        let place = Place { until, waker: Some(waker), before: state.last, behind: None };
        let at = state.places.insert(place);
        match state.last.replace(at) {
            Some(last) => state.places[last].behind = Some(at),
            None => state.first = Some(at),
        }
        if state.alarm.is_none() {
            self.set_alarm(&mut state, until);
        }
        at
    }

    fn set_alarm(self: &Arc<Self>, state: &mut State, at: BootInstant) {
        let waker = Waker::from(Arc::new(Alarm(Arc::downgrade(self))));
        state.alarm = Some(self.clock.wake_at(at, waker));
    }

    /// Wakes those whose time is up, and sets the alarm for the next.
    fn ring(self: &Arc<Self>) {
        let mut due = Vec::new();
        let mut state = self.state();
        state.alarm = None;
        let now = self.clock.now();
        while let Some(first) = state.first {
            let until = state.places[first].until;
            if until > now {
                self.set_alarm(&mut state, until);
                break;
            }
            due.extend(state.leave(first));
        }
        drop(state);
        for waker in due {
            // One waker that panics must not take the limits of the others with it.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

impl State {
    /// Takes a place out of the line, if it is in there, and whoever waits at it.
    fn leave(&mut self, at: usize) -> Option<Waker> {
        let place = &mut self.places[at];
        let waker = place.waker.take()?;
        let (before, behind) = (place.before, place.behind);
        match before {
            Some(before) => self.places[before].behind = behind,
            None => self.first = behind,
        }
        match behind {
            Some(behind) => self.places[behind].before = before,
            None => self.last = before,
        }
        Some(waker)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let alarm = self.state().alarm.take();
        alarm.into_iter().for_each(|alarm| self.clock.cancel(alarm));
    }
}

/// The clock calls here when the head of the line may be due.
struct Alarm(Weak<Line>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if let Some(line) = self.0.upgrade() {
            line.ring();
        }
    }
}

/// The future of [`Limits::begin`].
#[must_use = "a limit does nothing unless it is awaited"]
pub(super) struct Limit<'a> {
    line: &'a Arc<Line>,
    until: BootInstant,
    /// Where it stands, once it has been polled.
    place: Option<usize>,
}

impl Future for Limit<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.place else {
            self.place = Some(self.line.enter(self.until, cx.waker().clone()));
            return Poll::Pending;
        };
        if self.line.clock.now() >= self.until {
            return Poll::Ready(());
        }
        let mut state = self.line.state();
        let waker = state.places[at].waker.as_mut().filter(|waker| !waker.will_wake(cx.waker()));
        let old = waker.map(|waker| std::mem::replace(waker, cx.waker().clone()));
        // Dropped outside the mutex, as a waker may run code.
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        let Some(at) = self.place else { return };
        let mut state = self.line.state();
        let waker = state.leave(at);
        state.places.remove(at);
        drop(state);
        drop(waker);
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limits({} under way)", self.0.state().places.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(5);
    const SECOND: Duration = Duration::from_secs(1);

    /// Counts how often it was woken, and panics if it is to.
    #[derive(Default)]
    struct Counter(AtomicUsize, bool);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert!(!self.1, "a waker of somebody's executor");
        }
    }

    /// A limit in somebody's task.
    struct Task<'a> {
        limit: Pin<Box<Limit<'a>>>,
        counter: Arc<Counter>,
    }

    impl<'a> Task<'a> {
        fn begin(limits: &'a Limits, panics: bool) -> Self {
            let counter = Arc::new(Counter(AtomicUsize::new(0), panics));
            let mut task = Self { limit: Box::pin(limits.begin(limits.0.clock.now())), counter };
            assert!(!task.is_over());
            task
        }

        fn is_over(&mut self) -> bool {
            let waker = Waker::from(self.counter.clone());
            self.limit.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        }

        fn woken(&self) -> usize {
            self.counter.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn each_ends_at_its_own_time_whoever_left_before() {
        let hand = Clock::manual();
        let limits = Limits::new(hand.clock(), LENGTH);
        let mut tasks = Vec::new();
        for _ in 0..5 {
            tasks.push(Task::begin(&limits, false));
            hand.jump(SECOND);
        }
        // The head, whose alarm it is, one in the middle, and the last.
        for gone in [4, 2, 0] {
            drop(tasks.remove(gone));
        }
        // The place of one that has left is another's.
        tasks.push(Task::begin(&limits, false));
        let mut ends = vec![Vec::new(); tasks.len()];
        for second in 6..=11 {
            hand.jump(SECOND);
            for (task, end) in tasks.iter_mut().zip(&mut ends) {
                if task.woken() == 1 && task.is_over() {
                    end.push(second);
                }
            }
        }
        assert_eq!(ends.iter().map(|end| end[0]).collect::<Vec<_>>(), [6, 8, 10]);
    }

    #[test]
    fn a_row_of_short_requests_leaves_nothing_and_rings_once() {
        let hand = Clock::manual();
        let limits = Limits::new(hand.clock(), LENGTH);
        for _ in 0..100 {
            drop(Task::begin(&limits, false));
            assert!(limits.0.state().alarm.is_some());
        }
        assert!(limits.0.state().places.is_empty());
        hand.jump(LENGTH);
        assert!(limits.0.state().alarm.is_none());
    }

    #[test]
    fn a_waker_that_panics_stops_no_other() {
        let hand = Clock::manual();
        let limits = Limits::new(hand.clock(), LENGTH);
        let tasks = [true, false].map(|panics| Task::begin(&limits, panics));
        hand.jump(LENGTH);
        assert_eq!(tasks.map(|task| task.woken()), [1, 1]);
    }

    #[test]
    fn who_has_moved_to_another_task_is_woken_there() {
        let hand = Clock::manual();
        let limits = Limits::new(hand.clock(), LENGTH);
        let mut task = Task::begin(&limits, false);
        let before = std::mem::take(&mut task.counter);
        assert!(!task.is_over());
        hand.jump(LENGTH);
        assert_eq!((before.0.load(Ordering::Relaxed), task.woken()), (0, 1));
    }
}
