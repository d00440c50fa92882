//! Which columns there is room for, and how wide they are: pure.

/// What a column shows, in its order from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Key,
    Owner,
    Mode,
    Fence,
    Age,
    Bar,
    Left,
    Waiting,
}

use Column::Age;
use Column::Bar;
use Column::Fence;
use Column::Key;
use Column::Left;
use Column::Mode;
use Column::Owner;
use Column::Waiting;

/// The narrowest owner that tells anything.
const NARROWEST: usize = 15;

/// The narrowest key: they tend to begin alike.
const NARROWEST_KEY: usize = 20;

/// How much a bar may grow where there is room.
const LONGEST_BAR: usize = 20;

/// What is left out first.
const EXPENDABLE: [Column; 7] = [Fence, Mode, Bar, Age, Waiting, Owner, Left];

/// What stands before the first column: the mark of a change.
pub(super) const MARK: usize = 1;

impl Column {
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Key => "KEY",
            Owner => "OWNER",
            Mode => "MODE",
            Fence => "FENCE",
            Age => "AGE",
            Bar => "LEASE",
            Left => "LEFT",
            Waiting => "WAIT",
        }
    }

    /// Whether figures stand below each other.
    pub(super) const fn is_right(self) -> bool {
        matches!(self, Fence | Age | Left | Waiting)
    }

    /// How wide it is at least.
    const fn width(self) -> usize {
        match self {
            Key => NARROWEST_KEY,
            Owner => NARROWEST,
            Mode => 9,
            Fence => 16,
            Age | Left | Bar => 5,
            Waiting => 4,
        }
    }
}

/// Shares `room` among as many columns as fit, given how wide the widest key and owner are.
pub(super) fn columns(room: usize, key: usize, owner: usize) -> Vec<(Column, usize)> {
    let mut shown = vec![Key, Owner, Mode, Fence, Age, Bar, Left, Waiting];
    for expendable in EXPENDABLE {
        if needed(&shown, key, owner) <= room {
            break;
        }
        shown.retain(|column| *column != expendable);
    }
    let mut spare = room.saturating_sub(needed(&shown, key, owner));
    let mut widths: Vec<_> =
        shown.iter().map(|column| (*column, least(*column, key, owner))).collect();
    // Of what is left the keys get all they can use, as it says most, then owners, then the bar.
    for (wide, most) in [(Key, key), (Owner, owner), (Bar, LONGEST_BAR)] {
        let Some((_, width)) = widths.iter_mut().find(|(column, _)| *column == wide) else {
            continue;
        };
        let more = most.saturating_sub(*width).min(spare);
        *width += more;
        spare -= more;
    }
    if let [(Key, width)] = &mut widths[..] {
        *width = (*width).min(room.saturating_sub(MARK));
    }
    widths
}

fn least(column: Column, key: usize, owner: usize) -> usize {
    let widest = match column {
        Key => key,
        Owner => owner,
        _ => usize::MAX,
    };
    // A heading needs its room too.
    column.width().min(widest.max(column.heading().len()))
}

fn needed(shown: &[Column], key: usize, owner: usize) -> usize {
    MARK + shown.iter().map(|column| least(*column, key, owner)).sum::<usize>() + shown.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(columns: &[(Column, usize)]) -> usize {
        MARK + columns.iter().map(|(_, width)| width).sum::<usize>() + columns.len() - 1
    }

    #[test]
    fn eighty_columns_have_room_for_everything_unless_keys_are_long() {
        let everything = columns(80, 13, 40);
        assert_eq!(everything.len(), 8);
        assert!(total(&everything) <= 80, "{everything:?}");
        let without_fence = columns(80, 40, 40);
        assert_eq!((without_fence.len(), without_fence[0]), (7, (Key, 30)));
    }

    #[test]
    fn no_room_is_ever_overrun_or_left_unused() {
        for room in 0..300 {
            let columns = columns(room, 60, 30);
            assert_eq!(columns[0].0, Key, "{room}");
            assert!(total(&columns) <= room.max(MARK), "{room}: {columns:?}");
            let all = MARK + 60 + 30 + 9 + 16 + 5 + LONGEST_BAR + 5 + 4 + 7;
            let least = room.min(all).saturating_sub(17);
            assert!(total(&columns) >= least.min(MARK + 60), "{room}: {columns:?}");
        }
    }

    #[test]
    fn short_keys_leave_their_room_to_others() {
        let columns = columns(80, 4, 30);
        assert_eq!(columns[0], (Key, 4));
        assert_eq!(columns[1], (Owner, 24));
    }

    #[test]
    fn what_says_least_goes_first() {
        let shown =
            |room| columns(room, 60, 30).into_iter().map(|(column, _)| column).collect::<Vec<_>>();
        assert!(!shown(70).contains(&Fence));
        assert_eq!(shown(45), [Key, Owner, Left]);
        assert_eq!(shown(30), [Key, Left]);
        assert_eq!(shown(10), [Key]);
    }
}
