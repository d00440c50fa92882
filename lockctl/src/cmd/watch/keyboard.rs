//! What the user types, read by a thread of its own.

use std::fs::File;
use std::io;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::event::KeyEvent;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;
use rustix::io::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::unbounded_channel;

/// Begins to read. The end of the queue says that the terminal is gone.
pub(super) fn listen() -> io::Result<UnboundedReceiver<KeyEvent>> {
    let terminal = terminal()?;
    let (sender, receiver) = unbounded_channel();
    thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
        let _ = read(&terminal, &sender);
    })?;
    Ok(receiver)
}

/// Where the event reader reads from: standard input if that is a terminal, else the controlling one.
fn terminal() -> io::Result<OwnedFd> {
    if io::stdin().is_terminal() {
        return io::stdin().as_fd().try_clone_to_owned();
    }
    Ok(File::open("/dev/tty")?.into())
}

fn read(terminal: &OwnedFd, keys: &UnboundedSender<KeyEvent>) -> io::Result<()> {
    loop {
        // The event reader never returns once its terminal is gone, so it must not be asked then.
        if wait(terminal)?.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(());
        }
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.is_press()
                && keys.send(key).is_err()
            {
                return Ok(());
            }
        }
    }
}

fn wait(terminal: &OwnedFd) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(fds[0].revents()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
