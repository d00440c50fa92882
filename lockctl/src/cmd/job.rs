//! A command under a lock that is held, from its start to the death of all it started.

use std::ffi::OsString;
use std::io;
use std::io::IsTerminal as _;

use lock::BootInstant;
use lock::ConnectUrl;
use lock::ErrorKind;
use lock::Hold;
use lock::LockGuard;
use rustix::io::Errno;

use super::Context;
use crate::caller::Caller;
use crate::caller::Event;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::guardian::Link;
use crate::guardian::Spec;
use crate::message::Deadline;
use crate::message::Ending;
use crate::message::Message;
use crate::message::Status;
use crate::output;
use crate::place;
use crate::signals;

/// Runs the command to its end, which may be an early one; either way nothing of it is left.
pub(super) async fn run(
    context: &Context,
    command: &[OsString],
    guard: &LockGuard,
    caller: &mut Caller,
) -> Result<Ending, Outcome> {
    may_start(guard, caller).await?;
    job(context, command, guard, caller).await
}

/// Waits until the caller lets the job start; only one that is stopped takes its time.
async fn may_start(guard: &LockGuard, caller: &mut Caller) -> Result<(), Outcome> {
    let mut event = caller.ready();
    while event != Some(Event::Go) {
        event = tokio::select! {
            event = caller.event() => Some(event),
            loss = guard.lost() => {
                let key = guard.key();
                return Err(Outcome::lost(format!("lost {key:?} before the start: {loss}")));
            }
        };
        if let Some(Event::Signal(signal)) = event
            && signals::is_fatal(signal)
        {
            return Err(Outcome::interrupted(signal, guard.key()));
        }
        if event == Some(Event::Gone) {
            return Err(Outcome::bug("the process in front was killed"));
        }
    }
    Ok(())
}

async fn job(
    context: &Context,
    command: &[OsString],
    guard: &LockGuard,
    caller: &mut Caller,
) -> Result<Ending, Outcome> {
    let stdin = io::stdin();
    let spec = Spec {
        command,
        environment: environment(context, guard),
        stdin: caller.stdin(&stdin),
        mask: caller.mask(),
        home: caller.home(),
        greedy: caller.stdin(&stdin).is_terminal() && io::stdout().is_terminal(),
    };
    let first = deadline(guard);
    let link = Link::start(&spec, first);
    let mut link =
        link.map_err(|error| Outcome::bug(format!("the guardian cannot be started: {error}")))?;
    match supervise(context, guard, first, caller, &mut link).await {
        Some(ended) => {
            link.finish();
            ended.map_err(|errno| not_started(command, errno))
        }
        None => {
            link.destroy(caller.home()).await;
            Err(Outcome::bug("the guardian was killed; the command was killed, the lock released"))
        }
    }
}

/// Passes deadlines, signals and news between guard, guardian and caller until the job is dead;
/// `None` if the guardian died first, an error of the system if the job could not be started.
async fn supervise(
    context: &Context,
    hold: &Hold,
    first: Deadline,
    caller: &mut Caller,
    link: &mut Link,
) -> Option<Result<Ending, Errno>> {
    let mut known = Some(first.end);
    loop {
        tokio::select! {
            report = link.report() => match report? {
                Message::Ended(ending) => return Some(Ok(ending)),
                Message::Refused(errno) => return Some(Err(Errno::from_raw_os_error(errno))),
                Message::Started(group) => {
                    context.note(|| format!("started the command as process {group}"));
                }
                Message::Stopped(wants_terminal) => caller.job_stopped(wants_terminal),
                _ => {}
            },
            event = caller.event() => match event {
                Event::Signal(signal) => link.order(Message::Signal(signal)),
                Event::Gone => link.kill_job(),
                Event::Go => {}
            },
            until = renewed(hold, known) => {
                known = until;
                match until {
                    Some(_) => link.order(Message::Renewed(deadline(hold))),
                    None => link.kill_job(),
                }
            }
        }
    }
}

/// Waits for the next deadline, or for the loss; once lost, for ever.
async fn renewed(hold: &Hold, known: Option<BootInstant>) -> Option<BootInstant> {
    match known {
        Some(known) => hold.renewed(known).await,
        None => std::future::pending().await,
    }
}

fn deadline(hold: &Hold) -> Deadline {
    Deadline { risk: hold.at_risk_at(), end: hold.valid_until() }
}

/// What the command gets to know. The URL says where the locks are, so nothing else may.
fn environment(context: &Context, guard: &LockGuard) -> Vec<(&'static str, Option<String>)> {
    let url = place::open_url(&context.config);
    vec![
        ("LOCK_KEY", Some(guard.key().to_owned())),
        ("LOCK_FENCE", Some(guard.fence().to_string())),
        ("LOCK_OWNER", Some(guard.owner().as_str().to_owned())),
        ("LOCK_URL", url.as_ref().map(ConnectUrl::to_string)),
        ("LOCK_PROVIDER", None),
        ("LOCK_SQLITE_PATH", None),
        ("LOCK_REDIS_SENTINEL_PASSWORD", None),
    ]
}

fn not_started(command: &[OsString], errno: Errno) -> Outcome {
    let code = if errno == Errno::NOENT { Code::NOT_FOUND } else { Code::NOT_EXECUTABLE };
    let name = command.first().map(|name| name.to_string_lossy().into_owned());
    let message = format!("cannot run {:?}: {errno}", name.unwrap_or_default());
    Outcome::new("not_started", code, message)
}

/// Releases the lock after the job, and tells whether it held to the end.
pub(super) async fn after(guard: LockGuard, ending: Ending) -> Outcome {
    let key = guard.key().to_owned();
    let held = guard.check();
    let unlocked = guard.unlock().await;
    let ended = completed(ending.status);
    let lost = |reason: &str| {
        let reason = reason.strip_prefix("the lock was lost: ").unwrap_or(reason);
        let fate = fate(ending);
        Outcome { signal: ended.signal, ..Outcome::lost(format!("lost {key:?}: {reason}; {fate}")) }
    };
    match (held, unlocked) {
        (Err(error), _) => lost(error.message()),
        (Ok(()), Err(error)) if error.kind() == ErrorKind::Lost => lost(error.message()),
        _ if ending.told => lost("it was not renewed in time"),
        (Ok(()), Ok(())) => ended,
        (Ok(()), Err(error)) => Outcome { message: error.to_string(), ..ended },
    }
}

fn fate(ending: Ending) -> &'static str {
    if ending.told { "the command was stopped" } else { "the command had ended by itself" }
}

fn completed(status: Status) -> Outcome {
    match status {
        Status::Exited(code) => Outcome::quiet("completed", Code::of_command(code)),
        Status::Killed(signal) => {
            Outcome { signal: Some(signal), ..Outcome::quiet("completed", Code::of_signal(signal)) }
        }
    }
}

/// Releases a lock that no job ran to its end under.
pub(super) async fn released(guard: LockGuard, outcome: Outcome) -> Outcome {
    if let Err(error) = guard.unlock().await
        && outcome.code != Code::LOST
    {
        output::say(&error.to_string());
    }
    outcome
}
