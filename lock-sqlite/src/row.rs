//! One row of the table, and what it means at a given moment. Pure.

use std::time::Duration;
use std::time::SystemTime;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Token;

use crate::boot::Moment;

/// A row as it is stored; its values are checked when they are used.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) fence: i64,
    pub(crate) token: Option<String>,
    pub(crate) owner: String,
    pub(crate) mode: String,
    pub(crate) boot: String,
    pub(crate) expires_at: i64,
    pub(crate) acquired_at: i64,
    pub(crate) written_at: i64,
}

impl Row {
    /// Reads the columns in the order of the table.
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
        })
    }

    /// Returns how long the row still holds its key, or `None` if the key is free.
    ///
    /// # Errors
    ///
    /// `Config` for a row that another machine wrote after this one started.
    pub(crate) fn left(&self, at: &Moment) -> Result<Option<Duration>> {
        if self.token.is_none() || (self.boot != at.boot && self.written_at < at.booted) {
            return Ok(None);
        }
        if self.boot != at.boot {
            return Err(self.foreign());
        }
        let left = u64::try_from(self.expires_at.saturating_sub(at.now)).unwrap_or(0);
        Ok((left > 0).then(|| Duration::from_nanos(left)))
    }

    /// Returns who holds the key, or `None` if it is free.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row that holds has a value that we would not have written, `Config` as
    /// for [`left`](Self::left).
    pub(crate) fn holder(&self, at: &Moment) -> Result<Option<Holder>> {
        let fence = self.checked_fence()?;
        let Some(left) = self.left(at)? else { return Ok(None) };
        self.check_token()?;
        let holder = Holder::new()
            .owned_by(self.owner.clone())
            .in_mode(self.checked_mode()?)
            .with_fence(fence)
            .since(self.acquired())
            .expiring_in(left);
        Ok(Some(holder))
    }

    /// Returns whom an attempt was refused for.
    ///
    /// # Errors
    ///
    /// As for [`holder`](Self::holder); also `Corrupt` if there can be no higher fence.
    pub(crate) fn refused_for(&self, at: &Moment) -> Result<Option<Holder>> {
        let holder = self.holder(at)?;
        if holder.is_none() && self.checked_fence()? == Fence::MAX {
            return Err(self.corrupt("fence", self.fence));
        }
        Ok(holder)
    }

    fn checked_fence(&self) -> Result<Fence> {
        let fence = u64::try_from(self.fence).map_err(|_| self.corrupt("fence", self.fence))?;
        Fence::new(fence).map_err(|_| self.corrupt("fence", fence))
    }

    fn check_token(&self) -> Result<()> {
        let token = self.token.as_deref().unwrap_or_default();
        token.parse::<Token>().map(drop).map_err(|_| self.corrupt("token", token))
    }

    fn checked_mode(&self) -> Result<Mode> {
        self.mode.parse().map_err(|_| self.corrupt("mode", &self.mode))
    }

    fn acquired(&self) -> SystemTime {
        let micros = u64::try_from(self.acquired_at).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    fn corrupt(&self, column: &str, value: impl std::fmt::Debug) -> Error {
        let key = &self.key;
        Error::new(
            ErrorKind::Corrupt,
            format!("the row of {key:?} has {column} {value:?}, which this library did not write"),
        )
    }

    fn foreign(&self) -> Error {
        let key = &self.key;
        Error::new(
            ErrorKind::Config,
            format!(
                "the row of {key:?} was written under another boot id since this machine started: \
                 two machines, or containers with boot ids of their own, share the file; if that \
                 is over, or a clock was wrong, force the unlock of this key"
            ),
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
            fence: 7,
            token: Some("0".repeat(32)),
            owner: "ann".into(),
            mode: "exclusive".into(),
            boot: "this".into(),
            expires_at: 1_001,
            acquired_at: 9,
            written_at: 600,
        }
    }

    #[test]
    fn a_lease_ends_at_its_instant() {
        assert_eq!(row().left(&moment()).unwrap(), Some(Duration::from_nanos(1)));
        assert_eq!(Row { expires_at: 1_000, ..row() }.left(&moment()).unwrap(), None);
        assert_eq!(Row { expires_at: i64::MIN, ..row() }.left(&moment()).unwrap(), None);
        assert_eq!(Row { token: None, ..row() }.left(&moment()).unwrap(), None);
    }

    #[test]
    fn a_row_of_an_earlier_boot_is_dead_whatever_its_lease() {
        let old = Row { boot: "before".into(), written_at: 499, expires_at: i64::MAX, ..row() };
        assert_eq!(old.left(&moment()).unwrap(), None);
    }

    #[test]
    fn a_row_of_another_boot_at_the_same_time_is_an_error() {
        let other = Row { boot: "other".into(), written_at: 500, ..row() };
        let error = other.left(&moment()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("share the file"));
        assert_eq!(Row { token: None, ..other }.left(&moment()).unwrap(), None);
    }

    #[test]
    fn what_we_did_not_write_is_corrupt() {
        let bad = [
            Row { fence: 0, ..row() },
            Row { fence: 1 << 53, ..row() },
            Row { token: Some("x".into()), ..row() },
            Row { mode: "mine".into(), ..row() },
        ];
        for row in bad {
            assert_eq!(row.holder(&moment()).unwrap_err().kind(), ErrorKind::Corrupt, "{row:?}");
        }
        assert!(Row { acquired_at: -1, ..row() }.holder(&moment()).unwrap().is_some());
    }
}
