//! `lockctl watch --json`: what changes, as lines for scripts.

use std::io;
use std::time::Instant;
use std::time::SystemTime;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;

use super::PAUSE;
use super::board::Board;
use crate::cmd::Context;
use crate::cmd::state::State;
use crate::exit::Outcome;
use crate::output;

/// Prints every key, and then each that changes, until nobody reads any more.
pub(super) async fn stream(context: &Context, prefix: &str) -> Result<(), Outcome> {
    let mut board = Board::default();
    while !reader_is_gone() {
        match context.provider.list(prefix).await {
            Ok(states) => {
                if board.outage().is_some() {
                    output::say("the store answers again");
                }
                let mut lines = String::new();
                for state in board.look(states, Instant::now(), SystemTime::now()) {
                    lines.push_str(&output::json_line(&State::new(state))?);
                }
                output::print(&lines)?;
            }
            Err(error) if error.is_retryable() => {
                if board.outage().is_none() {
                    output::say(&format!("{error}; still trying"));
                }
                board.fail(error.to_string(), Instant::now());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// A pipe tells without being written to, so that the end of `| head -1` is not left to chance.
fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(gone)
}
