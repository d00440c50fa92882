//! Who can hold a key beside whom, said a second time: not by the code that is under test.

use lock_core::Mode;

/// The kinds of modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Writer,
    Reader,
    Permit,
}

impl Class {
    pub(crate) fn of(mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Self::Writer,
            Mode::Shared => Self::Reader,
            Mode::Permits { .. } => Self::Permit,
        }
    }

    /// Whether two of these kinds can never hold at one time.
    pub(crate) fn excludes(self, other: Self) -> bool {
        self != other || self == Self::Writer
    }
}

/// Tells whether `mode` can hold beside `others`.
pub(crate) fn admits(others: impl IntoIterator<Item = Mode>, mode: Mode) -> bool {
    let mut others = others.into_iter();
    match mode {
        Mode::Exclusive => others.next().is_none(),
        Mode::Shared => others.all(|other| other == Mode::Shared),
        Mode::Permits { of } => {
            let mut room = of.get();
            others.all(|other| {
                room -= 1;
                other == mode && room > 0
            })
        }
    }
}
