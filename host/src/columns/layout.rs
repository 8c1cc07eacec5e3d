//! Where the columns of a schema stand in a slot.

use crate::contract::{Kind, Schema};

/// Slots per plugin: one that the plugin works on, one that waits for it, one that the host fills, and one to spare so that a
/// plugin that is slow for a moment stops nobody.
pub const SLOTS: usize = 4;

/// The size of a slot: address space. A page costs memory only once a row has been written to it; a batch of 4096 rows with ten
/// columns touches 350 KiB. The space lets every column of some 250 have its full length.
pub const SLOT_SIZE: usize = 16 << 20;

/// Rows in a batch at most. At 4096 the call and its allocations cost next to nothing a row, and a batch still fits into a
/// core's second-level cache.
pub const MAX_ROWS: usize = 4096;

/// Text in a batch, bytes, past which it is handed over although it is not full.
pub(super) const TEXT_ENOUGH: usize = 1 << 20;

/// What the columns of bytes of a batch share, to equal parts.
const BYTES_SIZE: usize = 4 << 20;

/// A cache line. Columns begin on one and leave one free behind them: columns whose distance is a power of two would all fall
/// into the same set of the cache.
const LINE: usize = 64;

/// Where everything stands in a slot, as byte offsets from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows that a batch can have, of all streams together: a multiple of 8.
    pub rows: usize,
    /// The streams of the schema.
    pub streams: Vec<StreamLayout>,
    /// `order`: one `u32` a row.
    pub order: usize,
    /// For each distinct text, one `u32`: where it ends in `text`.
    pub ends: usize,
    /// How many distinct texts there is room for.
    pub strings: usize,
    /// The texts, one behind the other, to the end of the slot.
    pub text: usize,
}

/// Where the columns of one stream stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLayout {
    /// One `u64` a row.
    pub time: usize,
    /// The fields.
    pub columns: Vec<ColumnLayout>,
}

/// Where one column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Its kind: text and bytes have one `u32` a row, the others one `u64`.
    pub kind: Kind,
    /// The values; of bytes, where each row's end in `data`.
    pub values: usize,
    /// Of bytes: the bytes of one row behind those of the other.
    pub data: usize,
    /// Of bytes: how many there is room for.
    pub room: usize,
    /// The bitmap of rows without a value.
    pub absent: usize,
    /// The bitmap of rows that were cut short.
    pub cut: usize,
}

/// A schema that has no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More columns than a slot has room for.
    #[error("the streams have {0} columns; that is more than a batch can hold. Emit fewer fields, or split the plugin")]
    TooManyColumns(usize),
    /// A field whose bytes of one event alone fill the room that there is for its column.
    #[error(
        "stream `{stream}`, field `{field}` has up to {capacity} bytes in one event, and a batch can hold {room}: keep fewer, or emit fewer fields of bytes"
    )]
    LongBytes {
        /// The stream.
        stream: String,
        /// The field.
        field: String,
        /// Its length at most.
        capacity: u32,
        /// What there is room for.
        room: usize,
    },
    /// A record whose texts alone fill a slot.
    #[error("stream `{stream}` has texts of {bytes} bytes in one event; that is more than a batch can hold")]
    LongText {
        /// The stream.
        stream: String,
        /// The sum of their lengths.
        bytes: usize,
    },
}

impl Layout {
    /// The layout of batches of these streams: as many rows as fit, up to [`MAX_ROWS`], in half of the slot, the other half
    /// being for texts.
    pub fn new(schema: &Schema) -> Result<Layout, LayoutError> {
        let mut rows = MAX_ROWS;
        while rows >= 8 {
            let layout = Layout::with_rows(schema, rows);
            if layout.text <= SLOT_SIZE / 2 {
                return Ok(layout);
            }
            rows /= 2;
        }
        Err(LayoutError::TooManyColumns(schema.streams.iter().map(|stream| stream.fields.len() + 1).sum()))
    }

    /// The size of the region for texts.
    pub fn text_size(&self) -> usize {
        SLOT_SIZE - self.text
    }

    fn with_rows(schema: &Schema, rows: usize) -> Layout {
        let mut end = 0;
        let mut region = |size: usize| {
            let start = end;
            end += size.next_multiple_of(LINE) + LINE;
            start
        };
        let order = region(4 * rows);
        let texts = |stream: &crate::contract::Stream| stream.fields.iter().filter(|field| field.kind == Kind::Text).count();
        // And the empty text, which stands for those that could not be read.
        let strings = rows * schema.streams.iter().map(texts).max().unwrap_or(0) + 1;
        let ends = region(4 * strings);
        let bytes = schema.streams.iter().flat_map(|stream| &stream.fields).filter(|field| field.kind == Kind::Bytes).count();
        let room = (BYTES_SIZE / bytes.max(1)) & !(LINE - 1);
        let streams = schema
            .streams
            .iter()
            .map(|stream| StreamLayout {
                time: region(8 * rows),
                columns: stream
                    .fields
                    .iter()
                    .map(|field| {
                        let room = if field.kind == Kind::Bytes { room } else { 0 };
                        ColumnLayout {
                            kind: field.kind,
                            values: region(if matches!(field.kind, Kind::Text | Kind::Bytes) { 4 * rows } else { 8 * rows }),
                            data: if room > 0 { region(room) } else { 0 },
                            room,
                            absent: region(rows / 8),
                            cut: region(rows / 8),
                        }
                    })
                    .collect(),
            })
            .collect();
        Layout { rows, streams, order, ends, strings, text: end }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{Field, Stream};

    fn schema(streams: usize, kinds: &[Kind]) -> Schema {
        let field = |kind| Field { name: "f".into(), kind, ctype: String::new() };
        let stream = Stream { name: "s".into(), fields: kinds.iter().copied().map(field).collect() };
        Schema { streams: vec![stream; streams], maps: Vec::new() }
    }

    /// No two regions overlap, and `u64` columns are aligned.
    #[test]
    fn regions_are_apart() {
        let cases = [
            (1, vec![]),
            (1, vec![Kind::U64, Kind::Text]),
            (2, vec![Kind::Bytes, Kind::U64, Kind::Bytes]),
            (300, vec![Kind::S64, Kind::Text, Kind::Stack]),
        ];
        for (streams, kinds) in cases {
            let layout = Layout::new(&schema(streams, &kinds)).unwrap();
            let rows = layout.rows;
            let mut regions =
                vec![(layout.order, 4 * rows), (layout.ends, 4 * layout.strings), (layout.text, layout.text_size())];
            for stream in &layout.streams {
                regions.push((stream.time, 8 * rows));
                for column in &stream.columns {
                    let width = if matches!(column.kind, Kind::Text | Kind::Bytes) { 4 } else { 8 };
                    regions.extend([(column.values, width * rows), (column.absent, rows / 8), (column.cut, rows / 8)]);
                    if column.kind == Kind::Bytes {
                        assert!(column.room >= BYTES_SIZE / 8);
                        regions.push((column.data, column.room));
                    }
                }
            }
            regions.sort_unstable();
            assert!(regions.iter().all(|(start, _)| start % 8 == 0));
            assert!(regions.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            assert!(regions.iter().all(|(start, size)| start + size <= SLOT_SIZE));
        }
    }

    /// A few columns leave room for a full batch, many for fewer rows, too many for none.
    #[test]
    fn rows_shrink_with_columns() {
        assert_eq!(Layout::new(&schema(1, &[Kind::U64; 32])).unwrap().rows, MAX_ROWS);
        assert_eq!(Layout::new(&schema(300, &[Kind::U64; 6])).unwrap().rows, 256);
        assert_eq!(Layout::new(&schema(2000, &[Kind::U64; 32])), Err(LayoutError::TooManyColumns(66_000)));
    }
}
