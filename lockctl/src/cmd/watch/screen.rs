//! The terminal while a live view is on it: restored however that ends.

use std::io;
use std::io::Write as _;
use std::thread;

use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::EnterAlternateScreen;
use ratatui::crossterm::terminal::enable_raw_mode;

/// The alternate screen, in raw mode. Dropping it restores what was there; a panic does so before its
/// message is printed.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    /// Brings the screen up to date; what has not changed is not written.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Gives the terminal back for a while.
    pub(super) fn leave(&mut self) {
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
        let _ = io::stdout().flush();
    }

    /// Takes the terminal again, whatever was done to it since, and draws all of it anew next time.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        // Unlike `clear` it does not ask the terminal where its cursor is: the answer would go to
        // whoever reads the keys.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Restoring twice would put the cursor back to where the panic's message stands.
        if !thread::panicking() {
            self.leave();
        }
    }
}
