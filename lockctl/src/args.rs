//! The command line.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueHint;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use clap_complete::Shell;
use lock::Handle;
use lock::LockKey;
use lock::Mode;
use lock::Owner;
use lock::Wait;

use crate::duration;
use crate::exit::Outcome;

/// Runs commands under a lock, and looks after locks.
#[derive(Debug, Parser)]
#[command(
    name = "lockctl",
    version,
    after_help = "DUR is 300ms, 5s, 10m, 1h or 0. Flags are over the environment (LOCK_URL, \
                  LOCK_DEFAULT_TTL, …), which is over the config file. Without any URL the locks are in \
                  a SQLite file of yours. Exit codes: 75 held, 76 lost, 69 store unavailable, 78 bad \
                  URL or config, 65 bad key, 2 usage, 70 bug; run returns its command's own code."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Adds to what the parser says how a command is told from what is lockctl's.
pub(crate) fn explained(mut error: clap::Error) -> clap::Error {
    let word = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let runs =
        error.get(ContextKind::Usage).is_some_and(|usage| usage.to_string().contains(" -- "));
    if error.kind() == ErrorKind::UnknownArgument && runs {
        if word.starts_with('-') {
            // What comes after -- is the command, so no other argument can be passed there.
            error.remove(ContextKind::Suggested);
        } else {
            let tip = format!("a command comes after --, as in -- {word}");
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
    }
    error
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Where the locks are, such as redis://HOST or sqlite:PATH [env: LOCK_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Configuration in YAML, TOML or JSON
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say on stderr what is being done
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command under a lock, and stop it if the lock is lost
    ///
    /// The command runs in a process group of its own, which gets SIGTERM when the lock is at risk and
    /// SIGKILL when its time is over, also if lockctl itself is frozen or killed. What is left of the
    /// group when the command ends is killed before the lock is released. Not covered: processes that
    /// leave the group (they are killed only as orphans), commands that change to another user, and
    /// lockctl and its guardian killed with -9 at the same time. On a terminal ^C and ^Z work as
    /// usual; a stopped command keeps its lock.
    ///
    /// The command gets LOCK_KEY, LOCK_FENCE, LOCK_OWNER and LOCK_URL (without password). Send the
    /// fence with every write, and let what is written to refuse a lower one than it has seen.
    Run(Run),
    /// Wait until this process leads, run a command while it does, and contend again when it is lost
    ///
    /// Waits for ever for KEY, whatever becomes of the store meanwhile, then runs the command as run
    /// does. When the lock is lost the command is stopped (SIGTERM when it is at risk, SIGKILL when its
    /// time is over) and lockctl waits for KEY again, to start the command anew. Only a command that
    /// ends by itself ends the election, with its own code.
    ///
    /// A signal while waiting ends it with 128 and its number. While the command runs, signals are passed
    /// on to it; after a SIGTERM or SIGINT it is not started again.
    Elect(Elect),
    /// Take a lock that nobody renews, and print a handle to it
    Acquire(Acquire),
    /// Give the lock of a handle a new time to live
    Renew(Renew),
    /// Release the lock of a handle
    Release(Release),
    /// Show who holds a key
    Status(Key),
    /// List the held keys that begin with a prefix
    List(List),
    /// Show the held keys that begin with a prefix live, on a terminal
    ///
    /// A row per holder, with a bar for the time that is left of its lease (the longest time left that
    /// was seen is a full bar). What changed in the last seconds is marked: + taken, ~ changed, - freed.
    /// Keys: arrows, PgUp, PgDn, Home and End scroll; / filters by key or owner; q, Esc or ^C ends.
    ///
    /// Asks the store for the list once a second. With --json it prints for each key that changed the
    /// line that list would print, all keys first; renewals are no change.
    Watch(List),
    /// Take a lock away from whoever holds it
    Unlock(Unlock),
    /// Remove what expired locks left behind in the store
    Cleanup,
    /// Show what the backend can do
    Profile,
    /// Print the statements that create what the store needs, without asking it anything
    Schema,
    /// Print the completion script of a shell, to be sourced by it
    Completions(Completions),
    /// Print the manual page, as in lockctl man | man -l -
    Man,
}

/// One key.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The lock's name
    #[arg(value_name = "KEY")]
    key: OsString,
}

impl Key {
    /// Returns the key, if any store could take it.
    pub(crate) fn get(&self) -> Result<&str, Outcome> {
        let key = utf8(&self.key, "a key")?;
        match LockKey::new(key) {
            Ok(_) => Ok(key),
            Err(error) => Err(Outcome::data(error.to_string())),
        }
    }
}

fn utf8<'a>(text: &'a OsStr, what: &str) -> Result<&'a str, Outcome> {
    text.to_str().ok_or_else(|| {
        Outcome::data(format!("{what} must be UTF-8, this one is not: {}", text.to_string_lossy()))
    })
}

/// How to take a lock.
#[derive(Debug, Args)]
pub(crate) struct Claim {
    #[command(flatten)]
    pub(crate) key: Key,
    /// How long to wait while others hold it, or forever
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = duration::wait)]
    pub(crate) wait: Wait,
    /// How to exclude others: exclusive, shared, or permits:N for up to N holders at once
    #[arg(long, value_name = "MODE", default_value = "exclusive", value_parser = mode)]
    pub(crate) mode: Mode,
    /// Serve the waiters of all processes in the order in which they came
    #[arg(long)]
    pub(crate) fair: bool,
    /// Whom to show as the holder; user@host:pid by default
    #[arg(long, value_name = "NAME", value_parser = owner)]
    pub(crate) owner: Option<String>,
    /// Keep the lock at least this long
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = duration::plain)]
    pub(crate) min_hold: Duration,
    /// How long before the lock would be lost the command is asked to end; a fifth of the TTL by default
    #[arg(long, value_name = "DUR", value_parser = duration::plain)]
    pub(crate) grace: Option<Duration>,
    /// Return 0 instead of 75 if somebody else holds the lock
    #[arg(long)]
    pub(crate) skip_ok: bool,
    /// Write the outcome as a line of JSON to this open file descriptor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    pub(crate) result_fd: Option<i32>,
}

/// `lockctl run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) claim: Claim,
    /// How long the store keeps the lock without hearing from lockctl; 30s by default
    #[arg(long, value_name = "DUR", value_parser = duration::positive)]
    pub(crate) ttl: Option<Duration>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `lockctl elect`.
#[derive(Debug, Args)]
pub(crate) struct Elect {
    #[command(flatten)]
    pub(crate) key: Key,
    /// How long the store keeps the lock without hearing from lockctl; 30s by default
    #[arg(long, value_name = "DUR", value_parser = duration::positive)]
    pub(crate) ttl: Option<Duration>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `lockctl acquire`.
#[derive(Debug, Args)]
pub(crate) struct Acquire {
    #[command(flatten)]
    pub(crate) claim: Claim,
    /// When the lock ends by itself
    #[arg(long, value_name = "DUR", value_parser = duration::positive)]
    pub(crate) hold_for: Duration,
}

/// `lockctl renew`.
#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// What acquire printed
    #[arg(value_parser = handle)]
    pub(crate) handle: Handle,
    /// When the lock ends by itself, from now on
    #[arg(long, value_name = "DUR", value_parser = duration::positive)]
    pub(crate) hold_for: Duration,
}

/// `lockctl release`.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// What acquire printed
    #[arg(value_parser = handle)]
    pub(crate) handle: Handle,
}

/// `lockctl list` and `lockctl watch`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// What the keys begin with
    #[arg(default_value = "")]
    prefix: OsString,
}

impl List {
    pub(crate) fn prefix(&self) -> Result<&str, Outcome> {
        utf8(&self.prefix, "a prefix")
    }
}

/// `lockctl unlock`.
#[derive(Debug, Args)]
pub(crate) struct Unlock {
    #[command(flatten)]
    pub(crate) key: Key,
    /// Confirm that the holder is to lose the lock while it may still work
    #[arg(long)]
    pub(crate) force: bool,
    /// End the holder's whole session at once, with all its other locks
    #[arg(long)]
    pub(crate) kill_session: bool,
}

/// `lockctl completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|error: lock::Error| error.message().to_owned())
}

fn owner(text: &str) -> Result<String, lock::Error> {
    Owner::new(text).map(|owner| owner.as_str().to_owned())
}

fn handle(text: &str) -> Result<Handle, lock::Error> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_go_before_and_after_the_command_but_not_into_it() {
        let cli = Cli::try_parse_from([
            "lockctl", "--json", "run", "k", "--url", "memory:", "--", "cmd", "-v", "--url", "x",
        ]);
        let cli = cli.unwrap();
        assert!(cli.global.json && !cli.global.verbose);
        assert_eq!(cli.global.url.as_deref(), Some("memory:"));
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["cmd", "-v", "--url", "x"]);
        assert_eq!(run.claim.wait, Wait::Never);
    }

    #[test]
    fn run_needs_a_command() {
        assert!(Cli::try_parse_from(["lockctl", "run", "k"]).is_err());
        assert!(Cli::try_parse_from(["lockctl", "run", "k", "--"]).is_err());
    }
}
