//! Streams that are shown as they are.

use std::ops::Range;

use portcullis_sdk::{
    CellKind, Cells, Column, Error, Kind, RawRows, Result, SchemaField, SchemaStream, TableColumn, TableNumber, TableRows,
    TableValues, Tables, Unit, Values, append,
};

/// A stream and its table.
pub(crate) struct StreamTable {
    stream: String,
    table: TableNumber,
    /// `END` emits to it.
    pub(crate) end: bool,
}

impl StreamTable {
    pub(crate) fn new(stream: &SchemaStream, end: bool, tables: &mut Tables) -> Result<StreamTable> {
        let columns = stream.fields.iter().map(|field| declaration(stream, field)).collect::<Result<_>>()?;
        Ok(StreamTable { stream: stream.name.clone(), table: tables.declare(&stream.name, columns), end })
    }

    /// Shows a range of rows.
    pub(crate) fn append(&self, rows: &RawRows, range: Range<usize>, strings: &[&str]) -> Result<()> {
        let absent: Vec<Vec<u8>> = rows.columns.iter().map(|column| bits(&column.absent, &range)).collect();
        let columns = rows.columns.iter().zip(&absent);
        let columns = columns.map(|(column, absent)| self.values(column, &range, absent)).collect::<Result<Vec<_>>>()?;
        append(self.table, TableRows { time: rows.time.get(range).unwrap_or_default(), columns: &columns, strings })
    }

    /// A batch's column as one of the table, uncopied.
    fn values<'b>(&self, column: &'b Column, range: &Range<usize>, absent: &'b [u8]) -> Result<TableValues<'b>> {
        let cells = match &column.values {
            Values::U64(values) => Cells::U64(values.get(range.clone()).unwrap_or_default()),
            Values::S64(values) => Cells::S64(values.get(range.clone()).unwrap_or_default()),
            Values::Text(numbers) => Cells::Text(numbers.get(range.clone()).unwrap_or_default()),
            Values::Bytes(_) | Values::Stack(_) => {
                let stream = &self.stream;
                return Err(Error::new(format!("stream `{stream}`: a batch has a column of another kind than the schema says")));
            }
        };
        Ok(TableValues { cells, absent })
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

/// The table's column for a stream's.
fn declaration(stream: &SchemaStream, field: &SchemaField) -> Result<TableColumn> {
    let kind = match field.kind {
        Kind::U64 => CellKind::U64,
        Kind::S64 => CellKind::S64,
        Kind::Text => CellKind::Text,
        Kind::Bytes | Kind::Stack => {
            let (stream, column, kind) = (&stream.name, &field.name, field.kind.name());
            return Err(Error::new(format!(
                "stream `{stream}`, column `{column}`: a table shows numbers and text, and this is of kind {kind}; leave it out of the `emit`"
            )));
        }
    };
    Ok(TableColumn { name: column_name(&field.name), kind, unit: Unit::None })
}

/// A column's name in the table: as in the stream, but for those that every row has from the host.
fn column_name(field: &str) -> String {
    match field {
        "plugin" | "table" | "time" => format!("{field}_"),
        _ => field.to_owned(),
    }
}
