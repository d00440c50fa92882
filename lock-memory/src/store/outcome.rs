//! What the server answers, before a client adds its lease.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::Lease;
use lock_core::Mode;
use lock_core::Token;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Granted { fence: Fence },
    Refused { holders: Vec<Holder>, retry_in: Option<Duration>, ahead: Option<u64> },
}

/// What became of a claim that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Holds,
    Queued { ahead: u64 },
    Gone,
}

impl Tried {
    /// Adds the lease that a grant comes with.
    pub(crate) fn with_lease(self, lease: Lease) -> Attempt {
        match self {
            Self::Granted { fence } => Attempt::Acquired { fence, lease },
            Self::Refused { holders, retry_in, ahead } => {
                Attempt::Held { holders, retry_in, ahead }
            }
        }
    }
}

impl Fate {
    /// Adds the lease that a renewal comes with.
    pub(crate) fn with_lease(self, lease: Lease) -> Kept {
        match self {
            Self::Holds => Kept::Renewed { lease },
            Self::Queued { ahead } => Kept::Queued { ahead },
            Self::Gone => Kept::Gone,
        }
    }
}

/// What a session is told of its own holds.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) token: Token,
    pub(crate) mode: Mode,
    pub(crate) holder: Holder,
}
