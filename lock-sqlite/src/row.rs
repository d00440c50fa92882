//! One row of either table, and what it means at a given moment. Pure.

use std::time::Duration;
use std::time::SystemTime;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Stake;
use lock_core::Standing;
use lock_core::Token;

use crate::boot::Moment;

/// A row as it is stored; its values are checked when they are used.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    /// `None` of a claim that stands in line.
    pub(crate) fence: Option<i64>,
    pub(crate) token: Option<String>,
    pub(crate) owner: String,
    pub(crate) mode: String,
    pub(crate) boot: String,
    pub(crate) expires_at: i64,
    pub(crate) acquired_at: i64,
    pub(crate) written_at: i64,
    /// Orders the line; zero of a row of the table of locks.
    pub(crate) place: i64,
}

impl Row {
    /// Reads the columns in the order of the statements.
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: row.get(0)?,
            fence: row.get(1)?,
            token: row.get(2)?,
            owner: row.get(3)?,
            mode: row.get(4)?,
            boot: row.get(5)?,
            expires_at: row.get(6)?,
            acquired_at: row.get(7)?,
            written_at: row.get(8)?,
            place: row.get(9)?,
        })
    }

    /// Returns the claim that the row stands for, or `None` if there is none or it is dead.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row that counts has a value that we would not have written, `Config` for one
    /// that another machine wrote after this one started.
    pub(crate) fn stake(&self, at: &Moment) -> Result<Option<Stake>> {
        let fence = self.checked_fence()?;
        let Some(left) = self.left(at)? else { return Ok(None) };
        let (token, mode) = (self.checked_token()?, self.checked_mode()?);
        let standing = match fence {
            None => Standing::Waits { place: self.place },
            Some(fence) => Standing::Holds { fence, shown: self.shown(mode, fence, left) },
        };
        Ok(Some(Stake { token, mode, left, standing }))
    }

    /// Returns how long the row still counts, or `None` if it does not.
    fn left(&self, at: &Moment) -> Result<Option<Duration>> {
        if self.token.is_none() {
            return Ok(None);
        }
        if self.boot != at.boot {
            // A place in line is no promise, so nobody is harmed if one is skipped.
            let dead = self.fence.is_none() || self.written_at < at.booted;
            return if dead { Ok(None) } else { Err(self.foreign()) };
        }
        let left = u64::try_from(self.expires_at.saturating_sub(at.now)).unwrap_or(0);
        Ok((left > 0).then(|| Duration::from_nanos(left)))
    }

    fn shown(&self, mode: Mode, fence: Fence, left: Duration) -> Holder {
        Holder::new()
            .owned_by(self.owner.clone())
            .in_mode(mode)
            .with_fence(fence)
            .since(self.acquired())
            .expiring_in(left)
    }

    pub(crate) fn checked_fence(&self) -> Result<Option<Fence>> {
        let Some(stored) = self.fence else { return Ok(None) };
        let fence = u64::try_from(stored).ok().and_then(|fence| Fence::new(fence).ok());
        fence.map(Some).ok_or_else(|| self.corrupt("fence", stored))
    }

    fn checked_token(&self) -> Result<Token> {
        let token = self.token.as_deref().unwrap_or_default();
        token.parse().map_err(|_| self.corrupt("token", token))
    }

    fn checked_mode(&self) -> Result<Mode> {
        self.mode.parse().map_err(|_| self.corrupt("mode", &self.mode))
    }

    fn acquired(&self) -> SystemTime {
        let micros = u64::try_from(self.acquired_at).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    fn corrupt(&self, column: &str, value: impl std::fmt::Debug) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format!("its row has {column} {value:?}, which this library did not write"),
        )
    }

    fn foreign(&self) -> Error {
        Error::new(
            ErrorKind::Config,
            "its row was written under another boot id since this machine started: two machines, or \
             containers with boot ids of their own, share the file; if that is over, or a clock was \
             wrong, force the unlock of this key",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment { boot: "this".into(), now: 1_000, booted: 500 }
    }

    fn row() -> Row {
        Row {
            key: "k".into(),
            fence: Some(7),
            token: Some("0".repeat(32)),
            owner: "ann".into(),
            mode: "exclusive".into(),
            boot: "this".into(),
            expires_at: 1_001,
            acquired_at: 9,
            written_at: 600,
            place: 0,
        }
    }

    fn left(row: &Row) -> Result<Option<Duration>> {
        Ok(row.stake(&moment())?.map(|stake| stake.left))
    }

    fn waits(row: Row) -> Row {
        Row { fence: None, place: 3, ..row }
    }

    #[test]
    fn a_lease_ends_at_its_instant() {
        assert_eq!(left(&row()).unwrap(), Some(Duration::from_nanos(1)));
        assert_eq!(left(&Row { expires_at: 1_000, ..row() }).unwrap(), None);
        assert_eq!(left(&Row { expires_at: i64::MIN, ..row() }).unwrap(), None);
        assert_eq!(left(&Row { token: None, ..row() }).unwrap(), None);
        assert_eq!(left(&waits(row())).unwrap(), Some(Duration::from_nanos(1)));
        assert_eq!(left(&waits(Row { expires_at: 1_000, ..row() })).unwrap(), None);
    }

    #[test]
    fn a_row_of_an_earlier_boot_is_dead_whatever_its_lease() {
        let old = Row { boot: "before".into(), written_at: 499, expires_at: i64::MAX, ..row() };
        assert_eq!(left(&old).unwrap(), None);
    }

    #[test]
    fn a_row_of_another_boot_at_the_same_time_is_an_error() {
        let other = Row { boot: "other".into(), written_at: 500, ..row() };
        let error = left(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("share the file"));
        assert_eq!(left(&Row { token: None, ..other.clone() }).unwrap(), None);
        assert_eq!(left(&waits(other)).unwrap(), None, "a place is no promise");
    }

    #[test]
    fn a_row_with_a_fence_holds_and_one_without_waits() {
        let held = row().stake(&moment()).unwrap().unwrap();
        assert!(matches!(held.standing, Standing::Holds { fence, .. } if fence.get() == 7));
        let waiting = waits(row()).stake(&moment()).unwrap().unwrap();
        assert_eq!(waiting.standing, Standing::Waits { place: 3 });
    }

    #[test]
    fn what_we_did_not_write_is_corrupt() {
        let bad = [
            Row { fence: Some(0), ..row() },
            Row { fence: Some(1 << 53), ..row() },
            Row { token: Some("x".into()), ..row() },
            Row { mode: "mine".into(), ..row() },
            waits(Row { mode: "permits:0".into(), ..row() }),
        ];
        for row in bad {
            assert_eq!(row.stake(&moment()).unwrap_err().kind(), ErrorKind::Corrupt, "{row:?}");
        }
        assert!(Row { acquired_at: -1, ..row() }.stake(&moment()).unwrap().is_some());
    }
}
