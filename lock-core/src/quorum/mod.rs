//! One lock over an odd number of stores: a backend over backends, and what a [`Dual`] shares with it.
//!
//! [`Dual`]: crate::Dual
//!
//! [`Quorum`] is Redlock over whatever stores it is given. Each call is a [`round`] over all members at once,
//! which ends with the majority. An acquisition is a [`vote`]; what it leaves anywhere is [`undo`]ne, in the
//! background if need be, and never before the attempt that it undoes: see [`lane`]. What is decided from the
//! members' answers is pure: [`merge`], [`pages`].

mod delegate;
mod failures;
mod group;
mod keep;
mod lane;
mod look;
mod member;
mod merge;
mod node;
mod options;
mod pages;
mod round;
mod undo;
mod vote;
mod watch;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::delegate::delegate_to_group;
pub use self::failures::MemberErrors;
pub(crate) use self::group::Group;
pub(crate) use self::group::Kind;
pub(crate) use self::group::check_distinct;
pub use self::member::Member;
pub(crate) use self::member::check_fence;
pub(crate) use self::member::named;
pub(crate) use self::member::profile;
pub use self::options::QuorumOptions;
use crate::Error;
use crate::ErrorKind;
use crate::LeaseKind;
use crate::Result;

/// How long a round waits for a member that does not answer, unless it is set.
const BUDGET: Duration = Duration::from_millis(100);

/// A lock over an odd number of independent stores, held while a majority of them holds it.
///
/// It goes on while a minority fails, hangs or restarts empty, which one store cannot. It is as good as the
/// assumptions that it makes: clocks that run alike, and members that either keep what they granted or say when
/// they started ([`Backend::remembers_since`](crate::Backend::remembers_since)). It is not consensus: send the
/// fence with each write. GUARANTEES.md lists what breaks it.
///
/// Exclusive mode only: a majority does not keep count of readers or permits, and lines of several stores
/// agree on no order.
///
/// # Errors of its calls
///
/// `Unavailable` if too few members answer alike, naming each that failed; the
/// [`source`](std::error::Error::source) is [`MemberErrors`]. If enough members fail for good, the error is of
/// their kind. Contention on a majority is an outcome, not an error.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use lock_core::{Engine, EngineOptions, Member, Quorum, QuorumOptions, Result};
/// # use lock_core::{Clock, LockOptions, LockProvider, SharedBackend};
/// # use lock_memory::{Memory, Store};
/// # fn connect(_: &str) -> SharedBackend { Arc::new(Memory::new(&Store::new(Clock::system()))) }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let members = ["a:6379", "b:6379", "c:6379"].map(|address| Member::new(address, connect(address)));
/// let quorum = Quorum::new(members, QuorumOptions::new())?;
/// let locks = Engine::new(Arc::new(quorum), EngineOptions::new())?;
/// # locks.lock("job", &LockOptions::new()).await?.unlock().await
/// # }
/// ```
#[derive(Debug)]
pub struct Quorum(Arc<Group>);

impl Quorum {
    /// Makes a quorum of `members`: backends, with names or without.
    ///
    /// # Errors
    ///
    /// `Config` if the members are fewer than three, even in number, or one of them twice; if a member's
    /// fences do not come from a clock, or its locks hang on a session. `Unavailable` if the process cannot
    /// start the quorum's thread.
    pub fn new(
        members: impl IntoIterator<Item = impl Into<Member>>,
        options: QuorumOptions,
    ) -> Result<Self> {
        let members = named(members);
        check_number(members.len())?;
        check_distinct(&members)?;
        for member in &members {
            check_fence(member, "a quorum needs members whose fences do")?;
            check_lease(member)?;
        }
        let profile = profile(options.name.unwrap_or("quorum"), &members, options.ttl_max);
        let (need, out_after_start) = (members.len() / 2 + 1, Some(profile.ttl_max));
        let kind = Kind { need, profile, budget: BUDGET, out_after_start };
        Group::new(members, kind, options).map(Self)
    }
}

delegate_to_group!(Quorum);

fn check_number(members: usize) -> Result<()> {
    if members >= 3 && members % 2 == 1 {
        return Ok(());
    }
    let odd = if members < 3 { 3 } else { members + 1 };
    let why =
        if members < 3 { "goes down with one" } else { "stands no more failures than one less" };
    let message =
        format!("a quorum of {members} {why}: use an odd number of members from 3, here {odd}");
    Err(Error::new(ErrorKind::Config, message))
}

fn check_lease(member: &Member) -> Result<()> {
    if member.backend.profile().lease == LeaseKind::PerLock {
        return Ok(());
    }
    let message = format!(
        "the locks of {} hang on a session: a quorum needs members where each lock has a TTL",
        member.name
    );
    Err(Error::new(ErrorKind::Config, message))
}
