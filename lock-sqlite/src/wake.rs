//! Wakes those who wait when another process makes room.
//!
//! Whoever frees a key or leaves its line reads one byte of the *turn* file after the commit;
//! whoever waits has an inotify watch for that. The read costs a third of a microsecond, dirties
//! nothing, and the kernel drops the event at once when nobody watches. An event does not name the
//! key, so the one who is woken looks with one SELECT whose turn it is and hints only those.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use lock_core::Claim;
use lock_core::Hint;
use lock_core::Watch;
use rustix::fs::inotify;
use rustix::fs::inotify::CreateFlags;
use rustix::fs::inotify::WatchFlags;

/// The waiters of one backend and its one inotify descriptor.
#[derive(Debug)]
pub(crate) struct Wake {
    inotify: Option<OwnedFd>,
    path: PathBuf,
    state: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// The kernel's number of the watch, while there is one.
    armed: Option<i32>,
    last_id: u64,
    hints: BTreeMap<u64, (Claim, Hint)>,
}

impl Wake {
    /// Prepares to watch the file at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        // The kernel allows a user 128 of these by default; beyond, waiters poll.
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Self { inotify, path, state: Mutex::default() }
    }

    /// Returns the descriptor that becomes readable when a key was freed.
    pub(crate) fn descriptor(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    /// Registers `hint` for what makes room for `claim` after this returns.
    pub(crate) fn watch(self: &Arc<Self>, claim: &Claim, hint: Hint) -> Watch {
        let mut state = self.lock();
        if !self.arm(&mut state) {
            return Watch::none();
        }
        state.last_id += 1;
        let id = state.last_id;
        state.hints.insert(id, (claim.clone(), hint));
        drop(state);
        Watch::new(Registered { wake: self.clone(), id })
    }

    /// Empties the descriptor and returns whom to look for. When nobody waits any more the watch
    /// is taken away: not earlier, so that short waits do not set it each time.
    pub(crate) fn drain(&self) -> Vec<(Claim, Hint)> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let mut state = self.lock();
        let mut events = [0_u8; 4096];
        while rustix::io::read(inotify, &mut events).is_ok_and(|bytes| bytes > 0) {}
        if state.hints.is_empty()
            && let Some(watch) = state.armed.take()
        {
            let _ = inotify::remove_watch(inotify, watch);
        }
        state.hints.values().cloned().collect()
    }

    fn arm(&self, state: &mut Waiters) -> bool {
        if state.armed.is_none()
            && let Some(inotify) = &self.inotify
        {
            let flags = WatchFlags::ACCESS | WatchFlags::DONT_FOLLOW;
            state.armed = inotify::add_watch(inotify, &self.path, flags).ok();
        }
        state.armed.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiter's place among the hints.
struct Registered {
    wake: Arc<Wake>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let forgotten = self.wake.lock().hints.remove(&self.id);
        // Dropped outside the mutex: wakers run code.
        drop(forgotten);
    }
}
