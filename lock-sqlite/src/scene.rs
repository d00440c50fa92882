//! What the rows of one key mean together.

use lock_core::Fence;
use lock_core::Result;
use lock_core::Scene;

use crate::boot::Moment;
use crate::row::Row;

/// One key at one moment.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) scene: Scene,
    /// Whether the second table has rows of the dead.
    pub(crate) has_dead: bool,
}

impl Seen {
    /// Reads the rows of one key.
    ///
    /// # Errors
    ///
    /// As for [`Row::stake`].
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Row>, at: &Moment) -> Result<Self> {
        let mut seen = Self { scene: Scene::default(), has_dead: false };
        for row in rows {
            let stake = row.stake(at)?;
            row.checked_fence()?.into_iter().for_each(|fence| seen.scene.saw(fence));
            match stake {
                Some(stake) => seen.scene.add(stake),
                None => seen.has_dead |= row.place > 0,
            }
        }
        Ok(seen)
    }
}

/// A fence as it is stored: below 2^53.
pub(crate) fn stored(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(i64::MAX)
}
