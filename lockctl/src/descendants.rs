//! The end of all processes below this one, which has to be a subreaper.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::getpid;
use rustix::process::kill_process;
use rustix::process::kill_process_group;
use rustix::process::set_child_subreaper;
use rustix::process::wait;
use rustix::process::waitpid;

/// How long to let the killed die before looking again.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes this process inherit the orphans among its descendants.
pub(crate) fn adopt_orphans() -> rustix::io::Result<()> {
    set_child_subreaper(Some(getpid()))
}

/// Kills `group` and every child of this process, and waits until none is left.
///
/// Each death makes the children of the dead ours, so that in the end all descendants are gone.
/// What another user runs cannot be killed and is not waited for.
pub(crate) fn destroy(group: Option<Pid>) {
    if let Some(group) = group {
        // One call is enough: the kernel does not let a fork escape from it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    while reap() {
        let children = children();
        let spared = |pid: &Pid| kill_process(*pid, Signal::KILL) == Err(Errno::PERM);
        let all_spared = children.iter().filter(|pid| spared(pid)).count() == children.len();
        if all_spared && !children.is_empty() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Reaps the dead children except `spared`, which somebody else waits for.
pub(crate) fn reap_others(spared: Pid) {
    for pid in children().into_iter().filter(|pid| *pid != spared) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Reaps the dead children and tells whether any child is left.
fn reap() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Returns the children of this process, the dead included.
fn children() -> Vec<Pid> {
    let us = getpid().as_raw_nonzero().get();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(us))
        .filter_map(Pid::from_raw)
        .collect()
}

/// Reads a parent from `/proc/PID/stat`: `PID (NAME) STATE PARENT …`, where NAME may be anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn knows_its_children() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children().contains(&Pid::from_raw(pid).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&Pid::from_raw(pid).unwrap()));
    }
}
