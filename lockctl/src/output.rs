//! What people and scripts read: tables, JSON, and lines on stderr.

use std::env;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;

use serde::Serialize;

use crate::exit::Outcome;

/// Says something on stderr. What others named (keys, owners) cannot control the terminal.
pub(crate) fn say(message: &str) {
    // Nobody can be told that stderr is closed.
    let _ = writeln!(io::stderr(), "lockctl: {}", printable(message));
}

/// Prints to stdout. Who reads only the first lines (`| head -1`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Outcome> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Outcome::bug(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON object on a line of its own.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Outcome> {
    print(&json_line(value)?)
}

/// Returns a value as a line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Outcome> {
    let json = serde_json::to_string(value);
    json.map(|json| json + "\n")
        .map_err(|error| Outcome::bug(format!("cannot write JSON: {error}")))
}

/// Prints rows in aligned columns under a heading.
pub(crate) fn print_table<const N: usize>(
    heading: [&str; N],
    rows: &[[String; N]],
) -> Result<(), Outcome> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let heading = heading.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths = std::array::from_fn(width);
    let mut text = emphasised(&line(&heading, &widths));
    for row in &rows {
        text.push_str(&line(row, &widths));
        text.push('\n');
    }
    print(&text)
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(&format!("{cell:<width$}  "));
    }
    line.truncate(line.trim_end().len());
    line
}

fn emphasised(heading: &str) -> String {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() {
        return format!("{heading}\n");
    }
    format!("\x1b[1m{heading}\x1b[0m\n")
}

/// Replaces what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_do_not_end_in_blanks() {
        let rows = [["é".to_owned(), String::new()], ["long".to_owned(), "x".to_owned()]];
        let lines: Vec<_> = rows.iter().map(|row| line(row, &[4, 1])).collect();
        assert_eq!(lines, ["é", "long  x"]);
    }

    #[test]
    fn nobody_controls_the_terminal() {
        assert_eq!(printable("a\x1b[31m\nb\u{9b}"), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
    }
}
