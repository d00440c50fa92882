//! `--result-fd`: how a call ended, in a line of JSON that cannot be mixed up with the command's output.
//!
//! ```json
//! {"outcome":"completed","code":0,"signal":null,"fence":1732155272000000,"message":""}
//! ```
//!
//! `outcome` is `completed` (the command ended by itself; `code` is its own), `acquired`, `skipped`,
//! `held`, `timeout`, `lost`, `not_started`, `interrupted` (while waiting), `unavailable`, `config`,
//! `data`, `usage` or `bug`.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;

use serde::Serialize;

use crate::exit::Outcome;
use crate::output;

/// Where the outcome goes.
#[derive(Debug)]
pub(crate) struct ResultFd(Option<File>);

#[derive(Serialize)]
struct Line<'a> {
    outcome: &'a str,
    code: u8,
    signal: Option<i32>,
    fence: Option<u64>,
    message: &'a str,
}

impl ResultFd {
    /// Takes the descriptor over, so that the command does not inherit it and its reader sees the end.
    ///
    /// Call it before anything else is opened, or the number may be one of ours.
    pub(crate) fn take(number: Option<i32>) -> Result<Self, Outcome> {
        let Some(number) = number else { return Ok(Self(None)) };
        let opened = OpenOptions::new().append(true).open(format!("/proc/self/fd/{number}"));
        let file = opened.map_err(|error| {
            Outcome::usage(format!(
                "--result-fd {number}: {error}; open it for writing before, as in {number}>FILE"
            ))
        })?;
        // It was open a moment ago, so this closes what the caller meant.
        let _ = nix::unistd::close(number);
        Ok(Self(Some(file)))
    }

    /// Writes the outcome.
    pub(crate) fn write(self, outcome: &Outcome) {
        let Some(mut file) = self.0 else { return };
        let line = Line {
            outcome: outcome.word,
            code: outcome.code.get(),
            signal: outcome.signal,
            fence: outcome.fence,
            message: &outcome.message,
        };
        let written =
            output::json_line(&line).is_ok_and(|line| file.write_all(line.as_bytes()).is_ok());
        if !written {
            output::say("the result could not be written to --result-fd");
        }
    }
}
