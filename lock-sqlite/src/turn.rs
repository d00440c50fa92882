//! Turns at SQLite's write lock, so that a busy process cannot starve the others.
//!
//! SQLite's busy handler sleeps while others write, and a process in a hot loop takes the lock again
//! before any sleeper looks: measured, two such loops get 14,832 grants against 1. So writers take
//! turns on two side files. To enter, a process locks the *next* file, then the *turn* file, and
//! leaves the *next* file; whoever has just had a turn finds the *next* file locked by the first
//! who waits and cannot pass it. A turn lasts for [`SLICE`] if others wait, so that the hand-over
//! costs a few per cent.
//!
//! Safety never depends on this. A process that was stopped in its turn, or cannot open the files,
//! costs the others [`PATIENCE`] once in [`DISTRUST`]; they go on with SQLite's busy handler.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use rustix::event::poll;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::flock;
use rustix::time::Timespec;

use crate::fs::Place;

/// How long a turn lasts while others wait.
const SLICE: Duration = Duration::from_millis(2);

/// How long a turn is kept idle for a caller that may come back while others wait.
const LINGER: Duration = Duration::from_micros(200);

/// How long to wait for a turn before going on without.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long not to wait again after that.
const DISTRUST: Duration = Duration::from_secs(5);

/// How often the one who is next looks for the turn.
const NEXT_LOOKS: Duration = Duration::from_micros(50);

/// How often the others look for the place of the next; below [`SLICE`], so that it is never empty
/// for a whole turn.
const OTHERS_LOOK: Duration = Duration::from_millis(1);

/// This backend's part in the taking of turns.
#[derive(Debug)]
pub(crate) struct Turn {
    files: Option<Files>,
    since: Option<Instant>,
    /// When the turn was last asked to rest.
    used: Instant,
    /// Whether others were in the way when the turn was taken.
    contended: bool,
    distrust_until: Option<Instant>,
}

#[derive(Debug)]
struct Files {
    next: OwnedFd,
    turn: OwnedFd,
}

impl Turn {
    /// Opens the side files; without them there are no turns.
    pub(crate) fn open(place: &Place) -> Self {
        // Timers are coarse by default: 50 µs late is as long as the wait for a turn itself.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        let files = open_side_file(&place.beside("-next"))
            .zip(open_side_file(&place.beside("-turn")))
            .map(|(next, turn)| Files { next, turn });
        Self { files, since: None, used: Instant::now(), contended: false, distrust_until: None }
    }

    /// Takes the turn if nobody has it or waits for it, and tells whether to go on.
    pub(crate) fn try_take(&mut self) -> bool {
        self.used = Instant::now();
        if self.is_over() {
            self.rest();
        }
        if self.since.is_none() {
            let entered = self.files.as_ref().is_none_or(|files| files.enter(self.used));
            self.since = entered.then_some(self.used);
            self.contended = !entered;
        }
        self.since.is_some()
    }

    /// Takes the turn if it can be had in time; the caller goes on in any case.
    pub(crate) fn take(&mut self) {
        self.used = Instant::now();
        let Some(files) = &self.files else { return };
        if self.since.is_some() {
            return;
        }
        let start = self.used;
        let trusts = self.distrust_until.is_none_or(|until| start >= until);
        let deadline = start + if trusts { PATIENCE } else { Duration::ZERO };
        self.contended = !files.enter(start);
        if !self.contended || files.enter(deadline) {
            self.distrust_until = None;
            self.since = Some(Instant::now());
        } else if trusts {
            self.distrust_until = Some(start + DISTRUST);
        }
    }

    /// Gives the turn away if others wait and it has lasted long enough.
    pub(crate) fn pass(&mut self) {
        if self.is_over() && self.is_wanted() {
            self.give();
        }
    }

    /// Gives the turn away, or says how long to keep it for a caller that may come back.
    pub(crate) fn rest(&mut self) -> Option<Duration> {
        self.since?;
        let idle = self.used.elapsed();
        if self.contended && idle < LINGER && !self.is_over() && self.is_wanted() {
            return Some(LINGER);
        }
        self.give();
        None
    }

    /// Gives the turn away.
    pub(crate) fn give(&mut self) {
        if let (Some(files), Some(_)) = (&self.files, self.since.take()) {
            unlock(&files.turn);
        }
    }

    /// Tells all who watch the turn file, in every process, that a key was freed.
    pub(crate) fn announce(&self) {
        if let Some(files) = &self.files {
            // Reading one byte is the event. Nobody hears of it if the file is empty.
            let _ = rustix::io::pread(&files.turn, &mut [0_u8; 1], 0);
        }
    }

    fn is_over(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= SLICE)
    }

    fn is_wanted(&self) -> bool {
        let Some(files) = &self.files else { return false };
        let free = try_lock(&files.next);
        if free {
            unlock(&files.next);
        }
        !free
    }
}

impl Files {
    fn enter(&self, deadline: Instant) -> bool {
        if !lock_by(&self.next, deadline, OTHERS_LOOK) {
            return false;
        }
        let entered = lock_by(&self.turn, deadline, NEXT_LOOKS);
        unlock(&self.next);
        entered
    }
}

/// The files have no content but one byte, which is read to wake those who watch.
fn open_side_file(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o666);
    let writable = rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE | flags, mode);
    let Ok(file) = writable else {
        // Another user's file can still be locked and read.
        return rustix::fs::open(path, OFlags::RDONLY | flags, mode).ok();
    };
    if rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_size == 0) {
        let _ = rustix::io::pwrite(&file, b"\n", 0);
    }
    Some(file)
}

fn lock_by(file: &OwnedFd, deadline: Instant, pause: Duration) -> bool {
    while !try_lock(file) {
        if Instant::now() >= deadline {
            return false;
        }
        rest_for(pause);
    }
    true
}

fn try_lock(file: &OwnedFd) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn unlock(file: &OwnedFd) {
    let _ = flock(file, FlockOperation::Unlock);
}

fn rest_for(pause: Duration) {
    let pause = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
    let _ = poll(&mut [], Some(&pause));
}
