//! Maps as a whole, by bpf_for_each_map_elem() (Linux 5.13), which calls a function of the program for each element.
//!
//! What is done with a map is a function of the program as well, which the verifier follows once and by itself. Where the call of the
//! helper is part of a loop, it follows both ways, with elements and without, in each round, and gives up.

use std::collections::BTreeMap;

use aya_obj::generated::bpf_func_id::{BPF_FUNC_for_each_map_elem, BPF_FUNC_map_delete_elem};

use super::function::Generator;
use crate::{
    assemble::{Assembler, Label, R0, R1, R2, R3, R4},
    output::MapRef,
};

/// What can be done with a whole map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whole {
    Len,
    Clear,
}

impl Whole {
    const ALL: [Whole; 2] = [Whole::Len, Whole::Clear];

    /// What the function for a map, and what that for an element is called in listings.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Whole::Len => ("len", "count_element"),
            Whole::Clear => ("clear", "delete_element"),
        }
    }
}

/// The functions for maps that something has a use for, which all others of a program share.
#[derive(Clone, Debug, Default)]
pub(super) struct Wholes(BTreeMap<(Whole, usize), Label>);

impl Wholes {
    /// Puts the functions behind all others.
    pub(super) fn generate(self, asm: &mut Assembler) {
        for whole in Whole::ALL {
            let (of_map, of_element) = whole.names();
            let callback = asm.label();
            for ((_, map), label) in self.0.iter().filter(|((of, _), _)| *of == whole) {
                // What can't be reached asks for nothing.
                if !asm.is_wanted(*label) {
                    continue;
                }
                asm.global_function(*label, &format!("{of_map}_map{map}"));
                asm.map(R1, MapRef::Plugin(*map));
                asm.function_address(R2, callback);
                // No context, no flags.
                asm.set(R3, 0);
                asm.set(R4, 0);
                asm.call(BPF_FUNC_for_each_map_elem);
                // r0: how many elements it went through.
                asm.exit();
            }
            if asm.is_wanted(callback) {
                // long f(struct bpf_map *map, const void *key, void *value, void *ctx); 0 goes on to the next element.
                asm.function(callback, of_element);
                if whole == Whole::Clear {
                    // The map and the key are where this helper wants them.
                    asm.call(BPF_FUNC_map_delete_elem);
                }
                asm.set(R0, 0);
                asm.exit();
            }
        }
    }
}

impl Generator<'_> {
    /// r0, of [`Whole::Len`]: how many elements the map has.
    pub(super) fn whole_map(&mut self, whole: Whole, map: usize) {
        let function = *self.wholes.0.entry((whole, map)).or_insert_with(|| self.asm.label());
        self.asm.call_function(function);
        self.uses_wholes = true;
    }
}
