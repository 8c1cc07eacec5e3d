//! Fields that take more than a copy: bytes, stacks, and numbers that have names.

use portcullis_ebpf::{Naming, Slot};

use super::{put_u32, put_u64, texts::Texts};
use crate::{
    columns::{layout::Layout, slots},
    names::Names,
};

/// A field that takes more than a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestPlan {
    pub(super) field: u32,
    pub(super) what: Rest,
    /// Where the column begins.
    pub(super) to: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    Bytes {
        offset: u32,
        capacity: u32,
        /// Where they go, how many there is room for, and how many are there.
        data: usize,
        room: usize,
        used: usize,
    },
    Stack {
        offset: u32,
        depth: u32,
    },
    Named {
        naming: Naming,
        slot: Slot,
    },
}

/// Writes what takes more than a copy, and returns the bits of what is not there. Apart, so that records without such fields are not
/// slower for it.
#[inline(never)]
#[allow(clippy::too_many_arguments)]
pub(super) fn put_rest(
    fields: &mut [RestPlan],
    slot: &mut [u8],
    layout: &Layout,
    record: &[u8],
    row: usize,
    absent: u32,
    texts: &mut Texts,
    frames: &mut Vec<u64>,
    names: &mut Names,
) -> u32 {
    let mut missing = 0;
    for field in fields {
        let there = absent >> field.field & 1 == 0;
        let found = match &mut field.what {
            Rest::Bytes { offset, capacity, data, room, used } => {
                let bytes = there.then(|| slots::bytes(record, *offset, *capacity)).flatten().unwrap_or_default();
                // There is room for all: the caller asked.
                let bytes = &bytes[..bytes.len().min(*room - *used)];
                let start = *data + *used;
                slot[start..start + bytes.len()].copy_from_slice(bytes);
                *used += bytes.len();
                put_u32(slot, field.to + 4 * row, *used as u32);
                there
            }
            Rest::Stack { offset, depth } => {
                let pid = there.then(|| slots::stack(record, *offset, *depth, frames)).flatten();
                let number = pid.map(|pid| names.stack(pid, frames));
                put_u64(slot, field.to + 8 * row, number.unwrap_or(0));
                number.is_some()
            }
            Rest::Named { naming, slot: place } => {
                let value = there.then(|| slots::named(record, *place)).flatten();
                let number = match value {
                    Some(value) => texts.put_name(slot, layout, *naming, value, names),
                    None => texts.put(slot, layout, &[]),
                };
                put_u32(slot, field.to + 4 * row, number);
                value.is_some()
            }
        };
        missing |= u32::from(!found) << field.field;
    }
    missing
}
