//! Wakes those who wait when another process frees a key.
//!
//! Whoever frees a key reads one byte of the *turn* file after the commit; whoever waits has an inotify
//! watch for that. The read costs a third of a microsecond, dirties nothing, and the kernel
//! drops the event at once when nobody watches. An event does not name the key, so the one who
//! is woken looks with one SELECT which of its keys are free and hints only those.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use lock_core::Hint;
use lock_core::LockKey;
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
    by_key: BTreeMap<LockKey, Vec<(u64, Hint)>>,
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

    /// Registers `hint` for releases of `key` that come after this returns.
    pub(crate) fn watch(self: &Arc<Self>, key: &LockKey, hint: Hint) -> Watch {
        let mut state = self.lock();
        if !self.arm(&mut state) {
            return Watch::none();
        }
        state.last_id += 1;
        let id = state.last_id;
        state.by_key.entry(key.clone()).or_default().push((id, hint));
        drop(state);
        Watch::new(Registered { wake: self.clone(), key: key.clone(), id })
    }

    /// Empties the descriptor and returns the keys to look at. When nobody waits any more the watch
    /// is taken away: not earlier, so that short waits do not set it each time.
    pub(crate) fn drain(&self) -> Vec<LockKey> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let mut state = self.lock();
        let mut events = [0_u8; 4096];
        while rustix::io::read(inotify, &mut events).is_ok_and(|bytes| bytes > 0) {}
        if state.by_key.is_empty()
            && let Some(watch) = state.armed.take()
        {
            let _ = inotify::remove_watch(inotify, watch);
        }
        state.by_key.keys().cloned().collect()
    }

    /// Gives the hints of `keys`.
    pub(crate) fn hint<'a>(&self, keys: impl IntoIterator<Item = &'a LockKey>) {
        let state = self.lock();
        let waiting = keys.into_iter().filter_map(|key| state.by_key.get(key));
        let hints: Vec<Hint> = waiting.flatten().map(|(_, hint)| hint.clone()).collect();
        // A waker may do anything, so it is called outside the mutex.
        drop(state);
        hints.iter().for_each(Hint::give);
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

    fn forget(&self, key: &LockKey, id: u64) {
        let mut state = self.lock();
        if let Some(hints) = state.by_key.get_mut(key) {
            hints.retain(|(other, _)| *other != id);
            if hints.is_empty() {
                state.by_key.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiter's place among the hints.
struct Registered {
    wake: Arc<Wake>,
    key: LockKey,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.wake.forget(&self.key, self.id);
    }
}
