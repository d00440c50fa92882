//! The contenders of a lock, and which of them hold it: pure.

use etcd_client::KeyValue;
use lock_core::Claim;
use lock_core::Crowd;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Result;
use lock_core::Token;

use crate::keys;

/// One look at the contenders of a lock, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) contenders: Vec<Contender>,
    /// The store's revision that was looked at.
    pub(crate) revision: i64,
}

/// One that holds or waits.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) key: Vec<u8>,
    pub(crate) revision: i64,
    pub(crate) lease: i64,
    pub(crate) mode: Mode,
    owner: Option<String>,
}

/// Whose end a waiter waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocker {
    /// That of one contender.
    One(Vec<u8>),
    /// That of any.
    Any,
}

impl Line {
    /// Reads what is below `lock`; other locks further down are left out.
    pub(crate) fn new(lock: &LockKey, kvs: &[KeyValue], revision: i64) -> Self {
        let ours = kvs.iter().filter(|kv| keys::is_contender(lock, kv));
        let mut contenders: Vec<_> = ours.map(Contender::read).collect();
        contenders.sort_unstable_by_key(|contender| contender.revision);
        Self { contenders, revision }
    }

    /// How many of the first hold. The others wait, also those that could hold beside them but stand
    /// behind one that cannot: nobody overtakes.
    pub(crate) fn holding(&self) -> usize {
        let mut crowd = Crowd::default();
        let stands = |contender: &&Contender| {
            let holds = crowd.admits(contender.mode) && self.is_of_one_number(contender.mode);
            crowd.add(contender.mode);
            holds
        };
        self.contenders.iter().take_while(stands).count()
    }

    /// Whether one more in `mode` would hold at once.
    pub(crate) fn admits(&self, mode: Mode) -> bool {
        let crowd = Crowd::of(self.contenders.iter().map(|contender| contender.mode));
        self.holding() == self.contenders.len() && crowd.admits(mode) && self.is_of_one_number(mode)
    }

    /// Whether permits of `mode` say the same number as those of the first.
    fn is_of_one_number(&self, mode: Mode) -> bool {
        match (self.contenders.first().map(|first| first.mode), mode) {
            (Some(Mode::Permits { of: first }), Mode::Permits { of }) => first == of,
            _ => true,
        }
    }

    /// The place of the contender whose key is `own`.
    pub(crate) fn place(&self, own: &[u8]) -> Option<usize> {
        self.contenders.iter().position(|contender| contender.key == own)
    }

    /// Whose end the waiter at `place` waits for: the last before it beside whom it cannot hold. When
    /// that one goes, also from the middle of the line, it looks again.
    pub(crate) fn blocker(&self, place: usize) -> Blocker {
        let own = self.contenders[place].mode;
        let before = self.contenders[..place].iter().rev();
        let together =
            |other: Mode| matches!(own, Mode::Shared | Mode::Permits { .. }) && other == own;
        match before.clone().find(|other| !together(other.mode)) {
            Some(other) => Blocker::One(other.key.clone()),
            None => Blocker::Any,
        }
    }

    /// Checks that the claim does not contradict one of the first `count`.
    pub(crate) fn check(&self, claim: &Claim, count: usize) -> Result<()> {
        let mut first = self.contenders.iter().take(count);
        first.try_for_each(|stored| claim.check_beside(stored.token(), stored.mode))
    }

    /// Describes those who hold; `base` is added to every fence.
    pub(crate) fn holders(&self, base: u64) -> Vec<Holder> {
        self.contenders[..self.holding()].iter().map(|holder| holder.describe(base)).collect()
    }

    pub(crate) fn waiting(&self) -> u64 {
        (self.contenders.len() - self.holding()) as u64
    }
}

impl Contender {
    /// Reads a key. What others wrote excludes everybody, as they believe it does.
    pub(crate) fn read(kv: &KeyValue) -> Self {
        let text = str::from_utf8(kv.value()).ok();
        let (mode, owner) = text.and_then(parse).unwrap_or((Mode::Exclusive, None));
        Self {
            key: kv.key().to_vec(),
            revision: kv.create_revision(),
            lease: kv.lease(),
            mode,
            owner,
        }
    }

    /// Its token; a new one for a foreign client, which has none.
    fn token(&self) -> Token {
        let own = keys::split(&self.key).and_then(|(_, own)| own.parse().ok());
        own.unwrap_or_else(Token::random)
    }

    fn describe(&self, base: u64) -> Holder {
        let mut holder = Holder::new().in_mode(self.mode);
        holder.owner.clone_from(&self.owner);
        holder.fence = fence(self.revision, base).ok();
        holder
    }
}

/// The fence of whoever came with `revision`.
pub(crate) fn fence(revision: i64, base: u64) -> Result<Fence> {
    Fence::new(u64::try_from(revision).unwrap_or(0).saturating_add(base))
}

/// What a contender of ours says of itself.
pub(crate) fn value(claim: &Claim) -> String {
    format!("{} {}", claim.mode, claim.owner)
}

fn parse(value: &str) -> Option<(Mode, Option<String>)> {
    let (mode, owner) = value.split_once(' ')?;
    let owner = Owner::new(owner).ok()?;
    Some((mode.parse().ok()?, Some(owner.as_str().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(modes: &[&str]) -> Line {
        let contender = |(at, mode): (usize, &&str)| Contender {
            key: format!("k/{at}").into_bytes(),
            revision: at as i64,
            lease: 1,
            mode: mode.parse().unwrap(),
            owner: None,
        };
        Line { contenders: modes.iter().enumerate().map(contender).collect(), revision: 9 }
    }

    #[test]
    fn what_names_nobody_is_not_read_as_a_name() {
        let long = format!("shared {}", "x".repeat(256));
        for value in ["", "shared", "shared ", "shared a\tb", "strange me", &long] {
            assert_eq!(parse(value), None, "{value:?}");
        }
        assert_eq!(parse("shared a b"), Some((Mode::Shared, Some("a b".to_owned()))));
    }

    #[test]
    fn who_holds_is_the_longest_start_of_the_line_that_can_hold_together() {
        let rows: &[(&[&str], usize)] = &[
            (&[], 0),
            (&["exclusive", "exclusive"], 1),
            (&["exclusive", "shared"], 1),
            (&["shared", "shared", "exclusive", "shared"], 2),
            (&["permits:2", "permits:2", "permits:2"], 2),
            (&["permits:2", "permits:3"], 1),
            (&["permits:2", "shared", "permits:2"], 1),
        ];
        for (modes, holding) in rows {
            assert_eq!(line(modes).holding(), *holding, "{modes:?}");
        }
    }

    #[test]
    fn one_more_is_admitted_only_if_nobody_waits() {
        let rows: &[(&[&str], &str, bool)] = &[
            (&[], "exclusive", true),
            (&["shared"], "shared", true),
            (&["shared", "exclusive"], "shared", false),
            (&["permits:2"], "permits:2", true),
            (&["permits:2", "permits:2"], "permits:2", false),
            (&["permits:2"], "permits:3", false),
        ];
        for (modes, mode, admitted) in rows {
            assert_eq!(line(modes).admits(mode.parse().unwrap()), *admitted, "{modes:?} {mode}");
        }
    }

    #[test]
    fn a_waiter_watches_the_last_that_is_in_its_way() {
        let one = |at: usize| Blocker::One(format!("k/{at}").into_bytes());
        assert_eq!(line(&["exclusive", "exclusive", "exclusive"]).blocker(2), one(1));
        assert_eq!(line(&["exclusive", "shared", "shared"]).blocker(2), one(0));
        assert_eq!(line(&["shared", "exclusive", "shared", "shared"]).blocker(3), one(1));
        assert_eq!(line(&["shared", "shared", "exclusive"]).blocker(2), one(1));
        assert_eq!(line(&["permits:1", "permits:1"]).blocker(1), Blocker::Any);
    }
}
