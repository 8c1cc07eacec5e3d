//! The distinct texts of a batch.

use hashbrown::HashMap;
use portcullis_ebpf::Naming;

use super::put_u32;
use crate::{
    columns::{
        dictionary::{Dictionary, Interned},
        escape::{as_is, escape},
        layout::Layout,
    },
    names::{Names, Value},
};

/// The distinct texts of a batch.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) dictionary: Dictionary,
    /// Where the next one goes, from the start of the texts.
    pub(super) end: usize,
    /// Of the values that have names, the numbers of those.
    named: HashMap<(Naming, Value), u32>,
    /// For escaping.
    scratch: String,
}

impl Texts {
    /// The number of a text, which ends at its first NUL byte; a new one is written, and there is room for it.
    #[inline]
    pub(super) fn put(&mut self, slot: &mut [u8], layout: &Layout, text: &[u8]) -> u32 {
        match self.dictionary.intern(text) {
            Interned::Known(number) => number,
            Interned::New(number, text) => {
                let text = as_is(text).unwrap_or_else(|| {
                    self.scratch.clear();
                    escape(text, &mut self.scratch);
                    &self.scratch
                });
                let start = layout.text + self.end;
                slot[start..start + text.len()].copy_from_slice(text.as_bytes());
                self.end += text.len();
                put_u32(slot, layout.ends + 4 * number as usize, self.end as u32);
                number
            }
        }
    }

    /// The number of a value's name.
    pub(super) fn put_name(&mut self, slot: &mut [u8], layout: &Layout, naming: Naming, value: Value, names: &mut Names) -> u32 {
        if let Some(known) = self.named.get(&(naming, value)) {
            return *known;
        }
        let number = self.put(slot, layout, names.name(naming, value).as_bytes());
        self.named.insert((naming, value), number);
        number
    }

    pub(super) fn clear(&mut self) {
        self.dictionary.clear();
        self.named.clear();
        self.end = 0;
    }
}
