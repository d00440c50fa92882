//! One line on a terminal that tells what is waited for.

use std::convert::Infallible;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use rustix::termios::tcgetwinsize;

use super::Context;
use crate::duration::show;
use crate::output::printable;

const TICK: Duration = Duration::from_secs(1);

/// Shows who holds `key` and how long it has been waited for, until dropped.
pub(super) async fn progress(context: &Context, key: &str) -> Infallible {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let start = Instant::now();
    let line = Line;
    loop {
        tokio::time::sleep(TICK).await;
        let state = context.provider.status(key).await.ok();
        let holder = state.and_then(|state| state.holders.into_iter().next());
        let holder = holder.map(|holder| format!(", held by {holder}")).unwrap_or_default();
        line.show(&format!("lockctl: {} waiting for {key:?}{holder}", show(start.elapsed())));
    }
}

/// The last line of the terminal; wiped when dropped.
struct Line;

impl Line {
    fn show(&self, text: &str) {
        let columns = tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col));
        let text: String = printable(text).chars().take(columns.saturating_sub(1)).collect();
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.show("");
    }
}
