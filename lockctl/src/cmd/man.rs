//! `lockctl man`: the manual, all commands on one page.

use std::io;

use clap::Command;
use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::Roff;
use clap_mangen::roff::bold;
use clap_mangen::roff::roman;

use crate::args::Cli;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;

/// Prints the page as roff, for `man -l -`.
pub(super) fn man() -> Result<Outcome, Outcome> {
    let page = page().map_err(|error| Outcome::bug(format!("cannot write the page: {error}")))?;
    output::print(&page)?;
    Ok(Outcome::quiet("done", Code::OK))
}

fn page() -> io::Result<String> {
    // Its subcommand `help` explains nothing that the page does not.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let commands: Vec<_> = root.get_subcommands().cloned().map(without_globals).collect();
    let man = Man::new(root.clone()).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend(synopses(&commands).to_roff().into_bytes());
    page.extend(body("OPTIONS", |page| man.render_options_section(page))?.into_bytes());
    page.extend(section("COMMANDS", &[]).to_roff().into_bytes());
    for command in commands {
        page.extend(chapter(command)?.into_bytes());
    }
    for (name, paragraphs) in [
        ("DURATIONS", DURATIONS),
        ("EXIT STATUS", EXIT_STATUS),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
        ("EXAMPLES", EXAMPLES),
    ] {
        page.extend(section(name, paragraphs).to_roff().into_bytes());
    }
    String::from_utf8(page).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What every command takes is explained once.
fn without_globals(command: Command) -> Command {
    let once = |id: &str| id == "help" || id == "version";
    command.mut_args(|arg| {
        let known = arg.is_global_set() || once(arg.get_id().as_str());
        if known { arg.hide(true) } else { arg }
    })
}

fn synopses(commands: &[Command]) -> Roff {
    let mut roff = section("SYNOPSIS", &[]);
    for (index, command) in commands.iter().enumerate() {
        if index > 0 {
            roff.control("br", []);
        }
        roff.text(usage(command));
    }
    roff
}

fn usage(command: &Command) -> Vec<clap_mangen::roff::Inline> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let usage = command.clone().render_usage().to_string();
    let arguments = usage.split_once(&name).map_or("", |(_, arguments)| arguments).to_owned();
    vec![bold(name), roman(arguments)]
}

/// What there is to know of one command.
fn chapter(command: Command) -> io::Result<String> {
    let mut roff = Roff::new();
    roff.control("SS", [command.get_name()]);
    roff.text(usage(&command));
    roff.control("PP", []);
    let man = Man::new(command);
    let description = body("DESCRIPTION", |page| man.render_description_section(page))?;
    let options = body("OPTIONS", |page| man.render_options_section(page))?;
    let unheaded = |section: String| section.split_once('\n').map(|(_, body)| body.to_owned());
    Ok([
        roff.to_roff(),
        unheaded(description).unwrap_or_default(),
        unheaded(options).unwrap_or_default(),
    ]
    .concat())
}

/// Renders one section without the preamble that each rendering begins with.
fn body(
    heading: &str,
    render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> io::Result<String> {
    let mut section = Vec::new();
    render(&mut section)?;
    let section = String::from_utf8_lossy(&section).into_owned();
    let begin = section.find(&format!(".SH {heading}"));
    Ok(begin.map_or_else(String::new, |begin| section[begin..].to_owned()))
}

fn section(name: &str, paragraphs: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [name]);
    for (term, text) in paragraphs {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
    roff
}

const DURATIONS: &[(&str, &str)] =
    &[("300ms, 5s, 10m, 1h or 0", "A whole number and its unit. A wait can also be forever.")];

const EXIT_STATUS: &[(&str, &str)] = &[
    (
        "0 and others",
        "run and elect return the code of their command; 128 and the number of a signal that killed it.",
    ),
    ("1", "What was to be released, renewed or unlocked is not held."),
    ("2", "The call is wrong, or asks for what the backend cannot do."),
    ("65", "A key, or another value, that the store cannot take."),
    ("69", "The store is not available."),
    ("70", "A bug."),
    ("75", "Somebody else holds the lock, or the wait is over; 0 with --skip-ok."),
    ("76", "The lock was lost, and the command stopped, before the command ended by itself."),
    ("78", "The URL or the configuration is wrong."),
    ("126, 127", "The command cannot be started, or found."),
    ("128 and more", "A signal ended the wait for the lock."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("LOCK_URL", "Where the locks are, if there is no --url. Commands get it without password."),
    ("LOCK_KEY, LOCK_FENCE, LOCK_OWNER", "What a command under a lock gets to know of it."),
    (
        "LOCK_PROVIDER, LOCK_DEFAULT_TTL and others",
        "Fields of the configuration; they go over the file.",
    ),
    ("NO_COLOR", "If it is set, nothing is coloured."),
    ("TERM", "If it is dumb, nothing is coloured, and there is no live view."),
];

const FILES: &[(&str, &str)] = &[(
    "$XDG_STATE_HOME/lockctl/locks.db",
    "The locks, where no URL is given; ~/.local/state if the variable is not set.",
)];

const EXAMPLES: &[(&str, &str)] = &[
    ("lockctl run nightly -- ./report", "Runs the report unless it runs already."),
    (
        "lockctl run db --wait 5m --mode shared -- ./backup",
        "Waits up to five minutes, then runs beside other readers.",
    ),
    (
        "lockctl run encode --wait forever --mode permits:3 --fair -- ./encode",
        "Runs at most three at a time, in the order in which they came.",
    ),
    (
        "lockctl elect scheduler --ttl 10s -- ./scheduler",
        "Keeps one scheduler running among several machines.",
    ),
    (
        "lockctl watch --json orders: | while read -r change; do ...; done",
        "Acts upon every change.",
    ),
];
