//! What shells and manual readers get, checked by their own programs where there are any.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use common::Place;

/// Every command of the contract.
const COMMANDS: [&str; 15] = [
    "run",
    "elect",
    "acquire",
    "renew",
    "release",
    "status",
    "list",
    "watch",
    "profile",
    "schema",
    "unlock",
    "cleanup",
    "completions",
    "man",
    "help",
];

/// Runs a program with an input; `None` if there is no such program here.
fn fed(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program may end without reading all of it.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Some(output)
}

#[test]
fn every_shell_gets_a_script_that_knows_all_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (0, ""), "{shell}");
        for command in COMMANDS {
            assert!(script.stdout.contains(command), "{shell} does not know {command}");
        }
        // PowerShell and elvish have no check that runs without a terminal.
        if let ("bash" | "zsh" | "fish", Some(output)) =
            (shell, fed(shell, &["-n"], &script.stdout))
        {
            assert!(
                output.status.success(),
                "{shell}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    assert_eq!(place.run(&["completions", "csh"]).code, 2);
}

#[test]
fn bash_completes_commands_and_flags() {
    let place = Place::new();
    fs::write(place.path("script"), place.run(&["completions", "bash"]).stdout).unwrap();
    let complete = |words: &str, last: usize| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; _lockctl lockctl \
             \"${{COMP_WORDS[$COMP_CWORD]}}\" x; echo \"${{COMPREPLY[@]}}\"",
            place.path("script").display()
        );
        let output = fed("bash", &["--norc"], &script)?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    if let Some(completed) = complete("lockctl el", 1) {
        assert_eq!(completed, "elect");
        assert_eq!(complete("lockctl run --fa", 2).unwrap(), "--fair");
        assert_eq!(complete("lockctl acquire --mo", 2).unwrap(), "--mode");
        assert_eq!(complete("lockctl completions z", 2).unwrap(), "zsh");
    }
}

#[test]
fn the_manual_explains_all_commands_on_one_page() {
    let place = Place::new();
    let man = place.run(&["man"]);
    assert_eq!((man.code, man.stderr.as_str()), (0, ""));
    let page = man.stdout;
    let first = page
        .lines()
        .find(|line| line.starts_with('.') && !line.starts_with(".ie") && !line.starts_with(".el"));
    assert!(first.is_some_and(|line| line.starts_with(".TH lockctl 1")), "{first:?}");
    for section in
        ["NAME", "SYNOPSIS", "OPTIONS", "COMMANDS", "EXIT", "ENVIRONMENT", "FILES", "EXAMPLES"]
    {
        assert!(
            page.lines().any(|line| line.starts_with(".SH") && line.contains(section)),
            "{section}"
        );
    }
    for command in COMMANDS.into_iter().filter(|command| *command != "help") {
        assert!(page.lines().any(|line| line == format!(".SS {command}")), "{command}");
    }
    let known = [".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".RS", ".RE", ".IP", ".ie", ".el"];
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        assert!(known.iter().any(|request| line.starts_with(request)), "{line}");
    }
    assert_eq!(page.matches("\\-\\-config").count(), 1, "what all commands take stands there once");
}

#[test]
fn the_manual_reads_well() {
    let place = Place::new();
    let page = place.run(&["man"]).stdout;
    let Some(output) = fed("groff", &["-man", "-Tutf8", "-ww", "-P-c", "-rLL=100n"], &page) else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "groff complains of nothing");
    let text = String::from_utf8_lossy(&output.stdout).replace('\u{8}', "");
    assert!(text.contains("elect"), "{text}");
}

#[test]
fn who_forgets_the_dashes_is_told_of_them() {
    let place = Place::new();
    let forgot = place.run(&["run", "k", "./report"]);
    assert_eq!(forgot.code, 2);
    assert!(
        forgot.stderr.contains("tip: a command comes after --, as in -- ./report"),
        "{}",
        forgot.stderr
    );
    let flag = place.run(&["run", "k", "--fare", "--", "true"]);
    assert!(!flag.stderr.contains("a command comes after"), "{}", flag.stderr);
}

#[test]
fn nobody_is_told_to_pass_a_key_where_the_command_goes() {
    let place = Place::new();
    for command in ["run", "elect"] {
        let refused = place.run(&[command, "-key", "--", "true"]);
        assert_eq!(refused.code, 2);
        assert!(!refused.stderr.contains("-- -k"), "{}", refused.stderr);
    }
    assert!(place.run(&["status", "-key"]).stderr.contains("use '-- -k'"));
    assert_eq!(place.run(&["status", "--", "-key"]).code, 0);
}
