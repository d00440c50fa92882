//! What people learn of a wait: who holds, the place in line, and whether the store answers.

use std::convert::Infallible;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use lock::Error;
use lock::KeyState;
use lock::Waiting;
use rustix::termios::tcgetwinsize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::unbounded_channel;

use super::Context;
use super::claim::all;
use crate::duration::show;
use crate::output;
use crate::text::fitting;
use crate::text::printable;

/// How often the line on a terminal is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// How often to look whether the store answers, for those who want to hear of it without a terminal.
const PROBE: Duration = Duration::from_secs(5);

/// The view of one wait.
pub(super) struct Lookout<'a> {
    context: &'a Context,
    key: &'a str,
    loud: bool,
    sender: UnboundedSender<Waiting>,
    news: UnboundedReceiver<Waiting>,
    ahead: Option<u64>,
    outage: Option<Source>,
}

/// What fails. A store can answer questions and take no lock, so each is over by its own success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Attempts,
    Looks,
}

impl<'a> Lookout<'a> {
    pub(super) fn new(context: &'a Context, key: &'a str) -> Self {
        let (sender, news) = unbounded_channel();
        Self { context, key, loud: false, sender, news, ahead: None, outage: None }
    }

    /// Says on stderr when the store stops answering, and when it answers again.
    pub(super) fn loud(mut self) -> Self {
        self.loud = true;
        self
    }

    /// What the options of the call have to tell.
    pub(super) fn ear(&self) -> impl Fn(Waiting) + Send + Sync + use<> {
        let sender = self.sender.clone();
        move |news| {
            // Nobody listens any more once the wait is over.
            let _ = sender.send(news);
        }
    }

    /// Shows on a terminal who holds the key and how long it has been waited for, until dropped.
    pub(super) async fn show(&mut self) -> Infallible {
        let line = io::stderr().is_terminal().then(|| Line);
        let start = Instant::now();
        loop {
            let pause = match (&line, self.loud) {
                (Some(_), _) => TICK,
                (None, true) => PROBE,
                (None, false) => Duration::MAX,
            };
            self.listen(pause).await;
            let state = self.context.provider.status(self.key).await;
            self.looked(state.as_ref().err());
            if let Some(line) = &line {
                line.show(&self.sentence(start.elapsed(), state.ok().as_ref()));
            }
        }
    }

    /// Tells that the wait is over, with the lock held.
    pub(super) fn over(&mut self) {
        self.answered(Source::Attempts);
        self.answered(Source::Looks);
    }

    async fn listen(&mut self, pause: Duration) {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                Some(news) = self.news.recv() => self.heard(news),
                () = &mut pause => return,
            }
        }
    }

    fn heard(&mut self, news: Waiting) {
        match news {
            Waiting::Held { ahead, .. } => self.ahead = ahead,
            Waiting::Queued { ahead } => self.ahead = Some(ahead),
            Waiting::Failed { error } => return self.failed(Source::Attempts, &error),
            _ => return,
        }
        self.answered(Source::Attempts);
    }

    fn looked(&mut self, error: Option<&Error>) {
        match error {
            Some(error) => self.failed(Source::Looks, error),
            None => self.answered(Source::Looks),
        }
    }

    fn failed(&mut self, source: Source, error: &Error) {
        if self.outage.is_none() && self.loud {
            output::say(&format!("{error}; still trying"));
        }
        self.outage = self.outage.or(Some(source));
    }

    fn answered(&mut self, source: Source) {
        if self.outage.take_if(|outage| *outage == source).is_some() && self.loud {
            output::say("the store answers again");
        }
    }

    fn sentence(&self, waited: Duration, state: Option<&KeyState>) -> String {
        let holders = state.and_then(|state| all(&state.holders));
        let place = self.ahead.map(|ahead| format!(", {ahead} ahead")).unwrap_or_default();
        let held = holders.map(|holders| format!(", held by {holders}")).unwrap_or_default();
        let away = if self.outage.is_some() { ", the store does not answer" } else { "" };
        format!("lockctl: {} waiting for {:?}{away}{place}{held}", show(waited), self.key)
    }
}

/// The last line of the terminal; wiped when dropped.
struct Line;

impl Line {
    fn show(&self, text: &str) {
        let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        // Zero says that the terminal does not know.
        let columns = if columns == 0 { 80 } else { columns };
        let text = printable(text);
        let text = fitting(&text, columns.saturating_sub(1));
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.show("");
    }
}
