//! One row of either table, and what the rows of one key mean together. Pure.

use std::time::Duration;
use std::time::SystemTime;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Scene;
use lock_core::Stake;
use lock_core::Standing;
use lock_core::Token;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

/// A row as it is stored; its values are checked when they are used.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) token: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) mode: Option<String>,
    /// `None` of a claim that stands in line.
    pub(crate) fence: Option<i64>,
    /// Microseconds since 1970.
    pub(crate) acquired: Option<i64>,
    /// Microseconds until it ends; `None` of a key that is free.
    pub(crate) remains: Option<i64>,
    /// Orders the line; zero of a row of the table of locks.
    pub(crate) place: i64,
}

impl Row {
    /// Reads the columns in the order of the statements.
    pub(crate) fn read(row: &MySqlRow) -> sqlx::Result<Self> {
        Ok(Self {
            key: row.try_get_unchecked(0)?,
            token: row.try_get_unchecked(1)?,
            owner: row.try_get_unchecked(2)?,
            mode: row.try_get_unchecked(3)?,
            fence: row.try_get_unchecked(4)?,
            acquired: row.try_get_unchecked(5)?,
            remains: row.try_get_unchecked(6)?,
            place: row.try_get_unchecked(7)?,
        })
    }

    fn left(&self) -> Option<Duration> {
        let micros = u64::try_from(self.remains?).ok().filter(|micros| *micros > 0);
        micros.map(Duration::from_micros)
    }

    /// Whether it is the row of a key that has its holders in the second table.
    fn has_several(&self) -> bool {
        self.place == 0 && self.token.is_none() && self.left().is_some()
    }

    /// Whether the row takes the key for somebody who is none of ours: where several hold, it says their
    /// mode.
    fn is_foreign(&self) -> bool {
        self.has_several() && self.mode.is_none()
    }

    /// Returns the claim that the row stands for, or `None` if there is none or it is dead.
    fn stake(&self) -> Result<Option<Stake>> {
        let (Some(_), Some(left)) = (&self.token, self.left()) else { return Ok(None) };
        let (token, mode) = (self.checked_token()?, self.checked_mode()?);
        let standing = match self.checked_fence()? {
            None => Standing::Waits { place: self.place },
            Some(fence) => Standing::Holds { fence, shown: self.shown(mode, fence, left) },
        };
        Ok(Some(Stake { token, mode, left, standing }))
    }

    fn shown(&self, mode: Mode, fence: Fence, left: Duration) -> Holder {
        let holder = Holder::new().in_mode(mode).with_fence(fence).expiring_in(left);
        let holder =
            self.owner.iter().fold(holder, |holder, owner| holder.owned_by(owner.as_str()));
        let micros = self.acquired.and_then(|micros| u64::try_from(micros).ok());
        let at = micros.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros));
        at.into_iter().fold(holder, Holder::since)
    }

    fn checked_fence(&self) -> Result<Option<Fence>> {
        let Some(stored) = self.fence else { return Ok(None) };
        let fence = u64::try_from(stored).ok().and_then(|fence| Fence::new(fence).ok());
        fence.map(Some).ok_or_else(|| self.corrupt("fence", stored))
    }

    fn checked_token(&self) -> Result<Token> {
        let token = self.token.as_deref().unwrap_or_default();
        token.parse().map_err(|_| self.corrupt("token", token))
    }

    fn checked_mode(&self) -> Result<Mode> {
        let mode = self.mode.as_deref().unwrap_or_default();
        mode.parse().map_err(|_| self.corrupt("mode", mode))
    }

    fn corrupt(&self, column: &str, value: impl std::fmt::Debug) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format!("its row has {column} {value:?}, which this library did not write"),
        )
    }
}

/// One key at one moment.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) scene: Scene,
    /// Whether the second table has rows of the dead.
    pub(crate) has_dead: bool,
    /// Whether it has holders that count no more, because the key's own row was taken or deleted.
    pub(crate) has_void: bool,
}

impl Seen {
    /// Reads the rows of one key.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row that counts has a value that we would not have written.
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Row> + Clone) -> Result<Self> {
        let several = rows.clone().into_iter().any(Row::has_several);
        let mut seen = Self { scene: Scene::default(), has_dead: false, has_void: false };
        for row in rows {
            row.checked_fence()?.into_iter().for_each(|fence| seen.scene.saw(fence));
            if row.is_foreign() {
                return Err(row.corrupt("mode", &row.mode));
            }
            if row.place > 0 && row.fence.is_some() && !several {
                seen.has_void = true;
                continue;
            }
            match row.stake()? {
                Some(stake) => seen.scene.add(stake),
                None => seen.has_dead |= row.place > 0,
            }
        }
        Ok(seen)
    }

    /// Counts who holds the key, whatever else their rows say.
    pub(crate) fn count_holders(rows: &[Row]) -> u64 {
        let several = rows.iter().any(Row::has_several);
        let holds = |row: &&Row| {
            let exclusive = row.place == 0 && (row.token.is_some() || row.is_foreign());
            let one_of_several = row.place > 0 && row.fence.is_some() && several;
            row.left().is_some() && (exclusive || one_of_several)
        };
        rows.iter().filter(holds).count() as u64
    }
}

/// A fence as it is stored: below 2^53.
pub(crate) fn stored(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(i64::MAX)
}

/// Microseconds as statements take them.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use lock_core::Claim;
    use lock_core::LockKey;
    use lock_core::Owner;
    use lock_core::Peek;

    use super::*;

    fn row() -> Row {
        Row {
            key: "k".into(),
            token: Some("0".repeat(32)),
            owner: Some("ann".into()),
            mode: Some("exclusive".into()),
            fence: Some(7),
            acquired: Some(9),
            remains: Some(1),
            place: 0,
        }
    }

    /// The row of a key that readers hold.
    fn crowded() -> Row {
        Row { token: None, mode: Some("shared".into()), ..row() }
    }

    fn reader() -> Row {
        Row { mode: Some("shared".into()), place: 1, ..row() }
    }

    fn waiter() -> Row {
        Row { fence: None, place: 2, ..row() }
    }

    fn holders(rows: &[Row]) -> usize {
        Seen::of(rows).unwrap().scene.state("k").holders.len()
    }

    #[test]
    fn a_lease_ends_at_its_instant() {
        assert_eq!(holders(&[row()]), 1);
        for remains in [None, Some(0), Some(-1), Some(i64::MIN)] {
            assert_eq!(holders(&[Row { remains, ..row() }]), 0, "{remains:?}");
        }
        assert_eq!(holders(&[Row { token: None, remains: None, ..row() }]), 0);
    }

    #[test]
    fn one_of_several_counts_only_while_the_key_says_so() {
        assert_eq!(holders(&[crowded(), reader()]), 1);
        let free = Row { remains: Some(0), ..crowded() };
        for rows in [vec![reader()], vec![free, reader()], vec![row(), reader()]] {
            let seen = Seen::of(&rows).unwrap();
            assert!(seen.has_void, "{rows:?}");
            assert_eq!(
                holders(&rows),
                rows.iter().filter(|row| row.mode == self::row().mode).count()
            );
        }
        assert_eq!(Seen::count_holders(&[crowded(), reader(), waiter()]), 1);
        assert_eq!(Seen::count_holders(&[row(), reader()]), 1);
    }

    /// `expires_at` alone decides whether a key is taken, also by a client that knows nothing of our columns.
    #[test]
    fn a_key_that_a_stranger_took_is_not_free() {
        let foreign = Row { token: None, mode: None, owner: None, acquired: None, ..row() };
        let error = Seen::of(std::slice::from_ref(&foreign)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(Seen::count_holders(std::slice::from_ref(&foreign)), 1);
        assert_eq!(holders(&[Row { remains: Some(0), ..foreign }]), 0);
    }

    #[test]
    fn who_stands_in_line_counts_whatever_the_key_is_like() {
        let seen = Seen::of(&[waiter()]).unwrap();
        assert_eq!(seen.scene.state("k").waiting, 1);
        let claim = Claim::new(
            LockKey::new("k").unwrap(),
            Owner::new("bob").unwrap(),
            Duration::from_secs(1),
        );
        assert!(matches!(seen.scene.peek(&claim), Peek::Crowded { .. }));
        assert!(Seen::of(&[Row { remains: Some(0), ..waiter() }]).unwrap().has_dead);
    }

    #[test]
    fn what_we_did_not_write_is_corrupt() {
        let bad = [
            Row { fence: Some(0), ..row() },
            Row { fence: Some(1 << 53), ..row() },
            Row { token: Some("x".into()), ..row() },
            Row { mode: Some("mine".into()), ..row() },
            Row { mode: None, ..row() },
            Row { mode: Some("permits:0".into()), ..waiter() },
        ];
        for row in bad {
            assert_eq!(Seen::of([&row]).unwrap_err().kind(), ErrorKind::Corrupt, "{row:?}");
        }
        assert_eq!(holders(&[Row { acquired: Some(-1), owner: None, ..row() }]), 1);
    }
}
