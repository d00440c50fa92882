//! The line for one key: who holds, who waits, and for whom. Pure decisions over one look.
//!
//! The order is that of the sequences. A contender holds if it can beside all before it, so nobody
//! overtakes. What a look does not show yet is only behind, and what it still shows has only gone:
//! an old look delays and never admits.

use lock_core::Claim;
use lock_core::Crowd;
use lock_core::Mode;
use lock_core::Result;
use lock_core::Token;

use crate::names::Contender;

/// The contenders of one key, in their order.
#[derive(Debug, Default)]
pub(crate) struct Line(Vec<Contender>);

impl Line {
    /// Picks the contenders out of the children of a key's node.
    pub(crate) fn new(children: impl IntoIterator<Item = String>) -> Self {
        let mut contenders: Vec<_> =
            children.into_iter().filter_map(|name| Contender::parse(&name)).collect();
        // Sequences overflow; those that live at one time are close to each other.
        let near = contenders.first().map_or(0, |first| first.sequence);
        contenders.sort_by_key(|contender| contender.sequence.wrapping_sub(near));
        Self(contenders)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns how many stand before the contender of that name.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|contender| contender.name == name)
    }

    /// Returns those that bear `token`. Another session may have left one that has not gone yet.
    pub(crate) fn bearing(&self, token: Token) -> impl Iterator<Item = &Contender> {
        self.0.iter().filter(move |contender| contender.token == Some(token))
    }

    /// Returns those who hold.
    pub(crate) fn holders(&self) -> &[Contender] {
        let mut crowd = Crowd::default();
        let holding = self.0.iter().take_while(|contender| {
            let admitted = crowd.admits(contender.mode);
            crowd.add(contender.mode);
            admitted
        });
        &self.0[..holding.count()]
    }

    /// Returns the nearest whose going may let one of `mode` hold that stands behind `ahead` others;
    /// none if it holds.
    pub(crate) fn blockers(&self, ahead: usize, mode: Mode) -> &[Contender] {
        let before = &self.0[..ahead.min(self.0.len())];
        let last = |stop: usize| &before[stop..=stop];
        let other = |alike: fn(Mode) -> bool| before.iter().rposition(|it| !alike(it.mode));
        match mode {
            Mode::Exclusive => &before[before.len().saturating_sub(1)..],
            Mode::Shared => other(|it| it == Mode::Shared).map_or(&[], last),
            Mode::Permits { of } => {
                let of = usize::try_from(of.get()).unwrap_or(usize::MAX);
                match other(|it| matches!(it, Mode::Permits { .. })) {
                    Some(stop) => last(stop),
                    // As long as none of these goes, there are too many.
                    None if before.len() >= of => &before[before.len() - of..],
                    None => &[],
                }
            }
        }
    }

    /// Refuses a claim that contradicts one that stands before it.
    pub(crate) fn check(&self, ahead: usize, claim: &Claim) -> Result<()> {
        let before = self.0[..ahead.min(self.0.len())].iter();
        before.filter_map(|it| Some((it.token?, it.mode))).try_for_each(|(token, stored)| {
            if token == claim.token { Ok(()) } else { claim.check_beside(token, stored) }
        })
    }
}

#[cfg(test)]
mod tests {
    use lock_core::LockKey;
    use lock_core::Owner;

    use super::*;
    use crate::names;
    use crate::names::Recipe;

    fn mode(text: char) -> Mode {
        match text {
            'x' => Mode::Exclusive,
            's' => Mode::Shared,
            n => format!("permits:{n}").parse().unwrap(),
        }
    }

    fn line(modes: &str) -> Line {
        let name = |(at, text)| {
            format!("{}{at:010}", names::prefix(Token::random(), mode(text), Recipe::default()))
        };
        let names: Vec<_> = modes.chars().enumerate().map(name).collect();
        Line::new(names.into_iter().rev())
    }

    /// The places of those whom the last of the line waits for.
    fn blockers(modes: &str) -> Vec<i32> {
        let line = line(modes);
        let last = mode(modes.chars().last().unwrap());
        line.blockers(line.len() - 1, last).iter().map(|it| it.sequence).collect()
    }

    #[test]
    fn each_waits_for_the_nearest_that_matters() {
        let rows: [(&str, &[i32]); 15] = [
            ("x", &[]),
            ("s", &[]),
            ("2", &[]),
            ("xx", &[0]),
            ("xsx", &[1]),
            ("ss", &[]),
            ("xss", &[0]),
            ("sxss", &[1]),
            ("s2s", &[1]),
            ("22", &[]),
            ("222", &[0, 1]),
            ("2222", &[1, 2]),
            ("x22", &[0]),
            ("2x2", &[1]),
            ("s2", &[0]),
        ];
        for (modes, expected) in rows {
            assert_eq!(blockers(modes), expected, "{modes}");
        }
    }

    #[test]
    fn those_hold_who_wait_for_nobody() {
        for modes in ["", "x", "xx", "ssx", "sxs", "22x", "222", "2s", "33323", "sss"] {
            let line = line(modes);
            let free = |(at, text)| line.blockers(at, mode(text)).is_empty();
            let holding = modes.chars().enumerate().take_while(|&it| free(it)).count();
            assert_eq!(line.holders().len(), holding, "{modes}");
        }
    }

    #[test]
    fn a_counter_that_overflows_keeps_the_order() {
        let ends = ["-2147483648", "2147483646", "-2147483647", "2147483647"];
        let line = Line::new(ends.map(|end| format!("lock-{end}")));
        let order: Vec<_> = line.0.iter().map(|it| it.sequence).collect();
        assert_eq!(order, [i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1]);
    }

    #[test]
    fn permits_of_another_number_are_refused() {
        let claim = |text| {
            let owner = Owner::new("o").unwrap();
            let mut claim = Claim::new(LockKey::new("k").unwrap(), owner, Default::default());
            claim.mode = mode(text);
            claim
        };
        assert!(line("22").check(2, &claim('2')).is_ok());
        assert!(line("22").check(2, &claim('3')).is_err());
        assert!(line("xs2").check(2, &claim('3')).is_ok());
        assert!(line("x").check(1, &claim('s')).is_ok());
    }
}
