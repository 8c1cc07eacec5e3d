//! What stands in a slot of a record, a key or a value, apart from plain integers and text. Nothing here believes the bytes: what
//! reaches past them is not there.

use portcullis_ebpf::{Slot, record::LENGTH_HEADER};

use crate::names::Value;

const HEADER: usize = LENGTH_HEADER as usize;

/// `N` bytes of `bytes` from `at`.
fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// An integer, widened to 64 bits.
pub(super) fn integer(bytes: &[u8], offset: u32, size: u8, signed: bool) -> Option<u64> {
    let at = offset as usize;
    let (value, bits) = match size {
        1 => (u64::from(*bytes.get(at)?), 8),
        2 => (u64::from(u16::from_ne_bytes(take(bytes, at)?)), 16),
        4 => (u64::from(u32::from_ne_bytes(take(bytes, at)?)), 32),
        _ => (u64::from_ne_bytes(take(bytes, at)?), 64),
    };
    Some(if signed { ((value << (64 - bits)).cast_signed() >> (64 - bits)).cast_unsigned() } else { value })
}

/// The bytes of a [`Slot::Bytes`].
pub(super) fn bytes(bytes: &[u8], offset: u32, capacity: u32) -> Option<&[u8]> {
    let at = offset as usize;
    let length = u32::from_ne_bytes(take(bytes, at)?).min(capacity) as usize;
    bytes.get(at + HEADER..at + HEADER + length)
}

/// The text of a [`Slot::Text`], with what may stand behind its first NUL byte.
pub(super) fn text(bytes: &[u8], offset: u32, capacity: u32) -> Option<&[u8]> {
    bytes.get(offset as usize..offset as usize + capacity as usize)
}

/// The frames of a [`Slot::Stack`], into `frames`, and the process; `None` where no stack was to be had.
pub(super) fn stack(bytes: &[u8], offset: u32, depth: u32, frames: &mut Vec<u64>) -> Option<u32> {
    let at = offset as usize;
    let length = usize::try_from(i32::from_ne_bytes(take(bytes, at)?)).ok()?;
    let pid = u32::from_ne_bytes(take(bytes, at + 4)?);
    let count = (length / 8).min(depth as usize);
    let words = bytes.get(at + HEADER..at + HEADER + 8 * count)?;
    frames.clear();
    frames.extend(words.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)));
    Some(pid)
}

/// The value in a slot whose field has a name.
pub(super) fn named(from: &[u8], slot: Slot) -> Option<Value> {
    match slot {
        Slot::Int { offset, size, signed } => integer(from, offset, size, signed).map(Value::Int),
        Slot::Bytes { offset, capacity } => bytes(from, offset, capacity).map(Value::of_bytes),
        Slot::Stack { offset, depth } => {
            let mut frames = Vec::new();
            let pid = stack(from, offset, depth, &mut frames)?;
            frames.first().map(|&address| Value::User { pid, address })
        }
        Slot::Text { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths that reach past the slot are cut to it, and slots past the bytes are not there.
    #[test]
    fn nothing_is_believed() {
        let mut frames = vec![9];
        let mut slot = [0xff_u8; 32];
        slot[..4].copy_from_slice(&1000_u32.to_ne_bytes());
        assert_eq!(bytes(&slot, 0, 8).map(<[u8]>::len), Some(8));
        assert_eq!(bytes(&slot, 0, 100), None);
        assert_eq!(bytes(&slot, 30, 8), None);
        assert_eq!(stack(&slot, 0, 3, &mut frames), Some(u32::MAX));
        assert_eq!(frames, [u64::MAX; 3]);
        assert_eq!(stack(&slot, 0, 127, &mut frames), None);
        slot[..4].copy_from_slice(&(-14_i32).to_ne_bytes());
        assert_eq!(stack(&slot, 0, 3, &mut frames), None);
        assert_eq!(named(&slot, Slot::Stack { offset: 0, depth: 1 }), None);
        assert_eq!(integer(&[0xfe, 0xff], 0, 2, true), Some(-2_i64 as u64));
        assert_eq!(integer(&[0xfe, 0xff], 0, 2, false), Some(0xfffe));
        assert_eq!(integer(&[0xfe, 0xff], 1, 2, false), None);
        assert_eq!(text(&[0; 4], 1, 4), None);
    }
}
