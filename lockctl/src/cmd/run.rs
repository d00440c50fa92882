//! `lockctl run`: a command under a lock.

use super::Context;
use super::claim::options;
use super::claim::take;
use super::job;
use crate::args::Global;
use crate::args::Run;
use crate::caller::Caller;
use crate::exit::Outcome;

/// Runs the command under the lock; the outcome is the command's if the lock held to its end.
pub(super) async fn run(
    global: Global,
    args: &Run,
    caller: &mut Caller,
) -> Result<Outcome, Outcome> {
    let key = args.claim.key.get()?;
    let context = Context::open_unless_ended(global, key, caller).await?;
    let outcome = locked(&context, args, caller).await;
    context.close().await;
    outcome
}

async fn locked(context: &Context, args: &Run, caller: &mut Caller) -> Result<Outcome, Outcome> {
    let options = options(context, &args.claim, caller, ("--ttl", args.ttl))?;
    let guard = take(context, &args.claim, options, caller).await?;
    let fence = Some(guard.fence().get());
    let ended = job::run(context, &args.command, &guard, caller).await;
    // The job is dead by now, whatever came of it: only then may others have the lock.
    let outcome = match ended {
        Ok(ending) => job::after(guard, ending).await,
        Err(outcome) => job::released(guard, outcome).await,
    };
    Ok(Outcome { fence, ..outcome })
}
