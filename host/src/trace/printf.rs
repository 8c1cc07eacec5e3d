//! Formats of `printf`: C's, as far as bpftrace has them.

use portcullis_adhoc_program::{Conversion, Piece};

use super::{
    error::Wrong,
    mask::{mask, trimmed},
};

/// More is taken for a slip: no line is that long.
const MAX_WIDTH: usize = 1024;

/// Reads a format. The span of an error is left to the caller.
pub(super) fn parse(format: &str) -> Result<Vec<Piece>, Wrong> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        text.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            text.push('%');
            rest = behind;
            continue;
        }
        let (conversion, behind) = conversion(rest)?;
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Field(conversion));
        rest = behind;
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

fn conversion(text: &str) -> Result<(Conversion, &str), Wrong> {
    let mut out = Conversion::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|c| "-0+# '".contains(*c)) {
        match flag {
            '-' => out.left = true,
            '0' => out.zero = true,
            '+' => out.plus = true,
            '#' => out.prefix = true,
            _ => {}
        }
        rest = &rest[1..];
    }
    (out.width, rest) = digits(rest)?;
    if let Some(behind) = rest.strip_prefix('.') {
        let (precision, behind) = digits(behind)?;
        (out.precision, rest) = (Some(precision), behind);
    }
    // Every number has 64 bits: its length says nothing.
    rest = rest.trim_start_matches(['h', 'l', 'j', 'z', 't']);
    let kinds = [
        ("rx", "rx"),
        ("rh", "rh"),
        ("r", "r"),
        ("d", "d"),
        ("i", "d"),
        ("u", "u"),
        ("x", "x"),
        ("X", "X"),
        ("o", "o"),
        ("c", "c"),
        ("p", "p"),
        ("s", "s"),
    ];
    match kinds.iter().find(|(spelt, _)| rest.starts_with(spelt)) {
        Some((spelt, kind)) => {
            out.kind = (*kind).into();
            Ok((out, &rest[spelt.len()..]))
        }
        None => {
            let shown: String = text[..text.len() - rest.len()].chars().chain(rest.chars().take(1)).collect();
            Err(Wrong::new(0..0, format!("`%{}` is no conversion", shown.escape_debug()))
                .help("there are %d %u %x %X %o %c %p %s %r, with flags, a width and a precision; a percent sign itself is `%%`"))
        }
    }
}

fn digits(text: &str) -> Result<(usize, &str), Wrong> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = if end == 0 { Some(0) } else { text[..end].parse().ok().filter(|n| *n <= MAX_WIDTH) };
    match number {
        Some(number) => Ok((number, &text[end..])),
        None => Err(Wrong::new(0..0, format!("a width of {} is too much", &text[..end])).help(format!("at most {MAX_WIDTH}"))),
    }
}

/// The value of an expression that is a string and nothing else.
pub(super) fn whole(expression: &str) -> Option<String> {
    let masked = mask(expression).ok()?;
    let place = trimmed(&masked, 0..masked.len());
    let inside = masked[place.clone()].strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('"') {
        return None;
    }
    unescape(&expression[place.start + 1..place.end - 1]).ok()
}

/// What a string's text between the quotes means. An error has the place of its backslash.
pub(super) fn unescape(text: &str) -> Result<String, (usize, Wrong)> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let next = text[at + 1..].chars().next();
        let escaped = match next {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('a') => Some('\x07'),
            Some('e') => Some('\x1b'),
            Some('"') => Some('"'),
            Some('\\') => Some('\\'),
            _ => None,
        };
        match (escaped, next) {
            (Some(c), _) => {
                chars.next();
                out.push(c);
            }
            (None, Some('x')) => {
                chars.next();
                out.extend(code(&mut chars, 16, 2));
            }
            (None, Some('0'..='7')) => {
                out.extend(code(&mut chars, 8, 3));
            }
            (None, other) => {
                let shown = other.map(|c| c.escape_debug().to_string()).unwrap_or_default();
                let wrong =
                    Wrong::new(0..0, format!("`\\{shown}` is no escape")).help("there are \\n \\t \\r \\\" \\\\ \\xNN \\NNN");
                return Err((at, wrong));
            }
        }
    }
    Ok(out)
}

/// The character whose number is written in at most `most` digits.
fn code(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>, radix: u32, most: usize) -> Option<char> {
    let mut value = 0;
    for _ in 0..most {
        let Some(digit) = chars.peek().and_then(|(_, c)| c.to_digit(radix)) else { break };
        value = value * radix + digit;
        chars.next();
    }
    char::from_u32(value)
}
