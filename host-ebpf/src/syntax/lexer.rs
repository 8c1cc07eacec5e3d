//! Text to tokens.

use std::ops::Range;

use super::SyntaxError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Int(u64),
    Text(String),
    Ident(String),
    Variable(String),
    Map(String),
    /// An operator or a mark of punctuation.
    Mark(&'static str),
    End,
}

impl Token {
    /// For messages: what stands there.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Int(n) => format!("`{n}`"),
            Token::Text(_) => "a string".into(),
            Token::Ident(name) => format!("`{name}`"),
            Token::Variable(name) => format!("`${name}`"),
            Token::Map(name) => format!("`@{name}`"),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) span: Range<usize>,
}

/// Longer marks before those that they begin with.
const MARKS: [&str; 42] = [
    "<<=", ">>=", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "->", "..", "+=", "-=", "*=", "/=", "%=", "&=",
    "|=", "^=", "(", ")", "{", "}", "[", "]", ",", ";", ":", ".", "+", "-", "*", "/", "%", "<", ">", "=", "!", "~",
];
const BIT_MARKS: [&str; 5] = ["&", "|", "^", "?", "#"];

/// All tokens of the text, the last one `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, SyntaxError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let end = rest
                .find("*/")
                .ok_or_else(|| SyntaxError::new(at..at + 2, "this comment does not end").help("end it with `*/`"))?;
            at += end + 2;
        } else {
            let (token, length) = token(text, at, c)?;
            out.push(Spanned { token, span: at..at + length });
            at += length;
        }
    }
    out.push(Spanned { token: Token::End, span: text.len()..text.len() });
    Ok(out)
}

fn token(text: &str, at: usize, first: char) -> Result<(Token, usize), SyntaxError> {
    let rest = &text[at..];
    if first.is_ascii_digit() {
        return int(rest, at);
    }
    if first == '"' {
        return string(rest, at);
    }
    if first == '$' {
        let length = word(&rest[1..]);
        if length == 0 {
            return Err(SyntaxError::new(at..at + 1, "a variable needs a name behind the `$`").help("as in `$x`"));
        }
        return Ok((Token::Variable(rest[1..1 + length].to_owned()), 1 + length));
    }
    if first == '@' {
        let length = word(&rest[1..]);
        return Ok((Token::Map(rest[1..1 + length].to_owned()), 1 + length));
    }
    let length = word(rest);
    if length > 0 {
        return Ok((Token::Ident(rest[..length].to_owned()), length));
    }
    match MARKS.iter().chain(&BIT_MARKS).find(|mark| rest.starts_with(**mark)) {
        Some(mark) => Ok((Token::Mark(mark), mark.len())),
        None => {
            // As it is where a terminal can show it.
            let shown = if first.is_ascii_graphic() { first.to_string() } else { first.escape_debug().to_string() };
            let error = SyntaxError::new(at..at + first.len_utf8(), format!("`{shown}` means nothing here"));
            Err(if first == '\'' { error.help("text stands in double quotes: `\"cat\"`") } else { error })
        }
    }
}

/// The length of the word that the text begins with.
fn word(text: &str) -> usize {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { 0 } else { end }
}

/// What a number may be followed by: units of time, in ns.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The value of `5ms`, which may not fit; `None` for what is no time.
fn time(word: &str) -> Option<Option<u64>> {
    let digits = word.find(|c: char| c.is_ascii_alphabetic())?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == &word[digits..])?;
    Some(word[..digits].replace('_', "").parse::<u64>().ok().and_then(|n| n.checked_mul(*unit)))
}

fn int(rest: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let word = &rest[..length];
    let span = at..at + length;
    if let Some(fraction) = rest[length..].strip_prefix('.')
        && fraction.starts_with(|c: char| c.is_ascii_digit())
    {
        let end = fraction.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(fraction.len());
        let message = format!("`{word}.{}` is no integer", &fraction[..end]);
        return Err(SyntaxError::new(at..at + length + 1 + end, message)
            .help("there are integers only: compute in thousandths, or in ns"));
    }
    if let Some(time) = time(word) {
        return time.map(|time| (Token::Int(time), length)).ok_or_else(|| too_large(word, span));
    }
    // An exponent, as in 1e6.
    if let Some((digits, exponent)) = word.split_once('e').filter(|(digits, _)| !digits.starts_with("0x"))
        && let (Ok(digits), Ok(exponent)) = (digits.replace('_', "").parse::<u64>(), exponent.parse::<u32>())
    {
        let value = 10_u64.checked_pow(exponent).and_then(|power| power.checked_mul(digits));
        return value.map(|value| (Token::Int(value), length)).ok_or_else(|| too_large(word, span));
    }
    // What C says of the width, which is 64 bits here whatever it says: 1UL.
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']).replace('_', "");
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits.as_str(), 10),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(value) => Ok((Token::Int(value), length)),
        Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => Err(too_large(word, span)),
        Err(_) => Err(SyntaxError::new(span, format!("`{word}` is not a number"))
            .help("integers are written as 42, 1_000_000, 0x2a, 052 (octal) or 1e6, times as 5ns, us, ms, s, m, h, d")),
    }
}

fn too_large(word: &str, span: Range<usize>) -> SyntaxError {
    SyntaxError::new(span, format!("`{word}` does not fit into 64 bits")).help("the largest integer is 18446744073709551615")
}

fn string(rest: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(value), i + 1)),
            '\n' => break,
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, '"')) => value.push('"'),
                Some((_, '\\')) => value.push('\\'),
                Some((j, other)) => {
                    let span = at + i..at + j + other.len_utf8();
                    let message = format!("`\\{}` is no escape", other.escape_default());
                    return Err(SyntaxError::new(span, message).help("there are \\n \\t \\r \\\" \\\\"));
                }
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(SyntaxError::new(at..at + 1, "this string does not end").help("end it with `\"` on the same line"))
}
