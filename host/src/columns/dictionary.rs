//! The distinct texts of a batch, by number.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Numbers for byte strings, in the order in which they were first seen.
///
/// The bytes are kept as they were, beside the escaped text in the slot: that is what the next record is compared with.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    table: HashTable<Entry>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    start: u32,
    len: u32,
    number: u32,
}

/// What [`Dictionary::intern`] found.
pub(super) enum Interned {
    /// The text has this number.
    Known(u32),
    /// The text was new and has this number now.
    New(u32),
}

impl Dictionary {
    pub(super) fn intern(&mut self, text: &[u8]) -> Interned {
        let hash = self.hasher.hash_one(text);
        let bytes = &self.bytes;
        let same = |entry: &Entry| entry.hash == hash && bytes[entry.start as usize..][..entry.len as usize] == *text;
        if let Some(entry) = self.table.find(hash, same) {
            return Interned::Known(entry.number);
        }
        let entry = Entry { hash, start: self.bytes.len() as u32, len: text.len() as u32, number: self.count };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        self.bytes.extend_from_slice(text);
        self.count += 1;
        Interned::New(entry.number)
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.bytes.clear();
        self.count = 0;
    }
}
