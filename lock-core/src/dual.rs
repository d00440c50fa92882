//! One lock over two stores, for moving from one to the other without a gap.

use std::sync::Arc;
use std::time::Duration;

use crate::QuorumOptions;
use crate::Result;
use crate::quorum::Group;
use crate::quorum::Kind;
use crate::quorum::Member;
use crate::quorum::check_distinct;
use crate::quorum::check_fence;
use crate::quorum::delegate_to_group;
use crate::quorum::named;
use crate::quorum::profile;

/// How long a call waits for a store that does not answer, unless it is set: neither can be done without.
const BUDGET: Duration = Duration::from_secs(2);

/// A lock over two stores, held while both hold it.
///
/// It excludes those who use only the old store, those who use only the new one, and other duals, in whatever
/// order they name the stores. So a service moves in two rolling deploys: old to dual, then dual to new; the
/// old alone and the new alone never run together. Fences go on rising, for each acquisition writes its
/// fence to both. While it lasts, locking needs both stores: an error names the one that fails.
///
/// Exclusive mode only: of several who acquire at once, two could find the same fence the highest. There is no
/// fair order, because two lines agree on none: fair waiters of the old store go before those of a dual.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use lock_core::{Attempt, Backend, Claim, Clock, Dual, LockKey, Member, Owner, Result};
/// use lock_memory::{Memory, Store};
/// # use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let (old, new) = (Store::new(Clock::system()), Store::new(Clock::system()));
/// let claim = || Claim::new(LockKey::new("job").unwrap(), Owner::new("ann").unwrap(), Duration::from_secs(9));
/// let dual = Dual::new(
///     Member::new("old", Arc::new(Memory::new(&old))),
///     Member::new("new", Arc::new(Memory::new(&new))),
/// )?;
/// dual.attempt(&claim()).await?;
/// for alone in [Memory::new(&old), Memory::new(&new)] {
///     assert!(matches!(alone.attempt(&claim()).await?, Attempt::Held { .. }));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Dual(Arc<Group>);

impl Dual {
    /// Makes a lock over both stores, in either order.
    ///
    /// # Errors
    ///
    /// `Config` if both are one and the same, or if the fences of one do not come from a clock. `Unavailable`
    /// if the process cannot start the dual's thread.
    pub fn new(one: impl Into<Member>, other: impl Into<Member>) -> Result<Self> {
        let longest = QuorumOptions::new().ttl_max(Duration::MAX);
        Self::with_options(one, other, longest)
    }

    /// As [`new`](Self::new), set up otherwise; its longest TTL is only a limit.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_options(
        one: impl Into<Member>,
        other: impl Into<Member>,
        options: QuorumOptions,
    ) -> Result<Self> {
        let members = named([one.into(), other.into()]);
        check_distinct(&members)?;
        for member in &members {
            check_fence(
                member,
                "they are small numbers, so give that store a fence_base above the old store's fences before moving, or the resource refuses everyone",
            )?;
        }
        let profile = profile(options.name.unwrap_or("dual"), &members, options.ttl_max);
        let kind = Kind { need: 2, profile, budget: BUDGET, out_after_start: None };
        Group::new(members, kind, options).map(Self)
    }
}

delegate_to_group!(Dual);
