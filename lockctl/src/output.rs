//! What people and scripts read: lines on stdout and stderr, JSON.

use std::io;
use std::io::Write as _;

use serde::Serialize;

use crate::exit::Outcome;
use crate::text::printable;

/// Says something on stderr. What others named (keys, owners) cannot control the terminal.
pub(crate) fn say(message: &str) {
    // Nobody can be told that stderr is closed.
    let lines: Vec<_> = message.lines().map(printable).collect();
    let _ = writeln!(io::stderr(), "lockctl: {}", lines.join("\n"));
}

/// Prints to stdout. Who reads only the first lines (`| head -1`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Outcome> {
    match deliver(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Outcome::bug(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints to stdout what has to be read by somebody.
pub(crate) fn deliver(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
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
