//! `lockctl renew`: more time for the lock of a handle.

use super::Context;
use super::acquire::shown;
use super::not_held;
use crate::args::Renew;
use crate::exit::Outcome;
use crate::output;

/// Gives the lock a new time to live from now on, and prints the same as `acquire`.
pub(super) async fn renew(context: &Context, args: &Renew) -> Result<(), Outcome> {
    context.check_ttl("--hold-for", args.hold_for)?;
    let renewed = context.provider.renew(&args.handle, args.hold_for).await;
    let valid_for = renewed.map_err(not_held)?;
    output::print(&shown(context, &args.handle, valid_for)?)
}
