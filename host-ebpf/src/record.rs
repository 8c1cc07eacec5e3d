//! Streams and the layout of their records in the ring: what programs write and the host reads.
//!
//! A record is a header and the stream's fields at fixed offsets; every record of a stream has the same size. Numbers are in the
//! machine's byte order.

/// Header: when the event happened, `u64`, CLOCK_MONOTONIC.
pub const TIME: u32 = 0;
/// Header: the stream's position in [`crate::Compiled::streams`], `u32`.
pub const STREAM: u32 = 8;
/// Header: bit *i* says that field *i* could not be read, `u32`.
pub const ABSENT: u32 = 12;
/// Header: bit *i* says that the text of field *i* was longer than what is kept, `u32`.
pub const CUT: u32 = 16;
/// The size of the header, with 4 bytes that mean nothing.
pub const HEADER: u32 = 24;
/// How many fields a stream can have: the bits of [`ABSENT`].
pub const MAX_FIELDS: usize = 32;

/// All `emit` statements of a plugin with one stream name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// As in `emit NAME { ... }`.
    pub name: String,
    /// The columns, in the order of the first `emit`.
    pub fields: Vec<Field>,
    /// The size of each record, a multiple of 8.
    pub size: u32,
}

/// One column of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type as C has it, for people.
    pub ctype: String,
    /// Where it stands in the record.
    pub slot: Slot,
}

/// Where a field stands in the record and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An integer of 1, 2, 4 or 8 bytes, aligned to its size.
    Int {
        /// From the record's first byte.
        offset: u32,
        /// In bytes.
        size: u8,
        /// Sign-extended when widened.
        signed: bool,
    },
    /// Text that ends before the first NUL byte or after `capacity` bytes, whichever comes first.
    Text {
        /// From the record's first byte.
        offset: u32,
        /// How many bytes of text are kept at most; that many bytes of the record may be read.
        capacity: u32,
    },
}

/// The kind of column that a field becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Unsigned integers.
    U64,
    /// Signed integers.
    S64,
    /// Text.
    Text,
}

impl Field {
    /// The kind of column that it becomes.
    pub fn kind(&self) -> FieldKind {
        match self.slot {
            Slot::Int { signed: false, .. } => FieldKind::U64,
            Slot::Int { signed: true, .. } => FieldKind::S64,
            Slot::Text { .. } => FieldKind::Text,
        }
    }
}
