//! What a program is made of. It prints as it would be written here, so that a failure can be kept.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use lock_core::Backoff;
use lock_core::LockOptions;
use lock_core::Mode;
use lock_core::Wait;
use lock_memory::Call;
use lock_memory::When;

/// How long a session lives in the store without being kept, and so the smallest TTL on one.
pub(crate) const SESSION: u64 = 2_000;

/// The keys that programs contend for.
pub(crate) const KEYS: [&str; 2] = ["a", "b"];

/// How many providers there are.
pub(crate) const SITES: usize = 2;

/// A sequence of steps over one store. Providers, keys, guards, handles and calls go by number, modulo
/// how many there are; a step that finds none does nothing.
#[derive(Clone)]
pub(crate) struct Program {
    /// Whether clients have a session each, instead of a lease per lock.
    pub(crate) session: bool,
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Lock(u8, u8, Asked),
    TryLock(u8, u8, Asked),
    /// Releases a guard; drops the future after so many polls.
    Unlock(u8, Polls),
    DropGuard(u8),
    Extend(u8, u64, Polls),
    Detach(u8),
    Renew(u8, u8, u64),
    Release(u8, u8),
    /// Drops the future of a call that is under way.
    Cancel(u8),
    Look(u8, u8),
    /// Forces a key open; `true` ends the holder's whole session.
    Force(u8, u8, bool),
    Cleanup(u8),
    Shutdown(u8, u64),
    Advance(u64),
    /// Moves time at once, as a machine that slept sees it.
    Jump(u64),
    Fail(u8, Call, When),
    /// As `Fail`, with an error that repeating does not help.
    Refuse(u8, Call),
    FailAll(u8),
    Hang(u8, Call, When),
    Delay(u8, Call, When, u64),
    /// Lets all go on that hangs.
    Resume(u8),
    Mute(u8),
    Heal(u8),
    Expire(u8),
    Steal(u8, u64),
    EndSession(u8),
    Forget,
}

/// After how many polls a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polls {
    All,
    Only(u8),
}

/// The options of a lock call.
#[derive(Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) mode: Mode,
    pub(crate) wait: Waits,
    pub(crate) ttl: u64,
    pub(crate) fair: bool,
    pub(crate) owner: Option<&'static str>,
    pub(crate) min_hold: u64,
    pub(crate) max_hold: Option<u64>,
    pub(crate) renews: bool,
    pub(crate) grace: Option<u64>,
    pub(crate) polls: Polls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Never,
    For(u64),
    Forever,
    /// So many attempts, so far apart.
    Attempts(u32, u64),
}

/// The plainest call: exclusive, without waiting, with a TTL of 10 s.
pub(crate) const fn ask() -> Asked {
    Asked {
        mode: Mode::Exclusive,
        wait: Waits::Never,
        ttl: 10_000,
        fair: false,
        owner: None,
        min_hold: 0,
        max_hold: None,
        renews: true,
        grace: None,
        polls: Polls::All,
    }
}

pub(crate) fn permits(of: u32) -> Mode {
    Mode::Permits { of: NonZeroU32::new(of).expect("more than none") }
}

impl Asked {
    /// What it comes to as options of the library.
    pub(crate) fn options(&self) -> LockOptions {
        let wait = match self.wait {
            Waits::Never => Wait::Never,
            Waits::For(limit) => Wait::For(ms(limit)),
            Waits::Forever => Wait::Forever,
            Waits::Attempts(max, pause) => {
                Wait::Attempts { max, backoff: Backoff::fixed(ms(pause)) }
            }
        };
        let options = LockOptions::new().mode(self.mode).wait(wait).ttl(ms(self.ttl));
        let mut options = options.min_hold(ms(self.min_hold));
        options.fair = self.fair;
        options.owner = self.owner.map(str::to_owned);
        options.max_hold = self.max_hold.map(ms);
        options.grace = self.grace.map(ms);
        if self.renews { options } else { options.without_renewal() }
    }

    /// Whether it stands in the local line or in the store's, if need be.
    pub(crate) fn waits(&self) -> bool {
        !matches!(self.wait, Waits::Never | Waits::For(0) | Waits::Attempts(..=1, _))
    }

    /// Whether its attempts are counted.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.wait, Waits::Attempts(..))
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Only what differs from [`ask`].
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = ask();
        f.write_str("Asked { ")?;
        if self.mode != plain.mode {
            write!(f, "mode: {:?}, ", self.mode)?;
        }
        if self.wait != plain.wait {
            write!(f, "wait: {:?}, ", self.wait)?;
        }
        if self.ttl != plain.ttl {
            write!(f, "ttl: {}, ", self.ttl)?;
        }
        if self.fair {
            f.write_str("fair: true, ")?;
        }
        if let Some(owner) = self.owner {
            write!(f, "owner: Some({owner:?}), ")?;
        }
        if self.min_hold > 0 {
            write!(f, "min_hold: {}, ", self.min_hold)?;
        }
        if let Some(limit) = self.max_hold {
            write!(f, "max_hold: Some({limit}), ")?;
        }
        if !self.renews {
            f.write_str("renews: false, ")?;
        }
        if let Some(grace) = self.grace {
            write!(f, "grace: Some({grace}), ")?;
        }
        if self.polls != plain.polls {
            write!(f, "polls: {:?}, ", self.polls)?;
        }
        f.write_str("..ask() }")
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "on {}:", if self.session { "sessions" } else { "leases" })?;
        self.steps.iter().try_for_each(|step| writeln!(f, "    {step:?},"))
    }
}
