//! `lockctl unlock --force`: taking a lock away.

use lock::Evicted;
use lock::Eviction;
use serde::Serialize;

use super::Context;
use crate::args::Unlock;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;

#[derive(Serialize)]
struct Unlocked<'a> {
    key: &'a str,
    holders: u64,
    others: u64,
}

/// Refuses what was not confirmed, before the store is asked anything.
pub(super) fn check(args: &Unlock) -> Result<(), Outcome> {
    args.key.get()?;
    if args.force {
        return Ok(());
    }
    Err(Outcome::usage(
        "unlock takes the lock away from a holder who may still be working; if that is what you \
         want, add --force",
    ))
}

/// Takes the lock away from whoever holds it.
pub(super) async fn unlock(context: &Context, args: &Unlock) -> Result<(), Outcome> {
    let key = args.key.get()?;
    let how = if args.kill_session { Eviction::EndSession } else { Eviction::LockOnly };
    let evicted = context.provider.force_unlock(key, how).await?;
    if evicted.holders == 0 {
        let message = format!("nobody holds {key:?}");
        return Err(Outcome::new("not_held", Code::NOT_HELD, message));
    }
    if context.global.json {
        let Evicted { holders, others, .. } = evicted;
        return output::print_json(&Unlocked { key, holders, others });
    }
    output::say(&sentence(key, evicted));
    Ok(())
}

fn sentence(key: &str, evicted: Evicted) -> String {
    let holders = match evicted.holders {
        1 => "its holder".to_owned(),
        several => format!("{several} holders"),
    };
    match evicted.others {
        0 => format!("took {key:?} away from {holders}"),
        others => format!("took {key:?} away from {holders}; {others} other locks went with it"),
    }
}
