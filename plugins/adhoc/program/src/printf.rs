//! `printf` as C and bpftrace have it.

use std::fmt::Write;

use crate::{Clock, Conversion, Piece, map, time};

/// A value that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// An unsigned number.
    U64(u64),
    /// A signed number.
    S64(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A stack's frames, innermost first.
    Stack(Vec<String>),
    /// What could not be read.
    Absent,
}

/// What kind of value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A stack.
    Stack,
}

/// Why a conversion can't show a value of this kind.
pub fn unfit(conversion: &Conversion, kind: Kind) -> Option<String> {
    let Conversion { kind: letter, time, .. } = conversion;
    let what = match kind {
        Kind::Number => "a number",
        Kind::Text => "text",
        Kind::Bytes => "bytes",
        Kind::Stack => "a stack",
    };
    if time.is_some() && kind != Kind::Number {
        return Some(format!("`strftime` is for a time, and this is {what}"));
    }
    match (letter.as_str(), kind) {
        ("s", _) | ("r" | "rx" | "rh", Kind::Bytes | Kind::Text) => None,
        ("r" | "rx" | "rh", _) => Some(format!("`%{letter}` is for bytes, and this is {what}; use %d")),
        (_, Kind::Number) => None,
        (_, Kind::Bytes) => Some(format!("`%{letter}` is for a number, and this is {what}; use %r")),
        (_, _) => Some(format!("`%{letter}` is for a number, and this is {what}; use %s")),
    }
}

/// Appends what the pieces show; each conversion takes the next value.
pub fn printf(out: &mut String, pieces: &[Piece], mut values: impl Iterator<Item = Cell>, clock: Clock) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(conversion) => convert(out, conversion, values.next().unwrap_or(Cell::Absent), clock),
        }
    }
}

fn convert(out: &mut String, conversion: &Conversion, value: Cell, clock: Clock) {
    let value = match (&conversion.time, number(&value)) {
        (Some(format), Some((nsecs, _))) => Cell::Text(time(format, nsecs, clock)),
        _ => value,
    };
    let body = match (conversion.kind.as_str(), number(&value)) {
        ("r" | "rx" | "rh", _) => bytes(&conversion.kind, &value),
        ("s", _) => cut(&text(&value), conversion.precision),
        ("c", Some((n, _))) => char::from(n as u8).to_string(),
        (_, Some((n, negative))) => return digits(out, conversion, n, negative),
        // Of a number that could not be read, C would show what stands there: nothing does.
        (_, None) => return digits(out, conversion, 0, false),
    };
    pad(out, conversion, &body);
}

/// The number's bits, and whether it is one below zero.
fn number(value: &Cell) -> Option<(u64, bool)> {
    match value {
        Cell::U64(n) => Some((*n, false)),
        Cell::S64(n) => Some((*n as u64, *n < 0)),
        _ => None,
    }
}

fn cut(text: &str, precision: Option<usize>) -> String {
    text.chars().take(precision.unwrap_or(usize::MAX)).collect()
}

fn pad(out: &mut String, conversion: &Conversion, body: &str) {
    let fill = conversion.width.saturating_sub(body.chars().count());
    if !conversion.left {
        out.extend(std::iter::repeat_n(' ', fill));
    }
    out.push_str(body);
    if conversion.left {
        out.extend(std::iter::repeat_n(' ', fill));
    }
}

fn digits(out: &mut String, conversion: &Conversion, n: u64, negative: bool) {
    let (sign, prefix, digits) = match conversion.kind.as_str() {
        "u" => ("", "", n.to_string()),
        "x" => ("", if conversion.prefix && n != 0 { "0x" } else { "" }, format!("{n:x}")),
        "X" => ("", if conversion.prefix && n != 0 { "0X" } else { "" }, format!("{n:X}")),
        "o" => ("", if conversion.prefix { "0" } else { "" }, format!("{n:o}")),
        "p" => ("", "0x", format!("{n:x}")),
        _ => {
            // An unsigned number that is too large for the sign is shown as C does it.
            let signed = n as i64;
            let sign = if negative || signed < 0 {
                "-"
            } else if conversion.plus {
                "+"
            } else {
                ""
            };
            (sign, "", signed.unsigned_abs().to_string())
        }
    };
    let digits = match conversion.precision {
        Some(least) => format!("{digits:0>least$}"),
        None if conversion.zero && !conversion.left => {
            let least = conversion.width.saturating_sub(sign.len() + prefix.len());
            format!("{digits:0>least$}")
        }
        None => digits,
    };
    pad(out, conversion, &format!("{sign}{prefix}{digits}"));
}

fn bytes(kind: &str, value: &Cell) -> String {
    let bytes = match value {
        Cell::Bytes(bytes) => bytes.as_slice(),
        Cell::Text(text) => text.as_bytes(),
        _ => &[],
    };
    let mut out = String::new();
    for (position, byte) in bytes.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = match kind {
            "rx" if position > 0 => write!(out, " {byte:02x}"),
            "rx" | "rh" => write!(out, "{byte:02x}"),
            _ if byte.is_ascii_graphic() && *byte != b'\\' || *byte == b' ' => write!(out, "{}", char::from(*byte)),
            _ => write!(out, "\\x{byte:02x}"),
        };
    }
    out
}

/// A value as `print` shows it. A stack has a line of its own for each frame.
pub fn text(value: &Cell) -> String {
    match value {
        Cell::U64(n) => n.to_string(),
        Cell::S64(n) => n.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Bytes(_) => bytes("r", value),
        Cell::Stack(frames) => {
            let mut out = String::from("\n");
            frames.iter().for_each(|frame| {
                out.push_str("    ");
                out.push_str(frame);
                out.push('\n');
            });
            out
        }
        Cell::Absent => String::new(),
    }
}

/// What `print(VALUE)` shows: the cells that are no keys of `map`.
pub fn value(map: Option<&str>, keys: usize, tuple: bool, cells: &[Cell]) -> String {
    let (keys, values) = cells.split_at(keys.min(cells.len()));
    let shown: Vec<String> = values.iter().map(text).collect();
    let shown = shown.join(", ");
    let head = map.map(|name| map::head(name, keys)).unwrap_or_default();
    if tuple { format!("{head}({shown})\n") } else { format!("{head}{shown}\n") }
}

/// What `join` shows: texts up to the first that could not be read.
pub fn join(delimiter: &str, cells: impl Iterator<Item = Cell>) -> String {
    let texts: Vec<String> = cells.take_while(|cell| *cell != Cell::Absent).map(|cell| text(&cell)).collect();
    texts.join(delimiter) + "\n"
}
