//! What this process uses, as the system says.

use std::fs;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::runtime::Handle;

use crate::Allocated;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Requests;
use crate::order::Usage;
use crate::subject::Subject;

/// Reads what the process uses; what it used before there were clients is taken off where it is counted.
pub(crate) struct Gauges {
    is_connection: fn(&str) -> bool,
    allocated: Option<Allocated>,
    threads: u64,
    tasks: u64,
    connections: u64,
}

impl Gauges {
    /// Takes the first reading, before any of the process's `seats` is there.
    pub(crate) fn new(
        subject: &Subject,
        seats: usize,
        allocated: Option<Allocated>,
    ) -> Outcome<Self> {
        let is_connection = subject.is_connection;
        let (threads, connections) = (threads()?, connections(is_connection)?);
        // Each seat will have a task that takes its orders.
        let tasks = tasks() + seats as u64;
        Ok(Self { is_connection, allocated, threads, tasks, connections })
    }

    pub(crate) fn read(&self, requests: Option<Requests>) -> Outcome<Usage> {
        Ok(Usage {
            process: std::process::id(),
            cpu: cpu(),
            resident: status("VmRSS:")? * 1024,
            allocated: self.allocated.map(|bytes| bytes() as u64),
            threads: threads()?.saturating_sub(self.threads),
            tasks: tasks().saturating_sub(self.tasks),
            connections: connections(self.is_connection)?.saturating_sub(self.connections),
            requests,
        })
    }
}

/// The time since boot, which all processes of the host agree on. Asked of the system itself: the
/// framework's clock comes with a thread, which would be counted for lanes that have none.
pub(crate) fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

fn cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

fn threads() -> Outcome<u64> {
    status("Threads:")
}

fn tasks() -> u64 {
    Handle::current().metrics().num_alive_tasks() as u64
}

/// Reads a number from what the kernel says of this process.
fn status(name: &str) -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::new(format!("/proc/self/status has no {name}")))
}

fn connections(is_connection: fn(&str) -> bool) -> Outcome<u64> {
    let files = fs::read_dir("/proc/self/fd")?.flatten();
    // The descriptor of the folder itself is closed again by the time it is looked at.
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    Ok(targets.filter(|target| target.to_str().is_some_and(is_connection)).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_threads_memory_and_files() {
        assert!(status("Threads:").unwrap() > 0);
        assert!(status("VmRSS:").unwrap() > 0);
        assert!(status("NoSuchThing:").is_err());
        assert!(connections(|_| true).unwrap() >= 3);
    }
}
