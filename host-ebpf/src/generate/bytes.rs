//! Bytes and call stacks, which stand behind a header with their length.

use aya_obj::generated::{
    BPF_F_USER_STACK,
    bpf_func_id::{BPF_FUNC_probe_read_kernel, BPF_FUNC_probe_read_user},
};

use super::{function::Generator, room::Spot};
use crate::{
    assemble::{Alu, Cond, FP, Label, R0, R1, R2, R3, R6, Width},
    attach::Space,
    check::ir::{Bytes, Stack},
    counters::Counter,
    record::{self, LENGTH_HEADER},
};

impl Generator<'_> {
    /// Writes bytes to where there is room for so many ([`record::Slot::Bytes`]).
    pub(super) fn put_bytes(&mut self, bytes: &Bytes, at: Spot, capacity: u32, field: Option<usize>) {
        let data = at.at(LENGTH_HEADER);
        let length = bytes.length();
        self.zero(data, length / 8 * 8, capacity.next_multiple_of(8));
        if !self.read_bytes(bytes, data) {
            return self.put_length(at, length);
        }
        let (fault, done) = (self.asm.label(), self.asm.label());
        self.asm.jump_if_imm(Cond::SignedLt, R0, 0, fault);
        self.put_length(at, length);
        self.asm.jump(done);
        self.asm.place(fault);
        self.mark(record::ABSENT, field);
        self.bump(Counter::ReadFault);
        self.put_length(at, 0);
        self.asm.place(done);
    }

    /// Writes bytes alone; whether they are from memory. Where that is not there, r0 is below 0, and they are zero.
    fn read_bytes(&mut self, bytes: &Bytes, at: Spot) -> bool {
        let helper = match bytes {
            Bytes::Int { value, length } => {
                self.value(value);
                self.put(Width::of(*length as u8), at);
                return false;
            }
            Bytes::Literal(bytes) => {
                for (word, at_word) in words(bytes).zip((0..).step_by(8)) {
                    self.asm.set(R0, word);
                    self.put(Width::W8, at.at(at_word));
                }
                return false;
            }
            Bytes::Memory { address, space, .. } => {
                self.value(address);
                self.asm.mov(R3, R0);
                match space {
                    Space::User => BPF_FUNC_probe_read_user,
                    Space::Kernel => BPF_FUNC_probe_read_kernel,
                }
            }
            Bytes::Context { offset, .. } => {
                self.asm.mov(R3, R6);
                self.asm.alu_imm(Alu::Add, R3, *offset as i32);
                BPF_FUNC_probe_read_kernel
            }
        };
        self.address(R1, at);
        self.asm.set(R2, bytes.length().into());
        self.asm.call(helper);
        true
    }

    /// r0: 1 if the bytes are the same (or are not, for `equal` false), else 0.
    pub(super) fn same_bytes(&mut self, left: &Bytes, right: &Bytes, equal: bool) {
        let room = left.length().next_multiple_of(8);
        let (differs, end) = (self.asm.label(), self.asm.label());
        let a = self.compared(left, differs);
        match right {
            Bytes::Literal(bytes) => {
                for (word, at) in words(bytes).zip((0..).step_by(8)) {
                    self.asm.load(Width::W8, R1, FP, a + at);
                    self.asm.set(R2, word);
                    self.asm.jump_if(Cond::Ne, R1, R2, differs);
                }
            }
            _ => {
                let b = self.compared(right, differs);
                for at in (0..room as i16).step_by(8) {
                    self.asm.load(Width::W8, R1, FP, a + at);
                    self.asm.load(Width::W8, R2, FP, b + at);
                    self.asm.jump_if(Cond::Ne, R1, R2, differs);
                }
                self.release(room);
            }
        }
        self.verdict(equal, differs, end);
        self.release(room);
    }

    /// Bytes on the stack, with zeroes up to the next multiple of 8; those that can't be read are like no others.
    fn compared(&mut self, bytes: &Bytes, differs: Label) -> i16 {
        let room = bytes.length().next_multiple_of(8);
        let at = self.allocate(room);
        self.zero(Spot::stack(at), bytes.length() / 8 * 8, room);
        if self.read_bytes(bytes, Spot::stack(at)) {
            let there = self.asm.label();
            self.asm.jump_if_imm(Cond::SignedGe, R0, 0, there);
            self.bump(Counter::ReadFault);
            self.asm.jump(differs);
            self.asm.place(there);
        }
        at
    }

    /// The header of bytes.
    fn put_length(&mut self, at: Spot, length: u32) {
        self.asm.set(R0, length.into());
        self.put(Width::W8, at);
    }

    /// Writes a call stack to where there is room for so many frames ([`record::Slot::Stack`]).
    pub(super) fn put_stack(&mut self, stack: &Stack, at: Spot, depth: u32) {
        let frames = at.at(LENGTH_HEADER);
        self.zero(frames, 8 * stack.depth(), 8 * depth);
        match stack {
            Stack::Address(address) => {
                self.value(address);
                self.put(Width::W8, frames);
                self.asm.set(R0, 8);
            }
            Stack::Saved { index, depth } => return self.put_saved_stack(*index, at, *depth),
            Stack::Kernel(depth) => self.kernel_stack(frames, *depth),
            Stack::User(depth) => self.get_stack(frames, *depth, BPF_F_USER_STACK.into()),
        }
        self.put(Width::W4, at);
        if matches!(stack, Stack::Kernel(_)) {
            self.asm.set(R0, 0);
        } else {
            self.asm.load(Width::W8, R0, FP, self.pid_tgid);
            self.asm.alu_imm(Alu::Rsh, R0, 32);
        }
        self.put(Width::W4, at.at(4));
    }

    /// Copies what a span's entry kept, so many frames at most.
    fn put_saved_stack(&mut self, index: usize, at: Spot, depth: u32) {
        let Some((_, from)) = self.saved_stacks.iter().copied().find(|(saved, _)| *saved == index) else { return };
        let (base, offset) = self.reach(from, R3);
        self.copy(at, base, offset, LENGTH_HEADER + 8 * depth);
        // Where a key has room for less than was kept, the length is that of what is there.
        if self.function.body.saves.get(index).is_some_and(|save| save.size() > LENGTH_HEADER + 8 * depth) {
            let fits = self.asm.label();
            self.asm.load(Width::W4, R0, base, offset);
            self.asm.alu_imm(Alu::Lsh, R0, 32);
            self.asm.alu_imm(Alu::Arsh, R0, 32);
            self.asm.jump_if_imm(Cond::SignedLe, R0, 8 * depth as i32, fits);
            self.asm.set(R0, (8 * depth).into());
            self.asm.place(fits);
            self.put(Width::W4, at);
        }
    }
}

/// Bytes as words in which they stand in memory, with zeroes behind the last.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}
