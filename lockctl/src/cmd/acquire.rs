//! `lockctl acquire`: a lock that outlives this process, for as long as was asked.

use std::time::Duration;

use lock::Handle;
use lock::LeaseKind;
use lock::LockGuard;
use serde::Serialize;

use super::Context;
use super::claim::options;
use super::claim::take;
use crate::args::Acquire;
use crate::args::Global;
use crate::caller::Caller;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;

/// Takes the lock, prints its handle, and leaves it to its TTL.
pub(super) async fn acquire(
    global: Global,
    args: &Acquire,
    caller: &mut Caller,
) -> Result<Outcome, Outcome> {
    let key = args.claim.key.get()?;
    let context = Context::open_unless_ended(global, key, caller).await?;
    let outcome = detached(&context, args, caller).await;
    context.close().await;
    outcome
}

async fn detached(
    context: &Context,
    args: &Acquire,
    caller: &mut Caller,
) -> Result<Outcome, Outcome> {
    check_backend(context)?;
    let hold_for = ("--hold-for", Some(args.hold_for));
    let options = options(context, &args.claim, caller, hold_for)?.without_renewal();
    let guard = take(context, &args.claim, options, caller).await?;
    let fence = Some(guard.fence().get());
    hand_over(context, guard).await?;
    Ok(Outcome { fence, ..Outcome::quiet("acquired", Code::OK) })
}

/// A handle is of use only where the lock can outlive the process that took it.
fn check_backend(context: &Context) -> Result<(), Outcome> {
    let profile = context.provider.profile();
    if profile.name == "memory" {
        return Err(Outcome::usage(
            "acquire cannot work with memory: its locks are in this process, which ends now; use a \
             store such as sqlite:PATH",
        ));
    }
    if profile.lease == LeaseKind::Session {
        return Err(Outcome::usage(format!(
            "acquire cannot work with {}: its locks end with the session that took them; use run",
            profile.name
        )));
    }
    Ok(())
}

/// Prints the handle; a lock whose handle nobody gets would be held in vain, and is released.
async fn hand_over(context: &Context, guard: LockGuard) -> Result<(), Outcome> {
    let valid_for = guard.valid_for();
    let handle = guard.into_handle()?;
    let Err(error) = output::deliver(&shown(context, &handle, valid_for)?) else { return Ok(()) };
    let fate = match context.provider.release(&handle).await {
        Ok(()) => "the lock was released".to_owned(),
        Err(error) => format!("the lock ends by its TTL: {error}"),
    };
    Err(Outcome::bug(format!("cannot write the handle to stdout: {error}; {fate}")))
}

#[derive(Serialize)]
struct Acquired<'a> {
    handle: String,
    key: &'a str,
    fence: u64,
    valid_for_ms: u64,
}

/// Writes a handle, and for how long it is good in JSON, as a line.
pub(super) fn shown(
    context: &Context,
    handle: &Handle,
    valid_for: Duration,
) -> Result<String, Outcome> {
    if !context.global.json {
        return Ok(format!("{handle}\n"));
    }
    output::json_line(&Acquired {
        handle: handle.to_string(),
        key: &handle.key,
        fence: handle.fence.get(),
        valid_for_ms: u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX),
    })
}
