//! The distinct texts of a batch, by number.
//!
//! Most texts are names of tasks: at most 16 bytes. Those are compared and hashed as one 128-bit number, which is three times faster
//! than finding their end, hashing and comparing bytes.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts up to this length are numbers.
const SHORT: usize = 16;

/// Numbers for byte strings, in the order in which they were first seen.
///
/// The bytes are kept as they were, beside the escaped text in the slot: that is what the next record is compared with.
#[derive(Debug)]
pub(super) struct Dictionary {
    short: HashTable<(u128, u32)>,
    /// What traced programs can't know, so that they can't make texts collide.
    seed: (u64, u64),
    long: HashTable<Long>,
    hasher: DefaultHashBuilder,
    /// The long texts, one behind the other.
    bytes: Vec<u8>,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Long {
    hash: u64,
    start: u32,
    len: u32,
    number: u32,
}

/// What [`Dictionary::intern`] found.
pub(super) enum Interned<'a> {
    /// The text has this number.
    Known(u32),
    /// The text, up to its first NUL byte, was new and has this number now.
    New(u32, &'a [u8]),
}

/// The bytes before the first NUL of these 16, as a number and how many they are.
fn until_nul(bytes: [u8; SHORT]) -> (u128, usize) {
    const ONES: u128 = u128::from_le_bytes([0x01; SHORT]);
    const TOPS: u128 = u128::from_le_bytes([0x80; SHORT]);
    let word = u128::from_le_bytes(bytes);
    // The lowest top bit that is set stands in the lowest byte that is zero (Hacker's Delight, 6-1).
    let zeros = word.wrapping_sub(ONES) & !word & TOPS;
    if zeros == 0 {
        return (word, SHORT);
    }
    let len = zeros.trailing_zeros() / 8;
    (word & !(u128::MAX << (8 * len)), len as usize)
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        let hasher = DefaultHashBuilder::default();
        let seed = (hasher.hash_one(0u64), hasher.hash_one(1u64));
        Dictionary { short: HashTable::new(), seed, long: HashTable::new(), hasher, bytes: Vec::new(), count: 0 }
    }
}

impl Dictionary {
    /// The number of the text that `field` begins with: up to its first NUL byte or its end.
    #[inline]
    pub(super) fn intern<'a>(&mut self, field: &'a [u8]) -> Interned<'a> {
        let head = match field.first_chunk::<SHORT>() {
            Some(head) => *head,
            None => {
                let mut head = [0; SHORT];
                head[..field.len()].copy_from_slice(field);
                head
            }
        };
        let (word, len) = until_nul(head);
        if len == SHORT && field.len() > SHORT && field[SHORT] != 0 {
            return self.intern_long(field);
        }
        let hash = self.hash_short(word);
        if let Some((_, number)) = self.short.find(hash, |(known, _)| *known == word) {
            return Interned::Known(*number);
        }
        self.insert_short(hash, word);
        Interned::New(self.count - 1, &field[..len])
    }

    fn hash_short(&self, word: u128) -> u64 {
        let product = u128::from(word as u64 ^ self.seed.0) * u128::from((word >> 64) as u64 ^ self.seed.1);
        (product as u64) ^ (product >> 64) as u64
    }

    #[cold]
    fn insert_short(&mut self, hash: u64, word: u128) {
        let mut short = std::mem::take(&mut self.short);
        short.insert_unique(hash, (word, self.count), |(word, _)| self.hash_short(*word));
        self.short = short;
        self.count += 1;
    }

    fn intern_long<'a>(&mut self, field: &'a [u8]) -> Interned<'a> {
        let text = std::ffi::CStr::from_bytes_until_nul(field).map_or(field, std::ffi::CStr::to_bytes);
        let hash = self.hasher.hash_one(text);
        let bytes = &self.bytes;
        let same = |known: &Long| known.hash == hash && bytes[known.start as usize..][..known.len as usize] == *text;
        if let Some(known) = self.long.find(hash, same) {
            return Interned::Known(known.number);
        }
        let long = Long { hash, start: self.bytes.len() as u32, len: text.len() as u32, number: self.count };
        self.long.insert_unique(hash, long, |known| known.hash);
        self.bytes.extend_from_slice(text);
        self.count += 1;
        Interned::New(long.number, text)
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    pub(super) fn clear(&mut self) {
        self.short.clear();
        self.long.clear();
        self.bytes.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of every length around the limit are told apart, and what stands behind the NUL does not matter.
    #[test]
    fn numbers() {
        let mut dictionary = Dictionary::default();
        let mut next = 0;
        for len in 0..40 {
            for last in [b'a', 0x80, 0xff, 1] {
                let mut text = vec![b'x'; len];
                let Some(end) = text.last_mut() else { continue };
                *end = last;
                for capacity in [len, len + 1, 64] {
                    for behind in [0, 1, 0xff] {
                        let mut field = text.clone();
                        field.resize(capacity, behind);
                        if capacity > len {
                            field[len] = 0;
                        }
                        match dictionary.intern(&field) {
                            Interned::New(number, new) => {
                                assert_eq!((number, new), (next, &text[..]));
                                next += 1;
                            }
                            Interned::Known(number) => assert_eq!(number, next - 1),
                        }
                    }
                }
            }
        }
        assert_eq!((next, dictionary.len()), (39 * 4, 39 * 4));
        assert!(matches!(dictionary.intern(b""), Interned::New(156, b"")));
        assert!(matches!(dictionary.intern(b"\0abc"), Interned::Known(156)));
        dictionary.clear();
        assert!(matches!(dictionary.intern(b"xxxa"), Interned::New(0, _)));
    }
}
