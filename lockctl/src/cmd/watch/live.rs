//! The live view: a loop over looks, keys, signals and the time.

use std::pin::Pin;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use lock::KeyState;
use ratatui::crossterm::event::KeyEvent;
use rustix::process::Signal;
use rustix::process::kill_current_process_group;

use super::PAUSE;
use super::board::Board;
use super::draw::Head;
use super::draw::draw;
use super::keyboard;
use super::screen::Screen;
use super::signals::Signals;
use super::signals::ended_by;
use super::signals::hung_up;
use super::view::View;
use super::view::Wish;
use crate::cmd::Context;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::front;
use crate::place;
use crate::signals::is_fatal;

/// How long a picture stands at most, so that bars move.
const FRAME: Duration = Duration::from_millis(200);

type Looking<'a> = Pin<Box<dyn Future<Output = Result<Vec<KeyState>, lock::Error>> + 'a>>;

/// Shows the board until the user or a signal ends it.
pub(super) async fn live(
    context: &Context,
    prefix: &str,
    mut signals: Signals,
) -> Result<Outcome, Outcome> {
    let unable = |error| Outcome::usage(format!("watch cannot use this terminal: {error}"));
    let mut keys = keyboard::listen().map_err(unable)?;
    let mut live = Live {
        screen: Screen::open().map_err(unable)?,
        head: head(context, prefix),
        board: Board::default(),
        view: View::default(),
    };
    let look = |pause| -> Looking<'_> {
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            context.provider.list(prefix).await
        })
    };
    let mut looking = look(Duration::ZERO);
    loop {
        live.draw()?;
        let end = tokio::select! {
            signal = signals.next() => live.obey(signal?)?,
            key = keys.recv() => live.press(key.ok_or_else(hung_up)?)?,
            looked = &mut looking => {
                live.look(looked);
                looking = look(PAUSE);
                None
            }
            () = tokio::time::sleep(FRAME) => None,
        };
        if let Some(outcome) = end {
            return Ok(outcome);
        }
    }
}

fn head(context: &Context, prefix: &str) -> Head {
    let backend = context.provider.profile().name;
    let url = place::open_url(&context.config).map_or_else(String::new, |url| url.to_string());
    Head::new(&url, backend, prefix)
}

struct Live {
    screen: Screen,
    head: Head,
    board: Board,
    view: View,
}

impl Live {
    fn draw(&mut self) -> Result<(), Outcome> {
        let Self { screen, head, board, view } = self;
        let drawn = screen.draw(|frame| draw(frame, head, board, view, Instant::now()));
        drawn.map_err(|_| hung_up())
    }

    fn look(&mut self, looked: Result<Vec<KeyState>, lock::Error>) {
        let now = Instant::now();
        match looked {
            Ok(states) => {
                self.board.look(states, now, SystemTime::now());
            }
            Err(error) => self.board.fail(error.to_string(), now),
        }
    }

    fn press(&mut self, key: KeyEvent) -> Result<Option<Outcome>, Outcome> {
        match self.view.press(key) {
            Wish::Nothing => {}
            Wish::Redraw => self.enter()?,
            // Comes back to us as a signal, and stops the others of a script too.
            Wish::Suspend => {
                let _ = kill_current_process_group(Signal::TSTP);
            }
            Wish::End => return Ok(Some(Outcome::quiet("done", Code::OK))),
        }
        Ok(None)
    }

    fn obey(&mut self, signal: i32) -> Result<Option<Outcome>, Outcome> {
        match Signal::from_named_raw(signal) {
            _ if is_fatal(signal) => return Ok(Some(ended_by(signal))),
            Some(Signal::TSTP) => {
                self.screen.leave();
                front::stop();
                self.enter()?;
            }
            // Who stopped us, or the shell since, may have changed the terminal.
            Some(Signal::CONT) => self.enter()?,
            // A new size shows with the next picture.
            _ => {}
        }
        Ok(None)
    }

    fn enter(&mut self) -> Result<(), Outcome> {
        self.screen.enter().map_err(|_| hung_up())
    }
}
