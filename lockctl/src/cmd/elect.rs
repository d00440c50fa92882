//! `lockctl elect`: a command that runs while this process leads, for as many terms as it takes.
//!
//! - A command that was stopped because of the lock has not ended: lockctl contends again and starts it
//!   anew. That counts from the SIGTERM on, even if the lock was renewed after all, or if the command
//!   then ends with 0.
//! - A command that ends by itself ends the election with its code; if the lock turns out to have been
//!   lost by then, with 76, because another may lead already.
//! - After a SIGTERM or SIGINT of the user no new term begins.

use std::time::Duration;

use lock::Config;
use lock::LockGuard;
use lock::LockOptions;
use lock::Wait;

use super::Context;
use super::claim::note_acquired;
use super::job;
use super::lookout::Lookout;
use crate::args::Elect;
use crate::args::Global;
use crate::caller::Caller;
use crate::caller::end_of_wait;
use crate::duration::show;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;
use crate::place;

/// Between two tries to connect: 1, 2, 4 … up to 30 s.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the command whenever this process leads, until it ends by itself.
pub(super) async fn elect(
    global: Global,
    args: &Elect,
    caller: &mut Caller,
) -> Result<Outcome, Outcome> {
    let key = args.key.get()?;
    let config = place::config(&global)?;
    let context = connect(&global, &config, key, caller).await?;
    let outcome = terms(&context, args, caller).await;
    context.close().await;
    outcome
}

/// Connects, however long that takes: an election must survive a store that starts later.
async fn connect(
    global: &Global,
    config: &Config,
    key: &str,
    caller: &mut Caller,
) -> Result<Context, Outcome> {
    let mut pause = FIRST_PAUSE;
    loop {
        let connected = tokio::select! {
            biased;
            outcome = end_of_wait(caller, key) => return Err(outcome),
            connected = Context::connect(global, config) => connected,
        };
        match connected {
            Ok(context) => return Ok(context),
            Err(error) if error.is_retryable() => {
                output::say(&format!("{error}; trying again in {}", show(pause)));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            outcome = end_of_wait(caller, key) => return Err(outcome),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Leads again and again, until the command ends by itself.
async fn terms(context: &Context, args: &Elect, caller: &mut Caller) -> Result<Outcome, Outcome> {
    let options = options(context, args, caller)?;
    loop {
        let guard = contend(context, args.key.get()?, &options, caller).await?;
        let ended = job::run(context, &args.command, &guard, caller).await;
        // The job is dead by now, whatever came of it: only then may others lead.
        let (stopped, outcome) = match ended {
            Ok(ending) => (ending.told, job::after(guard, ending).await),
            Err(outcome) => (outcome.code == Code::LOST, job::released(guard, outcome).await),
        };
        if !stopped || caller.asked_to_end() {
            return Ok(outcome);
        }
        output::say(&format!("{}; contending again", outcome.message));
        caller.idle();
    }
}

fn options(context: &Context, args: &Elect, caller: &Caller) -> Result<LockOptions, Outcome> {
    let owner = place::default_owner(caller.process());
    let options = LockOptions::new().wait(Wait::Forever).owner(owner);
    let Some(ttl) = args.ttl else { return Ok(options) };
    context.check_ttl("--ttl", ttl)?;
    Ok(options.ttl(ttl))
}

/// Waits to lead; the engine goes on trying while the store does not answer.
async fn contend(
    context: &Context,
    key: &str,
    options: &LockOptions,
    caller: &mut Caller,
) -> Result<LockGuard, Outcome> {
    context.note(|| format!("waiting for {key:?}"));
    let mut lookout = Lookout::new(context, key).loud();
    let options = options.clone().observe(lookout.ear());
    let guard = tokio::select! {
        biased;
        outcome = end_of_wait(caller, key) => return Err(outcome),
        taken = context.provider.lock(key, &options) => taken?,
        never = lookout.show() => match never {},
    };
    lookout.over();
    note_acquired(context, &guard);
    Ok(guard)
}
