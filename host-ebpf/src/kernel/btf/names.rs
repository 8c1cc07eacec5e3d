//! From names to numbers: hash tables that hold no name, as the file has them all.

use super::scan::{File, Kind};

/// Entries 0 to n, found by the hash of their names. Chained, so that no choice of names makes it slow to build.
pub(super) struct Index {
    /// By the top bits of the hash: one more than the first entry of the chain; 0 is none.
    heads: Vec<u32>,
    /// One more than the next entry of each entry's chain.
    next: Vec<u32>,
}

impl Index {
    /// Of the hashes of the names; an entry without one can't be found.
    pub(super) fn new(names: impl DoubleEndedIterator<Item = Option<u64>> + ExactSizeIterator) -> Index {
        let slots = names.len().next_power_of_two().max(2);
        let mut heads = vec![0_u32; slots];
        let mut next = vec![0_u32; names.len()];
        // From the last to the first, so that chains ascend.
        for (i, name) in names.enumerate().rev() {
            let Some(name) = name else { continue };
            if let (Some(head), Some(next)) = (heads.get_mut(slot(name, slots)), next.get_mut(i)) {
                *next = std::mem::replace(head, i as u32 + 1);
            }
        }
        Index { heads, next }
    }

    /// The entries that may have that name, ascending; the caller compares.
    pub(super) fn find(&self, name: &[u8]) -> impl Iterator<Item = u32> {
        let first = self.heads.get(slot(hash(name), self.heads.len())).copied();
        let entry = |one_more: u32| one_more.checked_sub(1);
        let next = move |i: &u32| self.next.get(*i as usize).copied().and_then(entry);
        std::iter::successors(first.and_then(entry), next)
    }
}

/// Where constants of enums are, by name.
pub(super) struct ConstantIndex {
    /// The number of the enum, and which of its elements it is.
    places: Vec<(u32, u32)>,
    index: Index,
}

impl ConstantIndex {
    /// Of all enums of a file. `hash` is that of the name at an offset.
    pub(super) fn new(file: &File, hash: impl Fn(u32) -> Option<u64>) -> ConstantIndex {
        let (mut places, mut names) = (Vec::new(), Vec::new());
        for (number, found) in file.all() {
            let stride = match found.kind {
                Kind::Enum => 8,
                Kind::Enum64 => 12,
                _ => continue,
            };
            for i in 0..found.count {
                places.push((number, i as u32));
                names.push(hash(file.word(found.elements + stride * i).unwrap_or(0)));
            }
        }
        ConstantIndex { places, index: Index::new(names.into_iter()) }
    }

    /// The places that may have a constant of that name, ascending; the caller compares.
    pub(super) fn find(&self, name: &[u8]) -> impl Iterator<Item = (u32, u32)> {
        self.index.find(name).filter_map(|i| self.places.get(i as usize).copied())
    }
}

/// The hash of a name, which ends at a NUL byte or with the slice.
pub(super) fn hash(name: &[u8]) -> u64 {
    // 2^64 divided by the golden ratio: a multiplication moves what differs to the top bits.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut hash = 0_u64;
    let mut step = |word: u64| {
        hash = (hash ^ word).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
        hash
    };
    let (words, rest) = name.as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte that is NUL, and perhaps of some behind the first that is.
        let nul = word.wrapping_sub(LOW) & !word & HIGH;
        if nul != 0 {
            return step(word & ((1 << (nul.trailing_zeros() & !7)) - 1)).wrapping_mul(FACTOR);
        }
        step(word);
    }
    hash.wrapping_mul(FACTOR)
}

/// Which of `slots`, a power of two from 2, a hash belongs to.
fn slot(hash: u64, slots: usize) -> usize {
    (hash >> (64 - slots.trailing_zeros())) as usize
}
