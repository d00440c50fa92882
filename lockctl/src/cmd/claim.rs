//! Taking a lock for `run` and `acquire`.

use std::time::Duration;

use lock::Error;
use lock::ErrorKind;
use lock::Holder;
use lock::LockGuard;
use lock::LockOptions;
use lock::Wait;

use super::Context;
use super::lookout::Lookout;
use crate::args::Claim;
use crate::caller::Caller;
use crate::caller::end_of_wait;
use crate::duration::show;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::place;

/// Turns flags into options.
pub(super) fn options(
    context: &Context,
    claim: &Claim,
    caller: &Caller,
    (flag, ttl): (&str, Option<Duration>),
) -> Result<LockOptions, Outcome> {
    context.check_ttl("--min-hold", claim.min_hold)?;
    let owner = claim.owner.clone().unwrap_or_else(|| place::default_owner(caller.process()));
    let mut options = LockOptions::new()
        .wait(claim.wait.clone())
        .mode(claim.mode)
        .owner(owner)
        .min_hold(claim.min_hold);
    if claim.fair {
        options = options.fair();
    }
    if let Some(ttl) = ttl {
        context.check_ttl(flag, ttl)?;
        options = options.ttl(ttl);
    }
    if let Some(grace) = claim.grace {
        check_grace(context, grace, ttl, flag)?;
        options = options.grace(grace);
    }
    Ok(options)
}

fn check_grace(
    context: &Context,
    grace: Duration,
    ttl: Option<Duration>,
    flag: &str,
) -> Result<(), Outcome> {
    let of_url = context.config.url.as_ref().and_then(|url| url.duration("ttl").ok().flatten());
    let usual = DEFAULT_TTL.min(context.provider.profile().ttl_max);
    let ttl = ttl.or(context.config.default_ttl).or(of_url).unwrap_or(usual);
    if grace < ttl {
        return Ok(());
    }
    Err(Outcome::usage(format!("--grace must be shorter than {flag}, which is {}", show(ttl))))
}

/// The TTL where nobody says anything else.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// Takes the lock, waiting as asked; a signal ends the wait with nothing held.
pub(super) async fn take(
    context: &Context,
    claim: &Claim,
    options: LockOptions,
    caller: &mut Caller,
) -> Result<LockGuard, Outcome> {
    let key = claim.key.get()?;
    let waits = claim.wait != Wait::Never;
    if waits {
        context.note(|| format!("waiting for {key:?}"));
    }
    let mut lookout = Lookout::new(context, key);
    let options = options.observe(lookout.ear());
    let lock = context.provider.lock(key, &options);
    let taken = tokio::select! {
        biased;
        outcome = end_of_wait(caller, key) => return Err(outcome),
        taken = lock => taken,
        never = lookout.show(), if waits => match never {},
    };
    let guard = taken.map_err(|error| refused(error, key, claim))?;
    note_acquired(context, &guard);
    Ok(guard)
}

/// Tells those who asked for it what was acquired.
pub(super) fn note_acquired(context: &Context, guard: &LockGuard) {
    context.note(|| {
        let (key, mode, fence) = (guard.key(), guard.mode(), guard.fence());
        let (ttl, owner) = (show(guard.ttl()), guard.owner());
        format!("acquired {key:?} {mode} as {owner}, fence {fence}, TTL {ttl}")
    });
}

/// Says who has the lock.
fn refused(error: Error, key: &str, claim: &Claim) -> Outcome {
    let waited = match error.kind() {
        ErrorKind::Held => String::new(),
        ErrorKind::Timeout => "the wait is over, ".to_owned(),
        _ => return error.into(),
    };
    let holder = all(error.holders()).unwrap_or_else(|| "somebody else".to_owned());
    let (word, code) = match (claim.skip_ok, error.kind()) {
        (true, _) => ("skipped", Code::OK),
        (false, ErrorKind::Held) => ("held", Code::HELD),
        (false, _) => ("timeout", Code::HELD),
    };
    let skipped = if claim.skip_ok { "; skipped" } else { "" };
    Outcome::new(word, code, format!("{waited}{key:?} is held by {holder}{skipped}"))
}

/// Names the first of the holders and counts the others.
pub(super) fn all(holders: &[Holder]) -> Option<String> {
    match holders {
        [] => None,
        [holder] => Some(holder.to_string()),
        [holder, rest @ ..] => Some(format!("{holder} and {} more", rest.len())),
    }
}
