//! Text that others chose, shown so that no terminal obeys it and no reader is misled by it.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// In one line, with a mark for each character that would not be seen.
pub(super) fn plain(text: &str) -> String {
    text.replace(is_hidden, "\u{fffd}")
}

/// JSON that says the same without characters that would not be seen.
pub(super) fn escaped(json: &str) -> Cow<'_, str> {
    // Of these JSON has line feeds alone, and none of them inside of a string.
    let is_seen = |it: char| it == '\n' || !is_hidden(it);
    if json.chars().all(is_seen) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for it in json.chars() {
        if is_seen(it) {
            text.push(it);
            continue;
        }
        for unit in it.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    Cow::Owned(text)
}

/// In lines of this width, parted between words, and inside of those that are longer.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let text = plain(text);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_whitespace() {
        if used > 0 && used + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for it in word.chars() {
            let cells = it.width().unwrap_or(0);
            if used > 0 && used + cells > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(it);
            used += cells;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Controls, and what directs or parts text without being seen: bidirectional overrides, joiners,
/// separators of lines.
fn is_hidden(it: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    if it.is_ascii() {
        return it.is_ascii_control();
    }
    matches!(it.general_category(), Control | Format | LineSeparator | ParagraphSeparator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_marked_or_escaped() {
        let text = "a\u{7f}b\u{85}c\u{202e}d\u{200b}e\nf\u{2028}g\u{e0001}h";
        let marked = plain(text);
        assert_eq!(marked.matches('\u{fffd}').count(), 7, "{marked}");
        let json = serde_json::to_string(text).unwrap();
        let shown = escaped(&json);
        assert!(!shown.contains(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        assert!(matches!(escaped("{\n\"é\": 1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_is_cut_off_and_no_line_is_wider() {
        for (text, width, expected) in [
            ("one two three", 7, &["one two", "three"][..]),
            ("abcdefgh ij", 3, &["abc", "def", "gh", "ij"]),
            ("漢字漢字", 5, &["漢字", "漢字"]),
            ("", 5, &[]),
        ] {
            assert_eq!(wrapped(text, width), expected);
        }
    }
}
