//! Where threads meet: the usual primitives, or those of a scheduler that tries out interleavings
//! (`--cfg shuttle`, see CONTRIBUTING.md).

#[cfg(not(shuttle))]
pub(crate) use std::sync::Mutex;
#[cfg(not(shuttle))]
pub(crate) use std::sync::MutexGuard;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic;
#[cfg(not(shuttle))]
pub(crate) use tokio::sync::Notify;

#[cfg(shuttle)]
pub(crate) use interleaved::Notify;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::Mutex;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::MutexGuard;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic;

#[cfg(shuttle)]
mod interleaved {
    use shuttle::thread::yield_now;
    use tokio::sync::futures::Notified;

    /// The usual one, each call of which is one step; others may come in before it.
    #[derive(Debug, Default)]
    pub(crate) struct Notify(tokio::sync::Notify);

    impl Notify {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notified(&self) -> Notified<'_> {
            yield_now();
            self.0.notified()
        }

        pub(crate) fn notify_waiters(&self) {
            yield_now();
            self.0.notify_waiters();
        }
    }
}
