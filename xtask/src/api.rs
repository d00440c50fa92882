//! `cargo xtask api`: the public API of each crate that others use, beside the one that is written down.
//!
//! What rustdoc knows of a crate comes as JSON, which only `RUSTC_BOOTSTRAP` makes a stable rustdoc write. Set for
//! all of cargo it would build every dependency anew, so it is set for rustdoc alone: we take its place.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use crate::Failure;
use crate::Result;
use crate::all;
use crate::process::cargo;
use crate::process::run;
use crate::workspace::Workspace;

/// Tells us that cargo takes us for rustdoc.
const AS_RUSTDOC: &str = "LOCK_XTASK_AS_RUSTDOC";

/// What `public-api` reads: that of Rust 1.95.
const FORMAT: u64 = 57;

/// Where the APIs are written down, a file for each crate.
const FOLDER: &str = "xtask/api";

/// Traits that come by themselves; of the others nobody takes note.
const NOT_SHOWN: [&str; 5] = ["Freeze", "Unpin", "UnsafeUnpin", "UnwindSafe", "RefUnwindSafe"];

/// Whether what is written down is to be changed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write down the APIs as they are now
    #[arg(long)]
    update: bool,
}

/// What has come of the comparison.
pub(crate) enum Outcome {
    Compared,
    /// This rustdoc writes another format than we read.
    CannotRead(u64),
}

/// Does rustdoc's work if cargo calls us in its place.
pub(crate) fn as_rustdoc() -> Option<ExitCode> {
    std::env::var_os(AS_RUSTDOC)?;
    let mut rustdoc = Command::new("rustdoc");
    let error = rustdoc.args(std::env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").exec();
    eprintln!("xtask: rustdoc: {error}");
    Some(ExitCode::FAILURE)
}

pub(crate) fn api(options: &Options) -> Result {
    match compare(&Workspace::read()?, options.update)? {
        Outcome::Compared => Ok(()),
        Outcome::CannotRead(format) => Err(Failure(why_not(format))),
    }
}

pub(crate) fn why_not(format: u64) -> String {
    format!("this rustdoc writes format {format}, and {FORMAT} of Rust 1.95 is what can be read")
}

/// Compares each crate's API with what is written down, or writes it down.
pub(crate) fn compare(workspace: &Workspace, update: bool) -> Result<Outcome> {
    document(workspace)?;
    let mut outcomes = Vec::new();
    for name in workspace.libraries() {
        let json = workspace.target("doc")?.join(format!("{}.json", name.replace('-', "_")));
        let format = format_of(&json)?;
        if format != FORMAT {
            return Ok(Outcome::CannotRead(format));
        }
        let path = workspace.root()?.join(FOLDER).join(format!("{name}.txt"));
        outcomes.push(judge(&name, &path, &shown(json)?, update));
    }
    all(outcomes).map(|()| Outcome::Compared)
}

fn document(workspace: &Workspace) -> Result {
    let mut command = cargo(&["doc", "--no-deps", "--lib"]);
    command.args(workspace.everything()).env(AS_RUSTDOC, "1");
    command.env("RUSTDOC", std::env::current_exe()?);
    run(command.env("RUSTDOCFLAGS", "-Z unstable-options --output-format json"))
}

fn format_of(json: &Path) -> Result<u64> {
    let text = std::fs::read(json)?;
    let read: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| Failure(format!("{}: {error}", json.display())))?;
    read["format_version"].as_u64().ok_or_else(|| Failure("rustdoc names no format".to_owned()))
}

/// The API as lines of text.
fn shown(json: PathBuf) -> Result<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| Failure(error.to_string()))?;
    let mut text = String::new();
    for item in api.items().map(ToString::to_string).filter(|item| is_shown(item)) {
        text.push_str(&item);
        text.push('\n');
    }
    Ok(text)
}

fn is_shown(item: &str) -> bool {
    let name = |item: &str| item.split(" for ").next()?.rsplit("::").next().map(str::to_owned);
    let of_itself = item.starts_with("impl") && item.contains(" for ");
    !(of_itself && name(item).is_some_and(|name| NOT_SHOWN.contains(&name.as_str())))
}

fn judge(name: &str, path: &Path, now: &str, update: bool) -> Result {
    if update {
        std::fs::create_dir_all(path.parent().unwrap_or(path))?;
        return Ok(std::fs::write(path, now)?);
    }
    let before = std::fs::read_to_string(path).unwrap_or_default();
    if before == now { Ok(()) } else { Err(Failure(difference(name, &before, now))) }
}

/// Says what is another API, and what that means for those who use it.
fn difference(name: &str, before: &str, now: &str) -> String {
    let lines = |text| str::lines(text).collect::<BTreeSet<_>>();
    let (before, now) = (lines(before), lines(now));
    let gone: Vec<_> = before.difference(&now).collect();
    let new: Vec<_> = now.difference(&before).collect();
    let mut text = format!("the public API of {name} is another than xtask/api/{name}.txt says:");
    for (sign, lines) in [('-', &gone), ('+', &new)] {
        for line in lines {
            let _ = write!(text, "\n    {sign} {line}");
        }
    }
    text.push_str(match gone.is_empty() {
        true => "\n  nobody's code breaks by that",
        false => {
            "\n  what is gone breaks the code of others: the next version is 0.(n+1), or (n+1).0"
        }
    });
    text + "; if it is meant, run cargo xtask api --update and commit what it writes"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_from_what_is_new() {
        let grown = difference("a", "pub fn a::f()\n", "pub fn a::f()\npub fn a::g()\n");
        assert!(grown.contains("+ pub fn a::g()") && grown.contains("nobody's code"), "{grown}");
        let broken = difference("a", "pub fn a::f()\n", "pub fn a::f(u8)\n");
        assert!(broken.contains("- pub fn a::f()") && broken.contains("breaks"), "{broken}");
    }

    #[test]
    fn of_the_traits_that_come_by_themselves_those_for_threads_are_shown() {
        assert!(is_shown("impl core::marker::Send for a::Guard"));
        assert!(!is_shown("impl core::marker::Unpin for a::Guard"));
        assert!(!is_shown("impl<T> !core::panic::unwind_safe::UnwindSafe for a::Guard<T>"));
        assert!(is_shown("pub struct a::Unpin"));
    }
}
