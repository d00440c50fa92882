//! Tables for people: aligned everywhere; on a terminal with colour and cut to its width.

use std::env;
use std::io;
use std::io::IsTerminal as _;

use anstyle::AnsiColor;
use anstyle::Style;
use rustix::termios::tcgetwinsize;

use crate::exit::Outcome;
use crate::output;
use crate::text::cut;
use crate::text::padded;
use crate::text::printable;
use crate::text::width;

/// What stands between two columns.
const SPACE: usize = 2;

/// The narrowest that a column is cut to.
const NARROWEST: usize = 10;

/// Before a column is cut to less, others are left out.
const COMFORTABLE: usize = 18;

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heading: [&'static str; N],
    /// The columns that may be cut.
    elastic: &'static [usize],
    /// The columns that may be left out, in this order.
    expendable: &'static [usize],
    rows: Vec<[Cell; N]>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: printable(&text.into()), style: Style::new() }
    }

    /// Of less weight than the others.
    pub(crate) fn dim(mut self) -> Self {
        self.style = self.style.dimmed();
        self
    }

    pub(crate) fn coloured(mut self, colour: AnsiColor) -> Self {
        self.style = self.style.fg_color(Some(colour.into()));
        self
    }
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heading: [&'static str; N], elastic: &'static [usize]) -> Self {
        Self { heading, elastic, expendable: &[], rows: Vec::new() }
    }

    /// Names the columns that a narrow terminal goes without, what says least first.
    pub(crate) fn without(mut self, expendable: &'static [usize]) -> Self {
        self.expendable = expendable;
        self
    }

    pub(crate) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// Prints all of it to stdout.
    pub(crate) fn print(&self) -> Result<(), Outcome> {
        let terminal = io::stdout().is_terminal();
        output::print(&self.text(terminal.then(columns), terminal && colours()))
    }

    fn text(&self, room: Option<usize>, coloured: bool) -> String {
        let mut widths = self.widths();
        if let Some(room) = room {
            leave_out(&mut widths, self.elastic, self.expendable, room);
            shrink(&mut widths, self.elastic, room);
        }
        let heading =
            self.heading.map(|name| Cell { style: Style::new().bold(), ..Cell::new(name) });
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            text.push_str(&line(row, &widths, coloured));
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> [usize; N] {
        let mut widths = self.heading.map(width);
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(&cell.text));
            }
        }
        widths
    }
}

fn line<const N: usize>(row: &[Cell; N], widths: &[usize; N], coloured: bool) -> String {
    let cells: Vec<_> = row.iter().zip(widths).filter(|(_, room)| **room > 0).collect();
    let last = cells.iter().rposition(|(cell, _)| !cell.text.is_empty()).unwrap_or(0);
    let mut line = String::new();
    for (column, (cell, room)) in cells.into_iter().enumerate().take(last + 1) {
        let text = cut(&cell.text, *room);
        let style = if coloured { cell.style } else { Style::new() };
        line.push_str(&format!("{style}{text}{style:#}"));
        if column < last {
            line.push_str(&padded("", room + SPACE - width(&text)));
        }
    }
    line
}

/// Makes columns nothing wide until those that may be cut have enough room, as far as that goes.
fn leave_out(widths: &mut [usize], elastic: &[usize], expendable: &[usize], room: usize) {
    for column in expendable {
        let least = |(column, width): (usize, &usize)| match elastic.contains(&column) {
            true => (*width).min(COMFORTABLE),
            false => *width,
        };
        if widths.iter().enumerate().map(least).sum::<usize>() + gaps(widths) <= room {
            return;
        }
        widths[*column] = 0;
    }
}

fn gaps(widths: &[usize]) -> usize {
    SPACE * widths.iter().filter(|width| **width > 0).count().saturating_sub(1)
}

/// Takes from the widest of the elastic columns until all fit into `room`, as far as that goes.
fn shrink(widths: &mut [usize], elastic: &[usize], room: usize) {
    let mut excess = (widths.iter().sum::<usize>() + gaps(widths)).saturating_sub(room);
    while excess > 0 {
        let Some(widest) = elastic.iter().copied().max_by_key(|column| widths[*column]) else {
            return;
        };
        if widths[widest] <= NARROWEST {
            return;
        }
        widths[widest] -= 1;
        excess -= 1;
    }
}

/// Returns how wide the terminal on stdout is.
fn columns() -> usize {
    let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    // Zero says that the terminal does not know.
    if columns == 0 { 80 } else { columns }
}

/// Tells whether the terminal knows colours, and the user wants them: <https://no-color.org>.
fn colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && env::var_os("TERM").is_none_or(|name| name != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 2]]) -> Table<2> {
        let mut table = Table::new(["KEY", "N"], &[0]);
        for row in rows {
            table.push(row.map(Cell::new));
        }
        table
    }

    #[test]
    fn columns_align_and_lines_do_not_end_in_blanks() {
        let table = table(&[["é", ""], ["long", "x"], ["漢", "y"]]);
        assert_eq!(table.text(None, false), "KEY   N\né\nlong  x\n漢    y\n");
    }

    #[test]
    fn only_where_there_is_little_room_is_anything_cut() {
        let table = table(&[["orders:2026:eu:42", "7"]]);
        assert_eq!(table.text(None, false).lines().last(), Some("orders:2026:eu:42  7"));
        assert_eq!(table.text(Some(80), false).lines().last(), Some("orders:2026:eu:42  7"));
        assert_eq!(table.text(Some(15), false).lines().last(), Some("orders…eu:42  7"));
        assert_eq!(table.text(Some(3), false).lines().last(), Some("order…u:42  7"));
    }

    #[test]
    fn a_column_that_says_little_goes_before_names_are_cut_short() {
        let key = "orders:2026:eu-west-1:42";
        let table = || table(&[[key, "2026-11-21T21:42:00Z"]]);
        let shown = |table: Table<2>, room| table.text(Some(room), false);
        assert!(shown(table(), 38).contains("…"));
        assert_eq!(shown(table().without(&[1]), 38), format!("KEY\n{key}\n"));
        assert!(shown(table().without(&[1]), 46).contains("2026-11-21T21:42:00Z"));
    }

    #[test]
    fn colour_ends_with_its_cell() {
        let mut table = Table::new(["K", "N"], &[]);
        table.push([Cell::new("a").coloured(AnsiColor::Cyan), Cell::new("b")]);
        let lines = table.text(None, true);
        assert_eq!(lines, "\x1b[1mK\x1b[0m  \x1b[1mN\x1b[0m\n\x1b[36ma\x1b[0m  b\n");
    }

    #[test]
    fn the_widest_gives_way_first() {
        let mut widths = [30, 20, 5];
        shrink(&mut widths, &[0, 1], 45);
        assert_eq!(widths, [18, 18, 5]);
        shrink(&mut widths, &[0, 1], 3);
        assert_eq!(widths, [NARROWEST, NARROWEST, 5]);
    }
}
