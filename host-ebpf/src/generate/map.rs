//! Maps: keys, and elements that are values.

use aya_obj::generated::{
    BPF_ANY, BPF_NOEXIST,
    bpf_func_id::{BPF_FUNC_map_delete_elem, BPF_FUNC_map_lookup_elem, BPF_FUNC_map_update_elem},
};

use super::{function::Generator, room::Spot};
use crate::{
    assemble::{Alu, Cond, FP, R0, R1, R2, R3, R4, Width},
    check::ir::{Key, KeyPart, Text, Value, text_room},
    counters::Counter,
    output::{MapKind, MapRef, PluginMap},
    record::Slot,
    syntax::ast::BinaryOp,
};

impl<'a> Generator<'a> {
    pub(super) fn plugin_map(&self, map: usize) -> &'a PluginMap {
        &self.context.maps[map]
    }

    /// Builds a key, without the bucket, in room that is given back as `key_size`.
    pub(super) fn build_key(&mut self, map: usize, key: &Key) -> Spot {
        let of = self.plugin_map(map);
        let spot = self.room(of.key_size);
        if of.keys.is_empty() {
            self.asm.set(R0, 0);
            self.put(Width::W4, spot);
        }
        for (part, field) in key.iter().zip(&of.keys) {
            match (part, field.slot) {
                (KeyPart::Int(value), Slot::Int { offset, .. }) => {
                    self.value(value);
                    self.put(Width::W8, spot.at(offset));
                }
                (KeyPart::Text(text), Slot::Text { offset, capacity }) => {
                    self.put_text(text, spot.at(offset), capacity, true, None);
                }
                (KeyPart::Bytes(bytes), Slot::Bytes { offset, capacity }) => {
                    self.put_bytes(bytes, spot.at(offset), capacity, None);
                }
                (KeyPart::Stack(stack), Slot::Stack { offset, depth }) => self.put_stack(stack, spot.at(offset), depth),
                // The checker gave the part the slot of its kind.
                _ => {}
            }
        }
        spot
    }

    /// r0: the address of the element's value, or null.
    pub(super) fn lookup_key(&mut self, map: usize, key: Spot) {
        self.address(R2, key);
        self.asm.map(R1, MapRef::Plugin(map));
        self.asm.call(BPF_FUNC_map_lookup_elem);
    }

    /// The same of a key that is yet to be built.
    pub(super) fn find(&mut self, map: usize, key: &Key) {
        let size = self.plugin_map(map).key_size;
        let spot = self.build_key(map, key);
        self.lookup_key(map, spot);
        self.give_back(size);
    }

    /// The map has one element, whose address is known.
    fn single(&self, map: usize) -> bool {
        self.plugin_map(map).kind == MapKind::Array
    }

    /// r0: the element's value, or 0.
    pub(super) fn element(&mut self, map: usize, key: &Key) {
        if self.single(map) {
            self.asm.map_value(R1, MapRef::Plugin(map), 0);
            self.asm.load(Width::W8, R0, R1, 0);
            return;
        }
        let none = self.asm.label();
        self.find(map, key);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, none);
        self.asm.load(Width::W8, R0, R0, 0);
        self.asm.place(none);
    }

    /// r0: 1 or 0. A map without keys has its element always.
    pub(super) fn has_key(&mut self, map: usize, key: &Key) {
        let none = self.asm.label();
        self.find(map, key);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, none);
        self.asm.set(R0, 1);
        self.asm.place(none);
    }

    pub(super) fn set_element(&mut self, map: usize, key: &Key, value: &Value) {
        self.value(value);
        if self.single(map) {
            self.asm.map_value(R1, MapRef::Plugin(map), 0);
            self.asm.store(Width::W8, R1, 0, R0);
            return;
        }
        let slot = self.allocate(8);
        self.asm.store(Width::W8, FP, slot, R0);
        let size = self.plugin_map(map).key_size;
        let spot = self.build_key(map, key);
        self.update(map, spot, Spot::stack(slot));
        self.give_back(size);
        self.release(8);
    }

    pub(super) fn set_text_element(&mut self, map: usize, key: &Key, text: &Text) {
        let Slot::Text { capacity, .. } = self.plugin_map(map).value.slot else { return };
        let room = text_room(capacity);
        let value = self.allocate(room);
        self.put_text(text, Spot::stack(value), capacity, true, None);
        if self.single(map) {
            self.asm.map_value(R3, MapRef::Plugin(map), 0);
            for at in (0..room as i16).step_by(8) {
                self.asm.load(Width::W8, R1, FP, value + at);
                self.asm.store(Width::W8, R3, at, R1);
            }
        } else {
            let size = self.plugin_map(map).key_size;
            let spot = self.build_key(map, key);
            self.update(map, spot, Spot::stack(value));
            self.give_back(size);
        }
        self.release(room);
    }

    fn update(&mut self, map: usize, key: Spot, value: Spot) {
        let done = self.asm.label();
        self.address(R2, key);
        self.address(R3, value);
        self.asm.map(R1, MapRef::Plugin(map));
        self.asm.set(R4, BPF_ANY.into());
        self.asm.call(BPF_FUNC_map_update_elem);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, done);
        self.bump(Counter::MapFull);
        self.asm.place(done);
    }

    /// Adds in one indivisible step: no update of another CPU is lost.
    pub(super) fn add_to_element(&mut self, map: usize, key: &Key, value: &Value) {
        self.value(value);
        if self.single(map) {
            self.asm.map_value(R1, MapRef::Plugin(map), 0);
            self.asm.atomic_add(R1, 0, R0);
            return;
        }
        let slot = self.allocate(8);
        self.asm.store(Width::W8, FP, slot, R0);
        let size = self.plugin_map(map).key_size;
        let spot = self.build_key(map, key);
        let full = self.asm.label();
        self.find_or_insert(map, spot, full);
        self.asm.load(Width::W8, R1, FP, slot);
        self.asm.atomic_add(R0, 0, R1);
        self.end_of_insert(full);
        self.give_back(size);
        self.release(8);
    }

    /// Replaces the value by what the operator makes of it, 0 where there is none yet.
    pub(super) fn change_element(&mut self, map: usize, key: &Key, (op, signed): (BinaryOp, bool), value: &Value) {
        self.value(value);
        let slot = self.allocate(8);
        self.asm.store(Width::W8, FP, slot, R0);
        let size = self.plugin_map(map).key_size;
        let spot = self.build_key(map, key);
        self.lookup_key(map, spot);
        let none = self.asm.label();
        self.asm.jump_if_imm(Cond::Eq, R0, 0, none);
        self.asm.load(Width::W8, R0, R0, 0);
        self.asm.place(none);
        self.asm.load(Width::W8, R1, FP, slot);
        self.arithmetic(op, signed, value);
        self.asm.store(Width::W8, FP, slot, R0);
        self.update(map, spot, Spot::stack(slot));
        self.give_back(size);
        self.release(8);
    }

    /// r0: the address of the element's value, which is all zero if it was not there; where there was no room, jumps to `full`.
    pub(super) fn find_or_insert(&mut self, map: usize, key: Spot, full: crate::assemble::Label) {
        let of = self.plugin_map(map);
        self.lookup_key(map, key);
        if matches!(of.kind, MapKind::Array | MapKind::PerCpuArray) {
            self.asm.jump_if_imm(Cond::Eq, R0, 0, full);
            return;
        }
        let there = self.asm.label();
        self.asm.jump_if_imm(Cond::Ne, R0, 0, there);
        let zeroes = self.allocate(of.value_size);
        self.zero(Spot::stack(zeroes), 0, of.value_size);
        self.address(R2, key);
        self.stack_address(R3, zeroes);
        self.asm.map(R1, MapRef::Plugin(map));
        // Another run may have put it there meanwhile, and added to it.
        self.asm.set(R4, BPF_NOEXIST.into());
        self.asm.call(BPF_FUNC_map_update_elem);
        self.release(of.value_size);
        self.lookup_key(map, key);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, full);
        self.asm.place(there);
    }

    /// Where [`Generator::find_or_insert`] goes when there is no room.
    pub(super) fn end_of_insert(&mut self, full: crate::assemble::Label) {
        let done = self.asm.label();
        self.asm.jump(done);
        self.asm.place(full);
        self.bump(Counter::MapFull);
        self.asm.place(done);
    }

    pub(super) fn delete_element(&mut self, map: usize, key: &Key) {
        let of = self.plugin_map(map);
        if self.single(map) {
            self.asm.map_value(R3, MapRef::Plugin(map), 0);
            self.asm.set(R1, 0);
            for at in (0..of.value_size as i16).step_by(8) {
                self.asm.store(Width::W8, R3, at, R1);
            }
            return;
        }
        let spot = self.build_key(map, key);
        let Some((Slot::Int { offset, .. }, buckets)) = of.bucket.zip(of.content.buckets()) else {
            self.delete_key(map, spot);
            self.give_back(of.key_size);
            return;
        };
        // One element after the other, whichever are there.
        let bucket = self.allocate(8);
        let (top, end) = (self.asm.label(), self.asm.label());
        self.asm.set(R0, 0);
        self.asm.store(Width::W8, FP, bucket, R0);
        self.asm.place(top);
        self.asm.load(Width::W8, R0, FP, bucket);
        self.asm.jump_if_imm(Cond::Ge, R0, buckets as i32, end);
        self.put(Width::W8, spot.at(offset));
        self.asm.alu_imm(Alu::Add, R0, 1);
        self.asm.store(Width::W8, FP, bucket, R0);
        self.delete_key(map, spot);
        self.asm.jump(top);
        self.asm.place(end);
        self.release(8);
        self.give_back(of.key_size);
    }

    fn delete_key(&mut self, map: usize, key: Spot) {
        self.address(R2, key);
        self.asm.map(R1, MapRef::Plugin(map));
        self.asm.call(BPF_FUNC_map_delete_elem);
    }
}
