//! Streams that are shown as they are.

use std::ops::Range;

use portcullis_sdk::{
    CellKind, Cells, Column, Kind, RawRows, Result, SchemaStream, TableColumn, TableNumber, TableRows, TableValues, Tables, Unit,
    Values, append,
};

use crate::cells::{Reader, line};

/// How many rows are appended at once that have stacks or bytes as text: the host takes 8 MiB in one call, and a stack has 127 frames.
pub(crate) const LONG_ROWS: usize = 256;

/// A stream and its table.
pub(crate) struct StreamTable {
    table: TableNumber,
    /// `END` emits to it.
    pub(crate) end: bool,
}

impl StreamTable {
    pub(crate) fn new(stream: &SchemaStream, end: bool, tables: &mut Tables) -> StreamTable {
        let columns = stream.fields.iter().map(|field| TableColumn {
            name: column_name(&field.name),
            kind: kind_of(field.kind),
            unit: Unit::None,
        });
        StreamTable { table: tables.declare(&stream.name, columns.collect()), end }
    }

    /// Shows a range of rows.
    pub(crate) fn append(&self, rows: &RawRows, range: Range<usize>, strings: &[&str], reader: &Reader) -> Result<()> {
        let long = rows.columns.iter().any(|column| matches!(column.values, Values::Bytes(_) | Values::Stack(_)));
        let step = if long { LONG_ROWS } else { range.len().max(1) };
        let mut pieces = range.clone().step_by(step).map(|start| start..range.end.min(start + step));
        pieces.try_for_each(|piece| self.append_at_once(rows, piece, strings, reader))
    }

    fn append_at_once(&self, rows: &RawRows, range: Range<usize>, strings: &[&str], reader: &Reader) -> Result<()> {
        let absent: Vec<Vec<u8>> = rows.columns.iter().map(|column| bits(&column.absent, &range)).collect();
        // Stacks and bytes become texts, behind those of the batch.
        let mut texts: Vec<String> = Vec::new();
        let made: Vec<Option<Vec<u32>>> =
            rows.columns.iter().map(|column| made(column, &range, strings, reader, &mut texts)).collect();
        let columns = rows.columns.iter().zip(&absent).zip(&made);
        let columns =
            columns.map(|((column, absent), made)| TableValues { cells: cells(column, &range, made.as_deref()), absent });
        let columns: Vec<TableValues<'_>> = columns.collect();
        let time = rows.time.get(range.clone()).unwrap_or_default();
        if texts.is_empty() {
            return append(self.table, TableRows { time, columns: &columns, strings });
        }
        let strings: Vec<&str> = strings.iter().copied().chain(texts.iter().map(String::as_str)).collect();
        append(self.table, TableRows { time, columns: &columns, strings: &strings })
    }
}

/// The texts of a column of stacks or bytes, as numbers; they are added to `texts`.
fn made(column: &Column, range: &Range<usize>, strings: &[&str], reader: &Reader, texts: &mut Vec<String>) -> Option<Vec<u32>> {
    if !matches!(column.values, Values::Bytes(_) | Values::Stack(_)) {
        return None;
    }
    let mut numbers = Vec::with_capacity(range.len());
    for row in range.clone() {
        numbers.push(u32::try_from(strings.len() + texts.len()).unwrap_or(u32::MAX));
        texts.push(line(&reader.cell(column, row, strings)));
    }
    Some(numbers)
}

/// A batch's column as one of the table, uncopied.
fn cells<'b>(column: &'b Column, range: &Range<usize>, made: Option<&'b [u32]>) -> Cells<'b> {
    match &column.values {
        Values::U64(values) => Cells::U64(values.get(range.clone()).unwrap_or_default()),
        Values::S64(values) => Cells::S64(values.get(range.clone()).unwrap_or_default()),
        Values::Text(numbers) => Cells::Text(numbers.get(range.clone()).unwrap_or_default()),
        Values::Bytes(_) | Values::Stack(_) => Cells::Text(made.unwrap_or_default()),
    }
}

/// The bits of a range of rows; none where none is set.
fn bits(bitmap: &[u8], range: &Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    if bitmap.iter().all(|byte| *byte == 0) {
        return out;
    }
    out.resize(range.len().div_ceil(8), 0);
    for (to, from) in range.clone().enumerate() {
        if is_set(bitmap, from)
            && let Some(byte) = out.get_mut(to >> 3)
        {
            *byte |= 1 << (to & 7);
        }
    }
    out
}

/// Bit `row` of a bitmap in which bytes may be missing at the end.
pub(crate) fn is_set(bitmap: &[u8], row: usize) -> bool {
    bitmap.get(row >> 3).is_some_and(|byte| byte >> (row & 7) & 1 == 1)
}

/// The kind of a table's column for what the schema has.
pub(crate) fn kind_of(kind: Kind) -> CellKind {
    match kind {
        Kind::U64 => CellKind::U64,
        Kind::S64 => CellKind::S64,
        Kind::Text | Kind::Bytes | Kind::Stack => CellKind::Text,
    }
}

/// A column's name in the table: as in the stream, but for those that every row has from the host.
pub(crate) fn column_name(field: &str) -> String {
    match field {
        "plugin" | "table" | "time" => format!("{field}_"),
        _ => field.to_owned(),
    }
}
