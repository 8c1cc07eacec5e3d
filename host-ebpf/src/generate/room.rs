//! Where values are put that are no mere integers: the stack, the record that is being written, or, for what is larger than the stack
//! allows, the scratch map.
//!
//! The scratch map is per CPU. A run claims one of its values by the first word and gives it back at its end; a run that interrupts it
//! on the same CPU takes the next. There are as many as contexts of the kernel that can interrupt each other: task, soft interrupt,
//! interrupt, NMI. Where programs can be preempted, more runs can be under way on a CPU; one that finds no value counts `map_full` and
//! records nothing.

use aya_obj::generated::bpf_func_id::BPF_FUNC_map_lookup_elem;

use super::function::Generator;
use crate::{
    assemble::{Alu, Cond, FP, R0, R1, R2, R7, Reg, Width},
    counters::Counter,
    output::MapRef,
};

/// How many values the scratch map has on each CPU.
pub(crate) const SCRATCH_LEVELS: u32 = 4;
/// What stands before the room in a scratch value: whether it is claimed.
pub(crate) const SCRATCH_HEADER: u32 = 8;
/// How many bytes a function can have of it: per-CPU values have 32 KiB at most (`PCPU_MIN_UNIT_SIZE`, include/linux/percpu.h).
pub(crate) const SCRATCH: u32 = 32_000;
/// What is larger is not put on the stack, which has 512 bytes.
pub(super) const ON_STACK: u32 = 160;

/// A place to put values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    base: Base,
    offset: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Stack,
    Record,
    Scratch,
}

impl Spot {
    pub(super) fn stack(offset: i16) -> Spot {
        Spot { base: Base::Stack, offset }
    }

    /// It is on the stack.
    pub(super) fn is_on_stack(self) -> bool {
        self.base == Base::Stack
    }

    /// In the record that r7 points to.
    pub(super) fn record(offset: u32) -> Spot {
        Spot { base: Base::Record, offset: offset as i16 }
    }

    /// From where the stack, the record or the scratch map's value begins.
    pub(super) fn offset(self) -> i16 {
        self.offset
    }

    /// So many bytes further.
    pub(super) fn at(self, offset: u32) -> Spot {
        Spot { offset: self.offset.wrapping_add(offset as i16), ..self }
    }
}

impl Generator<'_> {
    /// Room for a value of that size.
    pub(super) fn room(&mut self, bytes: u32) -> Spot {
        if bytes <= ON_STACK {
            return Spot::stack(self.allocate(bytes));
        }
        self.scratch_room(bytes)
    }

    /// The same in the scratch map, whatever the size.
    pub(super) fn scratch_room(&mut self, bytes: u32) -> Spot {
        // Past the limit the offset means nothing; `generate` refuses the function.
        let offset = SCRATCH_HEADER + self.scratch_used.min(SCRATCH);
        self.scratch_used = self.scratch_used.saturating_add(bytes.next_multiple_of(8));
        self.scratch_most = self.scratch_most.max(self.scratch_used);
        Spot { base: Base::Scratch, offset: offset as i16 }
    }

    /// Gives back what was given last.
    pub(super) fn give_back(&mut self, bytes: u32) {
        if bytes <= ON_STACK {
            self.release(bytes);
        } else {
            self.scratch_used -= bytes.next_multiple_of(8);
        }
    }

    /// A register and an offset by which the spot can be loaded and stored; `free` may become that register.
    pub(super) fn reach(&mut self, spot: Spot, free: Reg) -> (Reg, i16) {
        match spot.base {
            Base::Stack => (FP, spot.offset),
            Base::Record => (R7, spot.offset),
            Base::Scratch => {
                self.asm.load(Width::W8, free, FP, self.scratch);
                (free, spot.offset)
            }
        }
    }

    /// `dst`: the spot's address.
    pub(super) fn address(&mut self, dst: Reg, spot: Spot) {
        let (base, offset) = self.reach(spot, dst);
        self.asm.mov(dst, base);
        self.asm.alu_imm(Alu::Add, dst, i32::from(offset));
    }

    /// Stores r0. Uses r2.
    pub(super) fn put(&mut self, width: Width, spot: Spot) {
        let (base, offset) = self.reach(spot, R2);
        self.asm.store(width, base, offset, R0);
    }

    /// Zeroes bytes from the spot on, up to the next multiple of 8. Uses r1 and r2.
    pub(super) fn zero(&mut self, spot: Spot, from: u32, to: u32) {
        if from >= to {
            return;
        }
        let (base, offset) = self.reach(spot, R2);
        self.asm.set(R1, 0);
        for at in (from..to).step_by(8) {
            self.asm.store(Width::W8, base, offset.wrapping_add(at as i16), R1);
        }
    }

    /// Copies whole words from `src`, which is not r1 or r2. Uses r1 and r2.
    pub(super) fn copy(&mut self, spot: Spot, src: Reg, src_offset: i16, bytes: u32) {
        let (base, offset) = self.reach(spot, R2);
        for at in (0..bytes as i16).step_by(8) {
            self.asm.load(Width::W8, R1, src, src_offset.wrapping_add(at));
            self.asm.store(Width::W8, base, offset.wrapping_add(at), R1);
        }
    }

    /// Claims a value of the scratch map for this run, or ends it; `failed` says what then becomes of it.
    pub(super) fn claim_scratch(&mut self, failed: impl FnOnce(&mut Self)) {
        if self.scratch == 0 {
            self.scratch = self.allocate(8);
        }
        let level = self.allocate(8);
        let (claimed, none) = (self.asm.label(), self.asm.label());
        for n in 0..SCRATCH_LEVELS {
            let next = self.asm.label();
            self.asm.store_imm(Width::W4, FP, level, n as i32);
            self.stack_address(R2, level);
            self.asm.map(R1, MapRef::Scratch);
            self.asm.call(BPF_FUNC_map_lookup_elem);
            self.asm.jump_if_imm(Cond::Eq, R0, 0, none);
            if self.context.features.atomic_fetch {
                self.asm.set(R1, 1);
                self.asm.exchange(R0, 0, R1);
            } else {
                // What interrupts this run between load and store has given back what it claimed by then: such kernels don't preempt
                // programs.
                self.asm.load(Width::W8, R1, R0, 0);
                self.asm.set(R2, 1);
                self.asm.jump_if_imm(Cond::Ne, R1, 0, next);
                self.asm.store(Width::W8, R0, 0, R2);
            }
            self.asm.jump_if_imm(Cond::Eq, R1, 0, claimed);
            self.asm.place(next);
        }
        self.asm.place(none);
        self.bump(Counter::MapFull);
        failed(self);
        self.leave();
        self.asm.place(claimed);
        self.asm.store(Width::W8, FP, self.scratch, R0);
        self.release(8);
    }

    pub(super) fn release_scratch(&mut self) {
        self.asm.load(Width::W8, R1, FP, self.scratch);
        self.asm.set(R2, 0);
        self.asm.store(Width::W8, R1, 0, R2);
    }
}
