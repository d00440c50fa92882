//! The controlling terminal and whose turn it is on it.

use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use rustix::termios::tcgetattr;
use rustix::termios::tcgetpgrp;
use rustix::termios::tcsetattr;
use rustix::termios::tcsetpgrp;

/// The controlling terminal, which belongs to the process group `home` between jobs.
///
/// Who hands it over must have SIGTTOU blocked.
#[derive(Debug)]
pub(crate) struct Terminal {
    file: File,
    home: Pid,
    modes: Option<Termios>,
}

impl Terminal {
    /// Opens it, if this process has one.
    pub(crate) fn open(home: Pid) -> Option<Self> {
        let flags = i32::try_from(OFlags::NOCTTY.bits()).ok()?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty");
        let file = file.ok()?;
        let modes = tcgetattr(&file).ok();
        Some(Self { file, home, modes })
    }

    /// Tells whether `home` is in the foreground.
    pub(crate) fn is_home(&self) -> bool {
        self.is_of(self.home)
    }

    /// Tells whether `group` is in the foreground.
    pub(crate) fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.file) == Ok(group)
    }

    /// Hands it to `group`, if it is `home`'s to give; tells whether `group` has it now. A job that
    /// reads before it was given the terminal is stopped, and may have it by the time that shows.
    pub(crate) fn give(&self, group: Pid) -> bool {
        match tcgetpgrp(&self.file) {
            Ok(owner) if owner == group => true,
            Ok(owner) if owner == self.home => tcsetpgrp(&self.file, group).is_ok(),
            _ => false,
        }
    }

    /// Takes it back from `group`, unless the shell has done so.
    pub(crate) fn take_back(&self, group: Pid) {
        if self.is_of(group) {
            let _ = tcsetpgrp(&self.file, self.home);
        }
    }

    /// Restores the modes that a killed job had no time to restore.
    pub(crate) fn restore_modes(&self) {
        if let Some(modes) = self.modes.as_ref().filter(|_| self.is_home()) {
            let _ = tcsetattr(&self.file, OptionalActions::Now, modes);
        }
    }
}
