//! Which boot of which machine this is, and its clock as every process on the host reads it.
//!
//! Leases end on CLOCK_BOOTTIME, which no one can set and which counts while the machine sleeps. A
//! boot id beside the instant says which boot it belongs to. A time namespace shifts the clock of
//! a container by a known offset; rows hold the host's time, so the offset is taken out again.

use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const OFFSETS: &str = "/proc/self/timens_offsets";
const OWN_NAMESPACE: &str = "/proc/self/ns/time";
const CHILDREN_NAMESPACE: &str = "/proc/self/ns/time_for_children";

/// This boot of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    id: String,
    clock: Clock,
    /// How far this process's boot clock is ahead of the host's, in nanoseconds.
    ahead: i64,
}

/// One reading of the clocks, in the units of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The boot the reading belongs to.
    pub(crate) boot: String,
    /// Nanoseconds of the host's boot clock.
    pub(crate) now: i64,
    /// When this boot began, in microseconds since 1970 by the wall clock as it stands now.
    pub(crate) booted: i64,
}

impl Boot {
    /// Asks the system.
    pub(crate) fn read() -> Result<Self> {
        let id = read_proc(BOOT_ID)?.trim().to_owned();
        if id.is_empty() {
            return Err(config(format!("{BOOT_ID} is empty; locks cannot tell boots apart")));
        }
        Ok(Self { id, clock: Clock::system(), ahead: namespace_offset()? })
    }

    #[cfg(test)]
    pub(crate) fn fake(id: &str, clock: Clock, ahead: i64) -> Self {
        Self { id: id.to_owned(), clock, ahead }
    }

    /// Returns the instant that a lease's `since` is made of, by this process's clock.
    pub(crate) fn instant(&self) -> BootInstant {
        self.clock.now()
    }

    /// Reads the clocks.
    pub(crate) fn moment(&self) -> Moment {
        let now = self.host_nanos(self.clock.now());
        let wall = i64::try_from(self.clock.unix_micros()).unwrap_or(i64::MAX);
        Moment { boot: self.id.clone(), now, booted: wall.saturating_sub(now / 1_000) }
    }

    /// Returns the host's boot time `after` this process's `instant`, in nanoseconds.
    pub(crate) fn host_nanos_after(&self, instant: BootInstant, after: Duration) -> i64 {
        self.host_nanos(instant + after)
    }

    fn host_nanos(&self, instant: BootInstant) -> i64 {
        i64::try_from(instant.as_nanos()).unwrap_or(i64::MAX).saturating_sub(self.ahead)
    }
}

/// Returns the boot clock's offset in this process's time namespace.
fn namespace_offset() -> Result<i64> {
    let Ok(own) = rustix::fs::readlink(OWN_NAMESPACE, Vec::new()) else {
        return Ok(0); // A kernel before 5.6, or one without time namespaces.
    };
    let children = rustix::fs::readlink(CHILDREN_NAMESPACE, Vec::new());
    if children.is_ok_and(|children| children != own) {
        // The kernel shows the offsets of the children's namespace only.
        let why = "this process gave its children another time namespace; connect from a child";
        return Err(config(why.into()));
    }
    let text = read_proc(OFFSETS)?;
    parse_offset(&text).ok_or_else(|| config(format!("{OFFSETS} has no boottime line: {text:?}")))
}

/// Finds the line `boottime SECONDS NANOSECONDS`.
fn parse_offset(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("boottime"))?;
    let mut figures = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanos) = (figures.next()?.ok()?, figures.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[expect(clippy::disallowed_methods, reason = "a file of the kernel, never of SQLite")]
fn read_proc(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| {
        config(format!("cannot read {path}, which tells one boot from another")).with_source(cause)
    })
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_has_a_boot_and_the_clock_runs() {
        let boot = Boot::read().unwrap();
        let moment = boot.moment();
        assert_eq!(moment.boot.len(), 36);
        assert!(moment.now > 0 && moment.booted > 0);
        assert!(boot.moment().now > moment.now);
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_taken_out() {
        assert_eq!(parse_offset("monotonic  0  0\nboottime   0  0\n"), Some(0));
        assert_eq!(parse_offset("boottime 86400 5"), Some(86_400_000_000_005));
        assert_eq!(parse_offset("boottime -2 0"), Some(-2_000_000_000));
        assert_eq!(parse_offset("monotonic 1 0"), None);
        assert_eq!(parse_offset("boottime x 0"), None);
        let clock = Clock::manual().clock();
        let host = Boot::fake("b", clock.clone(), 0).moment();
        let container = Boot::fake("b", clock, 7_000_000_000).moment();
        assert_eq!(host.now - container.now, 7_000_000_000);
        assert_eq!(container.booted - host.booted, 7_000_000);
    }
}
