//! Bytes to text without loss, as `types.kind.text` in `wit/` says.

/// Whether `bytes`, which begin with a backslash, would read as an escape.
fn looks_escaped(bytes: &[u8]) -> bool {
    matches!(bytes, [b'\\', b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// The text of `bytes` where it is those bytes themselves: UTF-8 in which nothing looks like an escape.
pub(super) fn as_is(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let ambiguous = bytes.contains(&b'\\') && (0..bytes.len()).any(|at| looks_escaped(&bytes[at..]));
    (!ambiguous).then_some(text)
}

/// Appends `bytes` to `out` as text: what is not UTF-8 byte by byte as `\xNN`, a backslash that stands before `xNN` as `\x5c`.
///
/// At most four bytes of text come of one byte.
pub fn escape(bytes: &[u8], out: &mut String) {
    fn hex(byte: u8, out: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.push_str("\\x");
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' && looks_escaped(&bytes[at..]) {
                hex(b'\\', out);
            } else {
                out.push(character);
            }
            at += character.len_utf8();
        }
        for &byte in chunk.invalid() {
            hex(byte, out);
        }
        at += chunk.invalid().len();
    }
}

/// The bytes that became this text: what [`escape`] undone gives.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((&first, rest)) = bytes.split_first() {
        if looks_escaped(bytes) {
            let digit = |at: usize| bytes.get(at).and_then(|digit| char::from(*digit).to_digit(16)).unwrap_or(0) as u8;
            out.push(digit(2) << 4 | digit(3));
            bytes = bytes.get(4..).unwrap_or_default();
        } else {
            out.push(first);
            bytes = rest;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: &str) {
        let mut out = String::new();
        escape(bytes, &mut out);
        assert_eq!(out, expect);
        assert_eq!(as_is(bytes).is_some(), bytes == expect.as_bytes());
        assert_eq!(unescape(&out), bytes);
    }

    /// Text stays as it is; what is not text, or would read as an escape, is escaped.
    #[test]
    fn escapes() {
        check(b"", "");
        check(b"plain", "plain");
        check("über".as_bytes(), "über");
        check(b"a\xffb", "a\\xffb");
        check(b"\xc3", "\\xc3");
        check(b"\\", "\\");
        check(b"C:\\new", "C:\\new");
        check(b"\\x4", "\\x4");
        check(b"\\x41", "\\x5cx41");
        check(b"\\xAB\xff", "\\x5cxAB\\xff");
        check(b"\xf0\x9f\x98", "\\xf0\\x9f\\x98");
    }

    /// Reading the escapes back gives every original: two texts never become one.
    #[test]
    fn loses_nothing() {
        let alphabet = [b'\\', b'x', b'5', b'c', 0xff, 0xc3, 0xbc, b'A'];
        let mut seen = std::collections::HashSet::new();
        for number in 0..8usize.pow(6) {
            let bytes: Vec<u8> = (0..6).map(|digit| alphabet[number >> (3 * digit) & 7]).collect();
            let mut out = String::new();
            escape(&bytes, &mut out);
            assert_eq!(unescape(&out), bytes);
            assert!(out.len() <= 4 * bytes.len());
            assert!(seen.insert(out), "{bytes:?}");
        }
    }
}
