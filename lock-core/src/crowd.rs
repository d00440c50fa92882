//! Who can hold a key beside whom, for backends that decide it outside their store.

use crate::Mode;

/// How many hold a key in each mode, or would if all before a place in line were served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    exclusive: u32,
    shared: u32,
    permits: u32,
}

impl Crowd {
    /// Counts those who hold in `modes`.
    pub fn of(modes: impl Iterator<Item = Mode>) -> Self {
        let mut crowd = Self::default();
        modes.for_each(|mode| crowd.add(mode));
        crowd
    }

    /// Tells whether a claim of `mode` can hold beside these.
    ///
    /// That all permits name the same number is [checked](crate::Claim::check_beside) before.
    pub fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => self.exclusive + self.shared + self.permits == 0,
            Mode::Shared => self.exclusive + self.permits == 0,
            Mode::Permits { of } => self.exclusive + self.shared == 0 && self.permits < of.get(),
        }
    }

    /// Counts one more.
    pub fn add(&mut self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive += 1,
            Mode::Shared => self.shared += 1,
            Mode::Permits { .. } => self.permits += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_conflict_except_readers_and_permits_within_their_number() {
        let mode = |text: &str| text.parse::<Mode>().unwrap();
        let rows = [
            (vec![], "exclusive", true),
            (vec![], "shared", true),
            (vec![], "permits:1", true),
            (vec!["exclusive"], "exclusive", false),
            (vec!["exclusive"], "shared", false),
            (vec!["exclusive"], "permits:2", false),
            (vec!["shared"], "exclusive", false),
            (vec!["shared"], "shared", true),
            (vec!["shared"], "permits:2", false),
            (vec!["permits:2"], "exclusive", false),
            (vec!["permits:2"], "shared", false),
            (vec!["permits:2"], "permits:2", true),
            (vec!["permits:2", "permits:2"], "permits:2", false),
        ];
        for (holders, wanted, admitted) in rows {
            let crowd = Crowd::of(holders.iter().map(|text| mode(text)));
            assert_eq!(crowd.admits(mode(wanted)), admitted, "{holders:?} and {wanted}");
        }
    }
}
