//! Rows as lines of JSON.
//!
//! `{"plugin":..,"table":..,"time":ns,"column":value,...}`, written straight into a buffer: what does not change from row to row is
//! made once a batch, and a text that many rows share is escaped once.

use std::{io, ops::Range};

use super::{clean, is_absent};
use crate::contract::{Cells, Table, TableRows};

/// How many bytes are collected before they are written.
const PIECE: usize = 64 << 10;

/// Appends a line per row to `buffer` and hands it to `write` whenever it is long. Cells that a column lacks are `null`.
pub(super) fn rows(
    buffer: &mut Vec<u8>,
    plugin: &str,
    table: &Table,
    rows: &TableRows,
    mut write: impl FnMut(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let mut head = Vec::new();
    head.extend_from_slice(b"{\"plugin\":");
    string(&mut head, plugin);
    head.extend_from_slice(b",\"table\":");
    string(&mut head, &table.name);
    head.extend_from_slice(b",\"time\":");
    let keys = table.columns.iter().map(|column| {
        let mut key = vec![b','];
        string(&mut key, &column.name);
        key.push(b':');
        key
    });
    let columns: Vec<_> = keys.zip(&rows.columns).collect();
    let mut texts = Escaped::new(&rows.strings);
    for (row, time) in rows.time.iter().enumerate() {
        buffer.extend_from_slice(&head);
        integer(buffer, *time);
        for (key, values) in &columns {
            buffer.extend_from_slice(key);
            if is_absent(&values.absent, row) || cell(buffer, &values.cells, row, &mut texts).is_none() {
                buffer.extend_from_slice(b"null");
            }
        }
        buffer.extend_from_slice(b"}\n");
        if buffer.len() >= PIECE {
            write(buffer)?;
        }
    }
    Ok(())
}

/// The texts of a call, escaped when the first row needs them.
struct Escaped<'t> {
    strings: &'t [String],
    text: Vec<u8>,
    /// By the text's number; an empty range is of a text that was not needed yet.
    ranges: Vec<Range<usize>>,
}

impl Escaped<'_> {
    fn new(strings: &[String]) -> Escaped<'_> {
        Escaped { strings, text: Vec::new(), ranges: vec![0..0; strings.len()] }
    }

    fn get(&mut self, number: u32) -> Option<&[u8]> {
        let range = self.ranges.get_mut(number as usize)?;
        if range.start == range.end {
            range.start = self.text.len();
            string(&mut self.text, self.strings.get(number as usize)?);
            range.end = self.text.len();
        }
        self.text.get(range.clone())
    }
}

fn cell(buffer: &mut Vec<u8>, cells: &Cells, row: usize, texts: &mut Escaped<'_>) -> Option<()> {
    match cells {
        Cells::U64(values) => integer(buffer, *values.get(row)?),
        Cells::S64(values) => integer(buffer, *values.get(row)?),
        Cells::F64(values) => float(buffer, *values.get(row)?),
        Cells::Bool(values) => buffer.extend_from_slice(if *values.get(row)? { b"true" } else { b"false" }),
        Cells::Text(index) => buffer.extend_from_slice(texts.get(*index.get(row)?)?),
    }
    Some(())
}

fn integer(buffer: &mut Vec<u8>, value: impl itoa::Integer) {
    buffer.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn float(buffer: &mut Vec<u8>, value: f64) {
    // A JSON number is finite; serde_json too writes `null` for any other.
    match serde_json::Number::from_f64(value) {
        Some(number) => buffer.extend_from_slice(number.to_string().as_bytes()),
        None => buffer.extend_from_slice(b"null"),
    }
}

/// Writes a JSON string. What a terminal would obey is escaped as well, which JSON leaves free: the value stays the same, and a
/// person may look at the stream.
pub(super) fn string(buffer: &mut Vec<u8>, text: &str) {
    buffer.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        // The first bytes of the UTF-8 of hidden characters that are not ASCII: 0x80 to 0x9f, U+061C, U+2000 to U+2FFF, U+FEFF
        // and U+E0000 on.
        if !matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f | 0xc2 | 0xd8 | 0xe2 | 0xef | 0xf3) {
            continue;
        }
        let Some(c) = text[at..].chars().next() else { break };
        if c != '"' && c != '\\' && !clean::is_hidden(c) {
            continue;
        }
        buffer.extend_from_slice(&bytes[from..at]);
        from = at + c.len_utf8();
        match c {
            '"' => buffer.extend_from_slice(b"\\\""),
            '\\' => buffer.extend_from_slice(b"\\\\"),
            '\n' => buffer.extend_from_slice(b"\\n"),
            '\r' => buffer.extend_from_slice(b"\\r"),
            '\t' => buffer.extend_from_slice(b"\\t"),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    buffer.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    buffer.extend_from_slice(&bytes[from..]);
    buffer.push(b'"');
}
