//! Text of others (keys, owners) on a terminal: harmless, and as wide as there is room for.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// What stands for the part that was cut out.
const GAP: &str = "…";

/// Replaces what a terminal would obey (control characters, and those that end lines or turn the
/// direction of writing), and what takes no room: terminals disagree on what it joins, and two names
/// that differ must not look the same.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c };
    text.chars().map(escape).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns how many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns the text, or its begin and end with a gap between them, in at most `room` columns.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let Some(rest) = room.checked_sub(width(GAP)) else { return String::new() };
    let end = fitting_end(text, rest / 2);
    let begin = fitting(text, rest - width(end));
    format!("{begin}{GAP}{end}")
}

/// Returns as much of the text's begin as `room` columns take.
pub(crate) fn fitting(text: &str, room: usize) -> &str {
    &text[..fitting_bytes(text.graphemes(true), room)]
}

fn fitting_end(text: &str, room: usize) -> &str {
    &text[text.len() - fitting_bytes(text.graphemes(true).rev(), room)..]
}

/// Returns how long the first parts are that `room` columns take.
fn fitting_bytes<'a>(parts: impl Iterator<Item = &'a str>, room: usize) -> usize {
    let mut used = 0;
    let fits = |part: &&str| {
        used += width(part);
        used <= room
    };
    parts.take_while(fits).map(str::len).sum()
}

/// Fills a text with blanks up to `room` columns.
pub(crate) fn padded(text: &str, room: usize) -> String {
    format!("{text}{}", " ".repeat(room.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_controls_the_terminal() {
        assert_eq!(printable("a\x1b[31m\nb\u{9b}"), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
        assert_eq!(printable("a\u{202e}b\u{2028}\u{7f}\0"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(printable("né e\u{301} 漢 👷"), "né e\u{301} 漢 👷");
        assert_eq!(printable("a\u{200b}\u{200d}\u{fe0f}"), "a\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn the_middle_is_cut_out() {
        assert_eq!(cut("orders:2026:eu:42", 20), "orders:2026:eu:42");
        assert_eq!(cut("orders:2026:eu:42", 17), "orders:2026:eu:42");
        assert_eq!(cut("orders:2026:eu:42", 10), "order…u:42");
        assert_eq!(cut("orders", 2), "o…");
        assert_eq!(cut("orders", 1), "…");
        assert_eq!(cut("orders", 0), "");
    }

    #[test]
    fn no_cut_is_wider_than_its_room_or_breaks_a_character() {
        let texts = [
            "漢字漢字漢字",
            "e\u{301}e\u{301}e\u{301}e\u{301}",
            "👩‍🔧👩‍🔧👩‍🔧",
            "❤\u{fe0f}❤\u{fe0f}❤\u{fe0f}",
            "aé漢👩‍🔧z",
        ];
        for text in texts {
            for room in 0..=width(text) {
                let cut = cut(text, room);
                assert!(width(&cut) <= room, "{text} in {room}: {cut}");
                let whole = |part: &str| text.graphemes(true).any(|known| known == part);
                assert!(cut.graphemes(true).all(|part| part == GAP || whole(part)), "{cut}");
            }
        }
    }

    #[test]
    fn wide_characters_count_twice_when_padding() {
        assert_eq!(padded("漢", 4), "漢  ");
        assert_eq!(padded("long", 2), "long");
    }
}
