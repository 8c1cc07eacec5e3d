//! How the fields of one stream's records are read, and where their columns are.

use portcullis_ebpf::{Naming, Slot, Stream, record};

use super::{
    rest::{Rest, RestPlan},
    take,
};
use crate::columns::layout::StreamLayout;

/// How to read one stream's records, and what the batch has of it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) size: usize,
    pub(super) time: usize,
    pub(super) ints: Vec<IntPlan>,
    pub(super) texts: Vec<TextPlan>,
    /// The fields of all other kinds.
    pub(super) rest: Vec<RestPlan>,
    /// Of every field, where its bitmaps are.
    pub(super) bitmaps: Vec<(usize, usize)>,
    /// Position in the batch, once it has a row there.
    pub(super) position: u32,
    pub(super) rows: usize,
    pub(super) absent: u32,
    pub(super) cut: u32,
}

/// An integer of any width. The eight bytes that end with it are read and the other bytes are shifted out, which takes no branch
/// and stays within the record, since the header stands before every field.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntPlan {
    pub(super) field: u32,
    /// Where the eight bytes begin.
    from: usize,
    /// Bits of them that are not the integer's.
    shift: u32,
    signed: bool,
    /// Where the column begins.
    pub(super) to: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TextPlan {
    pub(super) field: u32,
    pub(super) from: usize,
    pub(super) capacity: usize,
    pub(super) to: usize,
}

impl Plan {
    pub(super) fn new(stream: &Stream, layout: &StreamLayout) -> Plan {
        let (mut ints, mut texts, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        // The compiler says how long a record is; what it says of the fields has to agree.
        let mut size = stream.size.max(record::HEADER) as usize;
        for (at, (field, column)) in stream.fields.iter().zip(&layout.columns).take(record::MAX_FIELDS).enumerate() {
            let (field_number, to) = (at as u32, column.values);
            let mut other = |what| rest.push(RestPlan { field: field_number, what, to });
            match field.slot {
                slot if field.naming != Naming::Plain => {
                    other(Rest::Named { naming: field.naming, slot });
                    size = size.max((start(slot) + slot.size()) as usize);
                }
                Slot::Int { offset, size: bytes, signed } => {
                    let bytes = u32::from(bytes).clamp(1, 8);
                    let from = (offset + bytes).saturating_sub(8) as usize;
                    size = size.max(from + 8);
                    ints.push(IntPlan { field: field_number, from, shift: 64 - 8 * bytes, signed, to });
                }
                Slot::Text { offset, capacity } => {
                    let (from, capacity) = (offset as usize, capacity as usize);
                    size = size.max(from + capacity);
                    texts.push(TextPlan { field: field_number, from, capacity, to });
                }
                Slot::Bytes { offset, capacity } => {
                    other(Rest::Bytes { offset, capacity, data: column.data, room: column.room, used: 0 });
                    size = size.max((offset + field.slot.size()) as usize);
                }
                Slot::Stack { offset, depth } => {
                    other(Rest::Stack { offset, depth });
                    size = size.max((offset + field.slot.size()) as usize);
                }
            }
        }
        let bitmaps = layout.columns.iter().take(record::MAX_FIELDS).map(|column| (column.absent, column.cut)).collect();
        Plan { size, time: layout.time, ints, texts, rest, bitmaps, position: 0, rows: 0, absent: 0, cut: 0 }
    }
}

/// Where a slot begins.
fn start(slot: Slot) -> u32 {
    match slot {
        Slot::Int { offset, .. } | Slot::Text { offset, .. } | Slot::Bytes { offset, .. } | Slot::Stack { offset, .. } => offset,
    }
}

impl IntPlan {
    #[inline]
    pub(super) fn read(&self, record: &[u8]) -> u64 {
        // eBPF and this host are little-endian.
        let bytes = u64::from_le_bytes(take(record, self.from));
        if self.signed { ((bytes as i64) >> self.shift) as u64 } else { bytes >> self.shift }
    }
}
