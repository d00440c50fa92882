//! The picture: top line, table, foot. Colours are left out by the terminal's library where
//! `NO_COLOR` says so.

use std::time::Duration;
use std::time::Instant;

use lock::Mode;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Modifier;
use ratatui::style::Style;

use super::board::Board;
use super::board::Change;
use super::board::Entry;
use super::board::Tenant;
use super::columns::Column;
use super::columns::MARK;
use super::columns::columns;
use super::view::View;
use crate::duration::brief;
use crate::text::cut;
use crate::text::fitting;
use crate::text::printable;
use crate::text::width;

/// What the top line says of the store.
#[derive(Debug)]
pub(super) struct Head {
    place: String,
    backend: &'static str,
    prefix: String,
}

impl Head {
    pub(super) fn new(url: &str, backend: &'static str, prefix: &str) -> Self {
        Self { place: printable(url), backend, prefix: printable(prefix) }
    }
}

/// How a row looks that something has happened to.
fn style_of(change: Option<Change>) -> Style {
    match change {
        None => Style::new(),
        Some(Change::Taken) => Style::new().fg(Color::Green).add_modifier(Modifier::BOLD),
        Some(Change::Changed) => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        Some(Change::Freed) => Style::new().add_modifier(Modifier::DIM),
    }
}

/// A lease is renewed from a third of it on, so at less than half of it something is late.
fn colour_of_bar(share: f64) -> Color {
    match share {
        0.5.. => Color::Green,
        0.2.. => Color::Yellow,
        _ => Color::Red,
    }
}

fn style_of_mode(mode: Mode) -> Style {
    match mode {
        Mode::Exclusive => Style::new(),
        Mode::Shared => Style::new().fg(Color::Cyan),
        Mode::Permits { .. } => Style::new().fg(Color::Magenta),
    }
}

/// Draws all of it.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    head: &Head,
    board: &Board,
    view: &mut View,
    now: Instant,
) {
    let area = frame.area();
    let filter = view.filter.to_lowercase();
    let rows: Vec<_> = board.matching(&filter).flat_map(rows_of).collect();
    // The top line, the heading and the foot, if there is room for any row besides.
    let page = usize::from(area.height).saturating_sub(3);
    view.settle(rows.len(), page);
    let canvas = &mut Canvas { buffer: frame.buffer_mut(), area };
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    canvas.line(0, &top(head, board, area.width.into(), now), reversed);
    let foot = area.height.saturating_sub(1);
    canvas.line(foot.max(1), &bottom(view, rows.len(), board, now), Style::new());
    if page == 0 {
        return;
    }
    let (key, owner) = board.widths();
    let columns = columns(area.width.into(), key, owner);
    let table = Table { columns, since: board.since_look(now), now };
    table.heading(canvas);
    for (y, row) in (2..).zip(rows.iter().skip(view.top).take(page)) {
        table.row(canvas, y, row);
    }
}

/// One line of the table: a holder, or a key without any.
struct Row<'a> {
    entry: &'a Entry,
    tenant: Option<&'a Tenant>,
    /// Whether it is the first of its key.
    first: bool,
}

fn rows_of(entry: &Entry) -> impl Iterator<Item = Row<'_>> {
    let empty = entry.tenants.is_empty().then_some(None);
    let tenants = entry.tenants.iter().map(Some).chain(empty);
    tenants.enumerate().map(move |(index, tenant)| Row { entry, tenant, first: index == 0 })
}

/// Where the store is and how much goes on; the place is what gives way.
fn top(head: &Head, board: &Board, room: usize, now: Instant) -> String {
    let totals = board.totals(now);
    let under = if head.prefix.is_empty() { String::new() } else { format!(" {}*", head.prefix) };
    let figures = format!(
        "{}{under}  {} held  {} waiting  {:.1} changes/s",
        head.backend, totals.held, totals.waiting, totals.rate
    );
    match room.checked_sub(width(&figures) + 4) {
        Some(left) if left >= 8 => format!(" {}  {figures}", cut(&head.place, left)),
        _ => format!(" {figures}"),
    }
}

/// What was typed, what is wrong, or which keys do what.
fn bottom(view: &View, rows: usize, board: &Board, now: Instant) -> String {
    if view.typing {
        return format!("/{}_", printable(&view.filter));
    }
    if let Some((since, error)) = board.outage() {
        return format!("{} without an answer: {error}", brief(now.duration_since(since)));
    }
    if board.is_blank() {
        return "asking the store".to_owned();
    }
    let shown = if view.filter.is_empty() {
        format!("{rows} rows")
    } else {
        format!("{rows} rows with {:?}, Esc for all", printable(&view.filter))
    };
    let from = if view.top > 0 { format!(" from {}", view.top + 1) } else { String::new() };
    format!("{shown}{from}  q quit  / filter  ↑↓ scroll")
}

/// The part of the screen that there is.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl Canvas<'_> {
    /// Fills a line.
    fn line(&mut self, y: u16, text: &str, style: Style) {
        if y < self.area.height {
            self.buffer.set_style(Rect { y, height: 1, ..self.area }, style);
            self.cell(0, y, fitting(text, self.area.width.into()), style);
        }
    }

    fn cell(&mut self, x: usize, y: u16, text: &str, style: Style) {
        let Ok(x) = u16::try_from(x) else { return };
        if x < self.area.width && y < self.area.height {
            self.buffer.set_stringn(x, y, text, (self.area.width - x).into(), style);
        }
    }
}

struct Table {
    columns: Vec<(Column, usize)>,
    since: Duration,
    now: Instant,
}

impl Table {
    fn heading(&self, canvas: &mut Canvas<'_>) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.each(|column, x, room| {
            self.put(canvas, (x, 1), (column, room), column.heading(), bold);
        });
    }

    fn row(&self, canvas: &mut Canvas<'_>, y: u16, row: &Row<'_>) {
        let change = row.entry.fresh(self.now);
        let style = style_of(change);
        let mark = match change {
            None => "",
            Some(Change::Taken) => "+",
            Some(Change::Changed) => "~",
            Some(Change::Freed) => "-",
        };
        canvas.cell(0, y, mark, style);
        self.each(|column, x, room| {
            let (text, own) = self.cell(row, column, room);
            self.put(canvas, (x, y), (column, room), &text, style.patch(own));
        });
    }

    /// What stands in a cell, and how it differs from its row.
    fn cell(&self, row: &Row<'_>, column: Column, room: usize) -> (String, Style) {
        let plain = Style::new();
        let dim = plain.add_modifier(Modifier::DIM);
        match (column, row.tenant) {
            (Column::Key, _) => (row.entry.key.clone(), if row.first { plain } else { dim }),
            (Column::Waiting, _) => match row.entry.state.waiting {
                1.. if row.first => {
                    (row.entry.state.waiting.to_string(), Style::new().fg(Color::Yellow))
                }
                _ => (String::new(), plain),
            },
            (Column::Owner, None) => ("free".to_owned(), dim),
            (_, None) => (String::new(), plain),
            (Column::Owner, Some(tenant)) => (tenant.owner.clone(), plain),
            (column, Some(tenant)) => self.fact(tenant, column, room),
        }
    }

    fn fact(&self, tenant: &Tenant, column: Column, room: usize) -> (String, Style) {
        let holder = &tenant.holder;
        let left = holder.expires_in.map(|left| left.saturating_sub(self.since));
        let share =
            left.map_or(0.0, |left| left.as_secs_f64() / tenant.longest.as_secs_f64().max(0.001));
        let text = match column {
            Column::Mode => holder.mode.map(|mode| mode.to_string()),
            Column::Fence => holder.fence.map(|fence| fence.to_string()),
            Column::Age => tenant.age.map(|age| brief(age + self.since)),
            Column::Bar => left.map(|_| bar(share, room)),
            _ => left.map(brief),
        };
        let style = match column {
            Column::Mode => holder.mode.map_or_else(Style::new, style_of_mode),
            Column::Bar => Style::new().fg(colour_of_bar(share)),
            _ => Style::new(),
        };
        (text.unwrap_or_else(|| "-".to_owned()), style)
    }

    fn each(&self, mut put: impl FnMut(Column, usize, usize)) {
        let mut x = MARK;
        for (column, room) in &self.columns {
            put(*column, x, *room);
            x += room + 1;
        }
    }

    fn put(
        &self,
        canvas: &mut Canvas<'_>,
        (x, y): (usize, u16),
        (column, room): (Column, usize),
        text: &str,
        style: Style,
    ) {
        let text = cut(text, room);
        let indent = if column.is_right() { room - width(&text) } else { 0 };
        canvas.cell(x + indent, y, &text, style);
    }
}

/// Returns a bar of eighths.
fn bar(share: f64, room: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let all = room * 8;
    let eighths = (share.clamp(0.0, 1.0) * all as f64).ceil();
    // Less than `all`, and never negative.
    let eighths = eighths as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}
