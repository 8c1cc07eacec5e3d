//! What a slot holds: which streams have rows there, and which bitmaps.

use serde::{Deserialize, Serialize};

/// What a slot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Which slot.
    pub slot: u32,
    /// The streams that have rows, in the order of their first one.
    pub rows: Vec<RowsDescriptor>,
    /// Distinct texts.
    pub strings: u32,
}

/// What a slot holds of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsDescriptor {
    /// The stream's position in the schema.
    pub stream: u32,
    /// Its rows.
    pub rows: u32,
    /// Bit *i*: column *i* has a bitmap of absent values.
    pub absent: u32,
    /// Bit *i*: column *i* has a bitmap of values cut short.
    pub cut: u32,
}

impl Descriptor {
    /// All rows of the batch.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|rows| u64::from(rows.rows)).sum()
    }
}
