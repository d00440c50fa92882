//! `lockctl watch`: the held keys, live.
//!
//! One list of the store per second, whatever is shown: bars and ages move on between the looks.

mod board;
mod columns;
mod draw;
mod keyboard;
mod live;
mod screen;
mod signals;
mod stream;
mod view;

use std::env;
use std::io;
use std::io::IsTerminal as _;
use std::time::Duration;

use self::signals::Signals;
use super::Context;
use super::block_on;
use super::simple;
use crate::args::Global;
use crate::args::List;
use crate::exit::Outcome;

/// Between the answer to one look and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows the keys that begin with a prefix until the user has seen enough.
pub(super) fn watch(global: Global, args: &List) -> Result<Outcome, Outcome> {
    let prefix = args.prefix()?;
    if global.json {
        return simple(global, async |context| stream::stream(context, prefix).await);
    }
    if !io::stdout().is_terminal() {
        return Err(Outcome::usage(
            "watch needs a terminal: for scripts there are watch --json, a line per change, and \
             list --json",
        ));
    }
    if env::var_os("TERM").is_some_and(|name| name == "dumb") {
        return Err(Outcome::usage(
            "watch needs a terminal with a cursor, and TERM=dumb says that there is none: try \
             watch --json or list",
        ));
    }
    // Before there are threads, which would get the signals otherwise.
    let blocked = signals::block()?;
    block_on(async {
        let mut signals = Signals::listen(blocked)?;
        let context = tokio::select! {
            context = Context::open(global) => context?,
            outcome = signals.end() => return Err(outcome),
        };
        let outcome = live::live(&context, prefix, signals).await;
        context.close().await;
        outcome
    })
}
