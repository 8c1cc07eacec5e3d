//! A program with comments and strings blanked out, byte for byte: what is left has no brace, slash or comma that is none.

use super::error::Wrong;

/// What stands for a byte inside a string.
const IN_STRING: char = 's';
/// What stands for a byte of a character that is not ASCII.
const OTHER: char = '?';

/// Blanks out. What comes out is ASCII and as long as `text`, so places are the same in both; a line end in a comment stays one.
pub(super) fn mask(text: &str) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    if text.starts_with("#!") {
        blank(&mut out, &text[..text.find('\n').unwrap_or(text.len())]);
    }
    while let Some(c) = text[out.len()..].chars().next() {
        let at = out.len();
        let rest = &text[at..];
        if rest.starts_with("//") {
            blank(&mut out, &rest[..rest.find('\n').unwrap_or(rest.len())]);
        } else if let Some(inside) = rest.strip_prefix("/*") {
            let end =
                inside.find("*/").ok_or_else(|| Wrong::new(at..at + 2, "this comment does not end").help("end it with `*/`"))?;
            blank(&mut out, &rest[..end + 4]);
        } else if c == '"' {
            let end = string(rest).ok_or_else(|| {
                Wrong::new(at..at + 1, "this string does not end")
                    .help("end it with `\"` on the same line; write `\\n` for a line end")
            })?;
            out.push('"');
            out.extend(std::iter::repeat_n(IN_STRING, end - 1));
            out.push('"');
        } else if c.is_ascii() {
            out.push(c);
        } else {
            out.extend(std::iter::repeat_n(OTHER, c.len_utf8()));
        }
    }
    Ok(out)
}

fn blank(out: &mut String, comment: &str) {
    out.extend(comment.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

/// Where the quote is that ends the string that the text begins with.
fn string(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'\n' => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the bracket is that closes the one at `open`; any kind of bracket nests.
pub(super) fn closing(mask: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in mask.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The length of the identifier that the text begins with.
pub(super) fn word(mask: &str) -> usize {
    if mask.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    mask.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(mask.len())
}

/// The place of the first byte from `at` on that is no white space.
pub(super) fn skip(mask: &str, at: usize) -> usize {
    mask.len() - mask[at..].trim_start().len()
}

/// The range without white space at its ends.
pub(super) fn trimmed(mask: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let text = &mask[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    start..(range.start + text.trim_end().len()).max(start)
}
