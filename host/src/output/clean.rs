//! Text that the host did not write, made safe to show.
//!
//! Plugins, file names and command names can hold what a terminal obeys instead of showing: escape sequences, and characters
//! that turn the direction of what follows. Each is shown by its number instead.

use std::{borrow::Cow, fmt::Write};

/// A terminal does not show this character but does something, or shows nothing at all.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of direction (Unicode annex 9), the line and paragraph separators.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // A byte order mark, and the tag characters, which carry text that is not seen.
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` for one line: `\n`, `\t`, `\x1b`, `\u{202e}` in place of what is hidden.
pub fn line(text: &str) -> Cow<'_, str> {
    replace(text, is_hidden)
}

/// `text` for several lines: as [`line()`], but line ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    replace(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// `text`, which is JSON, with what is hidden as JSON's own escapes, so that the values stay. Line ends between values stay, too.
pub fn json(text: &str) -> Cow<'_, str> {
    let hidden = |c| is_hidden(c) && c != '\n';
    let Some(first) = text.find(hidden) else { return Cow::Borrowed(text) };
    let mut clean = String::with_capacity(text.len() + 16);
    clean.push_str(&text[..first]);
    for c in text[first..].chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

fn replace(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&hidden) else { return Cow::Borrowed(text) };
    let mut clean = String::with_capacity(text.len() + 16);
    clean.push_str(&text[..first]);
    for c in text[first..].chars() {
        if hidden(c) { escape(&mut clean, c) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

fn escape(to: &mut String, c: char) {
    // Writing to a String does not fail.
    let _ = match c {
        '\n' => to.write_str("\\n"),
        '\r' => to.write_str("\\r"),
        '\t' => to.write_str("\\t"),
        c if (c as u32) < 0x100 => write!(to, "\\x{:02x}", c as u32),
        c => write!(to, "\\u{{{:x}}}", c as u32),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON stays JSON of the same value.
    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({"a\u{202e}b": ["\u{9b}2J\x1b\x7f\n\u{e0041}", 1], "plain": null});
        let text = format!("{value:#}\n");
        let clean = json(&text);
        assert!(!clean.contains(|c| is_hidden(c) && c != '\n'), "{clean}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).ok(), Some(value));
    }

    /// What a terminal would obey is shown by number; all else stays as it is.
    #[test]
    fn hidden_characters_become_visible() {
        for (text, one, several) in [
            ("plain text, ünïcödé, 漢字", "plain text, ünïcödé, 漢字", "plain text, ünïcödé, 漢字"),
            ("a\x1b[31mred", r"a\x1b[31mred", r"a\x1b[31mred"),
            ("two\nlines\tand\r", r"two\nlines\tand\r", "two\nlines\tand\\r"),
            ("txt.\u{202e}exe", r"txt.\u{202e}exe", r"txt.\u{202e}exe"),
            ("\u{9b}2J \u{7f}\0", r"\x9b2J \x7f\x00", r"\x9b2J \x7f\x00"),
            ("\u{2066}\u{2028}\u{feff}\u{e0041}", r"\u{2066}\u{2028}\u{feff}\u{e0041}", r"\u{2066}\u{2028}\u{feff}\u{e0041}"),
        ] {
            assert_eq!(line(text), one);
            assert_eq!(lines(text), several);
        }
    }
}
