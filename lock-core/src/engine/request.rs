//! A lock call's options, parsed once against what the backend can do.

use std::time::Duration;

use super::Shared;
use super::term::Term;
use super::term::Terms;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Lease;
use crate::LeaseKind;
use crate::LockKey;
use crate::LockOptions;
use crate::Owner;
use crate::Renew;
use crate::Result;

/// The TTL where nobody says anything, if the store keeps a lock for so long.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// Parses a call into what to ask the store for; `waits` tells whether it may stand in line.
pub(crate) fn claim(
    shared: &Shared,
    key: &str,
    options: &LockOptions,
    waits: bool,
) -> Result<Claim> {
    let profile = &shared.profile;
    let key = shared.parse_key(key)?;
    profile.check_mode(options.mode)?;
    check_fair(shared, options.fair)?;
    let ttl = shared.parse_ttl(options.ttl)?;
    profile.check_validity(ttl)?;
    check_grace(options.grace, ttl)?;
    let owner = match &options.owner {
        Some(name) => Owner::new(name)?,
        None => shared.owner.clone(),
    };
    let mut claim = Claim::new(key, owner, ttl);
    claim.mode = options.mode;
    claim.queue = waits && (options.fair || profile.native_queue);
    Ok(claim)
}

/// The term of a hold that begins with `lease`.
pub(crate) fn term(
    shared: &Shared,
    claim: &Claim,
    options: &LockOptions,
    lease: Lease,
    now: BootInstant,
) -> Term {
    let session = shared.profile.lease == LeaseKind::Session;
    let renews = options.renew == Renew::UntilReleased;
    let end = if renews {
        BootInstant::FAR
    } else {
        shared.end_without_renewal(lease.since.max(now) + claim.ttl)
    };
    let terms = Terms {
        ttl: claim.ttl,
        granularity: shared.profile.granularity,
        grace: options.grace,
        keeps: renews || session,
        end,
        last: options.max_hold.map_or(BootInstant::FAR, |limit| now + limit),
    };
    Term::new(lease, terms)
}

impl Shared {
    pub(crate) fn parse_key(&self, key: &str) -> Result<LockKey> {
        let key = LockKey::prefixed(&self.options.prefix, key)?;
        self.profile.key_rule.check(&key)?;
        Ok(key)
    }

    /// Checks a TTL, and raises it to the smallest that the store can grant.
    pub(crate) fn parse_ttl(&self, ttl: Option<Duration>) -> Result<Duration> {
        let ttl = ttl.unwrap_or_else(|| self.default_ttl());
        if ttl.is_zero() {
            return Err(Error::new(ErrorKind::InvalidInput, "a TTL must be longer than zero"));
        }
        if ttl > self.profile.ttl_max {
            let (name, max) = (self.profile.name, self.profile.ttl_max);
            let message = format!("backend {name} keeps a lock for at most {max:?}, not {ttl:?}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(ttl.max(self.profile.ttl_min))
    }

    /// The TTL of a call that names none.
    pub(crate) fn default_ttl(&self) -> Duration {
        self.options.ttl.unwrap_or_else(|| DEFAULT_TTL.min(self.profile.ttl_max))
    }

    /// When a hold ends that nobody renews: on a session the store would keep it for ever.
    pub(crate) fn end_without_renewal(&self, end: BootInstant) -> BootInstant {
        match self.profile.lease {
            LeaseKind::Session => end,
            LeaseKind::PerLock => BootInstant::FAR,
        }
    }
}

fn check_fair(shared: &Shared, fair: bool) -> Result<()> {
    let profile = &shared.profile;
    if !fair || profile.fair || profile.native_queue {
        return Ok(());
    }
    let message = format!("fair order is not supported by backend {}", profile.name);
    Err(Error::new(ErrorKind::Unsupported, message))
}

fn check_grace(grace: Option<Duration>, ttl: Duration) -> Result<()> {
    match grace {
        Some(grace) if grace >= ttl => {
            let message = format!("a grace of {grace:?} must be shorter than the TTL of {ttl:?}");
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
        _ => Ok(()),
    }
}
