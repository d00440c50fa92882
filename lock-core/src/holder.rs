//! Who holds a lock, as the store can tell.

use std::fmt;
use std::time::Duration;
use std::time::SystemTime;

use crate::Fence;
use crate::Mode;

/// One holder of a lock; what the store does not know of a foreign client or a session is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner's name.
    pub owner: Option<String>,
    /// How it holds.
    pub mode: Option<Mode>,
    /// The fence of the acquisition.
    pub fence: Option<Fence>,
    /// When it was acquired, by the store's clock.
    pub acquired_at: Option<SystemTime>,
    /// How long the store will still keep it for the holder without another renewal.
    pub expires_in: Option<Duration>,
    /// The key it really holds, if that is not the one asked for (a hash collision).
    pub other_key: Option<String>,
}

impl Holder {
    /// Describes a holder of whom nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the owner.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Says how it holds.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Gives the fence.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Says when it was acquired.
    #[must_use]
    pub fn since(mut self, at: SystemTime) -> Self {
        self.acquired_at = Some(at);
        self
    }

    /// Says how long the store will still keep it.
    #[must_use]
    pub fn expiring_in(mut self, left: Duration) -> Self {
        self.expires_in = Some(left);
        self
    }

    /// Names the key that the holder really has.
    #[must_use]
    pub fn on_other_key(mut self, key: impl Into<String>) -> Self {
        self.other_key = Some(key.into());
        self
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.owner.as_deref().unwrap_or("an unknown client"))?;
        if let Some(mode) = self.mode.filter(|mode| *mode != Mode::Exclusive) {
            write!(f, ", {mode}")?;
        }
        if let Some(fence) = self.fence {
            write!(f, ", fence {fence}")?;
        }
        if let Some(left) = self.expires_in {
            let seconds = left.as_secs();
            match seconds {
                0..60 => write!(f, ", for {:.1} s", left.as_secs_f64())?,
                60..3600 => write!(f, ", for {} min {} s", seconds / 60, seconds % 60)?,
                _ => write!(f, ", for {} h {} min", seconds / 3600, seconds / 60 % 60)?,
            }
            f.write_str(" unless renewed")?;
        }
        if let Some(key) = &self.other_key {
            write!(f, ", on key {key:?} with the same hash")?;
        }
        Ok(())
    }
}
