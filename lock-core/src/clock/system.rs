//! The system's boot clock and the thread that wakes what is due on it.

use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::LazyLock;
use std::thread;

use rustix::time::ClockId;

use super::BootInstant;
use super::Source;
use super::Timers;

/// The one clock thread of the process. It is a resource, not a setting: nothing reads or changes
/// behaviour through it.
static SHARED: LazyLock<Arc<SystemClock>> = LazyLock::new(SystemClock::start);

pub(super) fn shared() -> Arc<dyn Source> {
    SHARED.clone()
}

struct SystemClock {
    timers: Timers,
    alarm: alarm::Alarm,
}

impl SystemClock {
    fn start() -> Arc<Self> {
        let clock = Arc::new(Self { timers: Timers::new(), alarm: alarm::Alarm::new() });
        let runner = clock.clone();
        thread::Builder::new()
            .name("lock-clock".into())
            .spawn(move || runner.run())
            .expect("the process can start one thread for its lock deadlines");
        clock
    }

    fn run(&self) {
        loop {
            let (due, next) = self.timers.take_due(now());
            for waker in due {
                // One waker that panics must not take the deadlines of the whole process with it.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
            self.alarm.wait_until(next);
        }
    }
}

impl Source for SystemClock {
    fn now(&self) -> BootInstant {
        now()
    }

    fn unix_micros(&self) -> u64 {
        nanos_of(ClockId::Realtime) / 1000
    }

    fn timers(&self) -> &Timers {
        &self.timers
    }

    fn rearm(&self, _at: BootInstant) {
        self.alarm.ring();
    }

    fn name(&self) -> &'static str {
        "system"
    }
}

fn now() -> BootInstant {
    BootInstant(nanos_of(alarm::CLOCK))
}

fn nanos_of(clock: ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod alarm {
    //! A timerfd on the boot clock, which also rings after a suspend, and an eventfd to interrupt it.

    use std::os::fd::OwnedFd;

    use rustix::event::EventfdFlags;
    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    use rustix::event::eventfd;
    use rustix::event::poll;
    use rustix::time::ClockId;
    use rustix::time::Itimerspec;
    use rustix::time::TimerfdClockId;
    use rustix::time::TimerfdFlags;
    use rustix::time::TimerfdTimerFlags;
    use rustix::time::Timespec;
    use rustix::time::timerfd_create;
    use rustix::time::timerfd_settime;

    use super::BootInstant;

    pub(super) const CLOCK: ClockId = ClockId::Boottime;

    pub(super) struct Alarm {
        timer: OwnedFd,
        bell: OwnedFd,
    }

    impl Alarm {
        pub(super) fn new() -> Self {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Boottime, flags);
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            Self {
                timer: timer.expect("Linux has timers on the boot clock since 3.15"),
                bell: bell.expect("the process can open one more file"),
            }
        }

        pub(super) fn ring(&self) {
            // A full counter means that the bell rings already.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }

        pub(super) fn wait_until(&self, at: BootInstant) {
            self.set(at);
            let mut fds =
                [PollFd::new(&self.timer, PollFlags::IN), PollFd::new(&self.bell, PollFlags::IN)];
            // Interrupted or not, the caller looks at the clock again.
            let _ = poll(&mut fds, None);
            let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
            let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        }

        fn set(&self, at: BootInstant) {
            // All zero would disarm, so an instant at boot becomes one nanosecond after it.
            let nanos = if at == BootInstant::FAR { 0 } else { at.as_nanos().max(1) };
            let value = Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
            };
            let spec =
                Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec);
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod alarm {
    //! A condition variable, capped so that a suspend delays a loss by a quarter second at most.
    //! The monotonic clock of the Apple systems goes on while they sleep.

    use std::sync::Condvar;
    use std::sync::Mutex;
    use std::sync::PoisonError;
    use std::time::Duration;

    use rustix::time::ClockId;

    use super::BootInstant;

    pub(super) const CLOCK: ClockId = ClockId::Monotonic;

    const CAP: Duration = Duration::from_millis(250);

    pub(super) struct Alarm {
        rung: Mutex<bool>,
        bell: Condvar,
    }

    impl Alarm {
        pub(super) fn new() -> Self {
            Self { rung: Mutex::new(false), bell: Condvar::new() }
        }

        pub(super) fn ring(&self) {
            *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.bell.notify_one();
        }

        pub(super) fn wait_until(&self, at: BootInstant) {
            let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            while !*rung {
                let left = at.saturating_since(super::now());
                if left.is_zero() {
                    break;
                }
                let guard = if at == BootInstant::FAR {
                    self.bell.wait(rung).unwrap_or_else(PoisonError::into_inner)
                } else {
                    let wait = self.bell.wait_timeout(rung, left.min(CAP));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                };
                rung = guard;
            }
            *rung = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Context;
    use std::task::Wake;
    use std::task::Waker;
    use std::time::Duration;

    use crate::Clock;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of somebody's executor");
        }
    }

    #[tokio::test]
    async fn a_waker_that_panics_stops_no_other() {
        let clock = Clock::system();
        let waker = Waker::from(Arc::new(Panics));
        let mut bad = Box::pin(clock.sleep(Duration::from_millis(5)));
        assert!(bad.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let good = clock.sleep(Duration::from_millis(20));
        tokio::time::timeout(Duration::from_secs(10), good).await.unwrap();
    }

    #[tokio::test]
    async fn sleeps_complete_in_order_and_not_early() {
        let clock = Clock::system();
        let start = clock.now();
        let long = clock.sleep(Duration::from_millis(40));
        let short = clock.sleep(Duration::from_millis(5));
        short.await;
        let middle = clock.now();
        long.await;
        assert!(middle.saturating_since(start) >= Duration::from_millis(5));
        assert!(clock.now().saturating_since(start) >= Duration::from_millis(40));
    }
}
