//! What part of the board the user wants to see, as typed: pure.

use ratatui::crossterm::event::KeyCode;
use ratatui::crossterm::event::KeyEvent;
use ratatui::crossterm::event::KeyModifiers;

/// The longest filter: no key or owner is longer.
const LONGEST_FILTER: usize = 512;

/// Where the user is.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The first row in sight.
    pub(super) top: usize,
    /// What the rows must contain.
    pub(super) filter: String,
    /// Whether the filter is being typed.
    pub(super) typing: bool,
    /// How many rows were in sight last time, and how many there were.
    page: usize,
    rows: usize,
}

/// What the user wants beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Redraw,
    Suspend,
    End,
}

impl View {
    /// Takes in a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.control(key.code);
        }
        if self.typing {
            self.type_in(key.code);
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Esc if !self.filter.is_empty() => self.clear(),
            KeyCode::Esc | KeyCode::Char('q') => return Wish::End,
            KeyCode::Char('/') => self.typing = true,
            code => self.scroll(code),
        }
        Wish::Nothing
    }

    /// Notes how many rows there are and how many of them fit, and keeps them in sight.
    pub(super) fn settle(&mut self, rows: usize, page: usize) {
        (self.rows, self.page) = (rows, page);
        self.top = self.top.min(rows.saturating_sub(page));
    }

    fn control(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Char('c') => Wish::End,
            KeyCode::Char('z') => Wish::Suspend,
            KeyCode::Char('l') => Wish::Redraw,
            KeyCode::Char('u') => {
                self.filter.clear();
                Wish::Nothing
            }
            _ => Wish::Nothing,
        }
    }

    fn type_in(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc => self.clear(),
            KeyCode::Enter => self.typing = false,
            KeyCode::Backspace if self.filter.pop().is_none() => self.typing = false,
            KeyCode::Char(c) if self.filter.len() < LONGEST_FILTER => self.filter.push(c),
            KeyCode::Char(_) => {}
            code => self.scroll(code),
        }
    }

    fn clear(&mut self) {
        self.filter.clear();
        self.typing = false;
    }

    fn scroll(&mut self, code: KeyCode) {
        let page = self.page.max(1);
        let top = match code {
            KeyCode::Up | KeyCode::Char('k') => self.top.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.top + 1,
            KeyCode::PageUp => self.top.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.top + page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => return,
        };
        self.top = top.min(self.rows.saturating_sub(self.page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, code: KeyCode) -> Wish {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn scrolling_stops_at_both_ends() {
        let mut view = View::default();
        view.settle(100, 10);
        for (code, top) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 11),
            (KeyCode::End, 90),
            (KeyCode::Char('j'), 90),
            (KeyCode::PageUp, 80),
            (KeyCode::Home, 0),
        ] {
            press(&mut view, code);
            assert_eq!(view.top, top, "{code:?}");
        }
        view.top = 90;
        view.settle(5, 10);
        assert_eq!(view.top, 0, "rows that went take the view along");
    }

    #[test]
    fn a_filter_takes_letters_that_are_commands_elsewhere() {
        let mut view = View::default();
        for code in [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('/')] {
            assert_eq!(press(&mut view, code), Wish::Nothing);
        }
        assert_eq!((view.filter.as_str(), view.typing), ("q/", true));
        press(&mut view, KeyCode::Backspace);
        press(&mut view, KeyCode::Enter);
        assert_eq!((view.filter.as_str(), view.typing), ("q", false));
        assert_eq!(press(&mut view, KeyCode::Esc), Wish::Nothing, "it takes the filter away");
        assert_eq!((view.filter.as_str(), view.typing), ("", false));
        assert_eq!(press(&mut view, KeyCode::Esc), Wish::End);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Wish::End);
    }

    #[test]
    fn control_works_while_typing() {
        let mut view = View { typing: true, filter: "x".to_owned(), ..View::default() };
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert_eq!(view.press(control('c')), Wish::End);
        assert_eq!(view.press(control('z')), Wish::Suspend);
        assert_eq!(view.press(control('l')), Wish::Redraw);
        view.press(control('u'));
        assert_eq!(view.filter, "");
    }
}
