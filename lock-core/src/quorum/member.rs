//! The stores that a combination is made of, and what they can do together.

use std::time::Duration;

use crate::Error;
use crate::ErrorKind;
use crate::FenceKind;
use crate::KeyRule;
use crate::LeaseKind;
use crate::Profile;
use crate::Result;
use crate::SharedBackend;
use crate::Wakeup;

/// The smallest TTL: two rounds and what is left after them have to fit in.
const TTL_MIN: Duration = Duration::from_millis(100);

/// One store of a [`Quorum`](crate::Quorum) or a [`Dual`](crate::Dual), with the name that errors call it by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Member {
    /// What errors call it: an address, without a password.
    pub name: String,
    /// The store.
    pub backend: SharedBackend,
}

impl Member {
    /// Names a store.
    pub fn new(name: impl Into<String>, backend: SharedBackend) -> Self {
        Self { name: name.into(), backend }
    }
}

/// Leaves the name to the combination, which counts its members.
impl From<SharedBackend> for Member {
    fn from(backend: SharedBackend) -> Self {
        Self::new("", backend)
    }
}

/// Gives the members without a name one: what they are and which.
pub(crate) fn named(members: impl IntoIterator<Item = impl Into<Member>>) -> Vec<Member> {
    let mut members: Vec<Member> = members.into_iter().map(Into::into).collect();
    for (at, member) in members.iter_mut().enumerate().filter(|(_, it)| it.name.is_empty()) {
        member.name = format!("{} {}", member.backend.profile().name, at + 1);
    }
    members
}

/// Refuses a member whose fences are small numbers that a clock's cannot be compared with.
pub(crate) fn check_fence(member: &Member, hint: &str) -> Result<()> {
    if member.backend.profile().fence == FenceKind::Clocked {
        return Ok(());
    }
    let message = format!("the fences of {} do not come from a clock: {hint}", member.name);
    Err(Error::new(ErrorKind::Config, message))
}

/// What all `members` can do together, in exclusive mode and without a line.
pub(crate) fn profile(name: &'static str, members: &[Member], ttl_max: Duration) -> Profile {
    let profiles: Vec<&Profile> = members.iter().map(|member| member.backend.profile()).collect();
    let mut profile = Profile::new(name);
    profile.ttl_min = TTL_MIN;
    let session = profiles.iter().any(|it| it.lease == LeaseKind::Session);
    profile.lease = if session { LeaseKind::Session } else { LeaseKind::PerLock };
    for one in &profiles {
        profile.ttl_min = profile.ttl_min.max(one.ttl_min);
        profile.granularity = profile.granularity.max(one.granularity);
        profile.batch = profile.batch.min(one.batch);
    }
    profile.ttl_max = profiles.iter().map(|it| it.ttl_max).fold(ttl_max, Duration::min);
    if profiles.iter().all(|it| it.wakeup == Wakeup::Push) {
        profile.wakeup = Wakeup::Push;
    }
    profile.watches_holders = profiles.iter().all(|it| it.watches_holders);
    // The most eager: what one of them gives no hint of may be what a waiter waits for.
    if let Some(eager) = profiles.iter().map(|it| it.poll).min_by_key(|plan| plan.max) {
        profile.poll = eager;
    }
    let rules: Vec<KeyRule> = profiles.iter().map(|it| it.key_rule.clone()).collect();
    profile.key_rule = KeyRule::new(move |key| rules.iter().try_for_each(|rule| rule.check(key)));
    profile
}
