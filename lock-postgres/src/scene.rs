//! What the rows of one key mean together: who holds it, who stands in line, whose turn it is. Pure.
//!
//! It only tells; what becomes of an attempt is decided in the database.

use std::time::Duration;
use std::time::SystemTime;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Crowd;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::KeyState;
use lock_core::Mode;
use lock_core::Peek;
use lock_core::Result;
use lock_core::Token;

/// How soon whoever is next looks again behind a client that is not ours: its release tells nobody.
const OFTEN: Duration = Duration::from_millis(100);

/// One key as a look has shown it.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    holders: Vec<Shown>,
    /// In the order of their places.
    line: Vec<Spot>,
}

/// One who holds.
#[derive(Debug)]
struct Shown {
    /// Unknown of clients that are not ours.
    token: Option<Token>,
    mode: Mode,
    holder: Holder,
}

#[derive(Debug)]
struct Spot {
    token: Token,
    mode: Mode,
    place: i64,
}

/// What a look returns of one claim.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) key: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) mode: String,
    pub(crate) fence: Option<i64>,
    pub(crate) owner: Option<String>,
    /// Microseconds since 1970.
    pub(crate) since: Option<i64>,
    pub(crate) place: Option<i64>,
}

impl Scene {
    /// Takes in one row of the key `asked`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not as we write it.
    pub(crate) fn add(&mut self, asked: &str, row: Row) -> Result<()> {
        let mode = row.mode.parse().map_err(|_| corrupt("mode", &row.mode))?;
        let token = row.token.as_deref().map(str::parse).transpose()?;
        match (row.place, token) {
            (Some(place), Some(token)) => self.line.push(Spot { token, mode, place }),
            _ => self.holders.push(Shown { token, mode, holder: holder(asked, mode, row)? }),
        }
        self.line.sort_by_key(|spot| spot.place);
        self.holders.sort_by_key(|shown| shown.holder.fence);
        Ok(())
    }

    /// Answers a claim that was refused.
    pub(crate) fn refuse(&self, claim: &Claim) -> Attempt {
        let before = self.before(claim);
        let in_line = claim.queue || before > 0 || self.place(claim).is_some();
        Attempt::Held {
            holders: self.shown(),
            retry_in: self.retry_in(before),
            ahead: in_line.then(|| count(self.holders.len() + before)),
        }
    }

    /// Tells a waiter what would come of an attempt.
    pub(crate) fn peek(&self, claim: &Claim) -> Peek {
        let before = self.before(claim);
        let meets = self.holders.iter().any(|shown| shown.mode != claim.mode);
        let retry_in = self.retry_in(before);
        match self.place(claim) {
            _ if self.admits(claim) => Peek::Free,
            None if before > 0 || meets => Peek::Crowded { retry_in },
            _ => Peek::Held { retry_in, fence: None },
        }
    }

    /// Returns how many hold or stand before a claim in line, zero if they do not hinder it; nothing if it
    /// does not stand there.
    pub(crate) fn ahead(&self, claim: &Claim) -> Option<u64> {
        let at = self.place(claim)?;
        Some(if self.admits(claim) { 0 } else { count(self.holders.len() + at) })
    }

    /// Shows the key to people.
    pub(crate) fn state(&self, key: &str) -> KeyState {
        KeyState::new(key, self.shown(), count(self.line.len()))
    }

    fn shown(&self) -> Vec<Holder> {
        self.holders.iter().map(|shown| shown.holder.clone()).collect()
    }

    fn place(&self, claim: &Claim) -> Option<usize> {
        self.line.iter().position(|spot| spot.token == claim.token)
    }

    fn before(&self, claim: &Claim) -> usize {
        self.place(claim).unwrap_or(self.line.len())
    }

    /// When to look again who has `before` others in line before it; otherwise as often as the profile says.
    fn retry_in(&self, before: usize) -> Option<Duration> {
        let tells_nobody = |shown: &Shown| shown.token.is_none();
        (before == 0 && self.holders.iter().any(tells_nobody)).then_some(OFTEN)
    }

    fn admits(&self, claim: &Claim) -> bool {
        let others = self.holders.iter().filter(|shown| shown.token != Some(claim.token));
        let before = self.line[..self.before(claim)].iter().map(|spot| spot.mode);
        Crowd::of(others.map(|shown| shown.mode).chain(before)).admits(claim.mode)
    }
}

fn holder(asked: &str, mode: Mode, row: Row) -> Result<Holder> {
    let mut holder = Holder::new().in_mode(mode);
    holder.owner = row.owner;
    holder.other_key = row.key.filter(|key| key != asked);
    holder.fence = row.fence.map(fence).transpose()?;
    let micros = row.since.and_then(|micros| u64::try_from(micros).ok());
    holder.acquired_at =
        micros.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros));
    Ok(holder)
}

/// Checks a fence that the database returned.
pub(crate) fn fence(value: i64) -> Result<Fence> {
    Fence::new(u64::try_from(value).unwrap_or(0))
}

fn corrupt(what: &str, value: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("its row has {what} {value:?}, which this library did not write"),
    )
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use lock_core::LockKey;
    use lock_core::Owner;

    use super::*;

    fn claim(mode: &str, queue: bool) -> Claim {
        let (key, owner) = (LockKey::new("a").unwrap(), Owner::new("ann").unwrap());
        let mut claim = Claim::new(key, owner, Duration::from_secs(1));
        (claim.mode, claim.queue) = (mode.parse().unwrap(), queue);
        claim
    }

    fn scene(holders: &[&str], line: &[&Claim]) -> Scene {
        let mut scene = Scene::default();
        for mode in holders {
            let token = Some(Token::random().to_string());
            let row = Row { token, mode: (*mode).to_owned(), fence: Some(3), ..Row::default() };
            scene.add("a", row).unwrap();
        }
        for (place, claim) in line.iter().enumerate() {
            let (token, place) = (Some(claim.token.to_string()), i64::try_from(place).ok());
            scene
                .add("a", Row { token, mode: claim.mode.to_string(), place, ..Row::default() })
                .unwrap();
        }
        scene
    }

    #[test]
    fn the_first_in_line_is_told_when_the_key_is_free() {
        let (one, two) = (claim("exclusive", true), claim("exclusive", true));
        let free = scene(&[], &[&one, &two]);
        assert_eq!((free.peek(&one), free.ahead(&one)), (Peek::Free, Some(0)));
        assert_eq!(
            (free.peek(&two), free.ahead(&two)),
            (Peek::Held { retry_in: None, fence: None }, Some(1))
        );
        let crowded = Peek::Crowded { retry_in: None };
        assert_eq!(free.peek(&claim("exclusive", false)), crowded);
        assert_eq!(scene(&["shared"], &[]).peek(&claim("exclusive", false)), crowded);
    }

    #[test]
    fn whoever_is_next_behind_a_foreign_client_looks_often() {
        let (one, two) = (claim("exclusive", true), claim("exclusive", true));
        let mut line = scene(&[], &[&one, &two]);
        line.add("a", Row { mode: "exclusive".into(), ..Row::default() }).unwrap();
        let held = |retry_in| Peek::Held { retry_in, fence: None };
        assert_eq!((line.peek(&one), line.peek(&two)), (held(Some(OFTEN)), held(None)));
        let Attempt::Held { retry_in, .. } = line.refuse(&one) else { panic!("not held") };
        assert_eq!(retry_in, Some(OFTEN));
        assert_eq!(scene(&["exclusive"], &[]).peek(&claim("exclusive", false)), held(None));
    }

    #[test]
    fn neighbours_that_can_hold_together_are_told_together() {
        let (one, two) = (claim("shared", true), claim("shared", true));
        let line = scene(&["shared"], &[&one, &two]);
        assert_eq!((line.peek(&one), line.peek(&two)), (Peek::Free, Peek::Free));
        let permits = scene(&["permits:2"], &[]);
        assert_eq!(permits.peek(&claim("permits:2", false)), Peek::Free);
        let full = scene(&["permits:2", "permits:2"], &[]);
        assert_eq!(
            full.peek(&claim("permits:2", false)),
            Peek::Held { retry_in: None, fence: None }
        );
    }

    #[test]
    fn another_key_with_the_same_number_is_named() {
        let mut scene = Scene::default();
        let row = Row { key: Some("b".into()), mode: "exclusive".into(), ..Row::default() };
        scene.add("a", row).unwrap();
        assert_eq!(scene.shown()[0].other_key.as_deref(), Some("b"));
        let foreign = Row { mode: "exclusive".into(), ..Row::default() };
        scene.add("a", foreign).unwrap();
        assert_eq!(scene.state("a").holders.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_corrupt() {
        let row = |mode: &str, fence| Row { mode: mode.into(), fence, ..Row::default() };
        for row in [row("x", None), row("shared", Some(0)), row("shared", Some(1 << 53))] {
            let error = Scene::default().add("a", row).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
