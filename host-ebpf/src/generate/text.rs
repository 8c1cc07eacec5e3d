//! Text: reading it into memory, and comparing it with a string.

use aya_obj::generated::bpf_func_id::{
    BPF_FUNC_get_current_comm, BPF_FUNC_probe_read_kernel, BPF_FUNC_probe_read_kernel_str, BPF_FUNC_probe_read_user_str,
};

use super::function::Generator;
use crate::{
    assemble::{Alu, Cond, FP, R0, R1, R2, R3, R6, Reg, Width},
    attach::Space,
    check::ir::Text,
    counters::Counter,
};

impl Generator<'_> {
    /// Writes text to `base + offset`, where [`Text::room`] bytes are free; r0 is what the helper returned: below 0 when the memory
    /// was not there, and for what ends with a NUL byte the number of bytes with it.
    pub(super) fn text(&mut self, text: &Text, base: Reg, offset: i16) {
        let helper = match text {
            Text::Comm => BPF_FUNC_get_current_comm,
            Text::Chars { offset, .. } => {
                self.asm.mov(R3, R6);
                self.asm.alu_imm(Alu::Add, R3, *offset as i32);
                BPF_FUNC_probe_read_kernel
            }
            Text::DataLoc { offset, relative, .. } => {
                // The low half says where the text is, from the record's first byte or from the end of this field.
                self.asm.load(Width::W4, R3, R6, *offset as i16);
                self.asm.alu_imm(Alu::And, R3, 0xffff);
                if *relative {
                    self.asm.alu_imm(Alu::Add, R3, *offset as i32 + 4);
                }
                self.asm.alu(Alu::Add, R3, R6);
                BPF_FUNC_probe_read_kernel_str
            }
            Text::Pointer { pointer, space, .. } => {
                self.value(pointer);
                self.asm.mov(R3, R0);
                match space {
                    Space::User => BPF_FUNC_probe_read_user_str,
                    Space::Kernel => BPF_FUNC_probe_read_kernel_str,
                }
            }
        };
        self.asm.mov(R1, base);
        self.asm.alu_imm(Alu::Add, R1, i32::from(offset));
        self.asm.set(R2, u64::from(text.room()));
        self.asm.call(helper);
    }

    /// r0: 1 if the text is the literal (or is not, for `equal` false), else 0. Text that could not be read is empty.
    pub(super) fn text_is(&mut self, text: &Text, literal: &[u8], equal: bool) {
        let room = text.room();
        let buffer = self.allocate(room);
        self.text(text, FP, buffer);
        if *text != Text::Comm {
            let there = self.asm.label();
            self.asm.jump_if_imm(Cond::SignedGe, R0, 0, there);
            self.asm.store_imm(Width::W1, FP, buffer, 0);
            self.bump(Counter::ReadFault);
            self.asm.place(there);
        }
        let (differs, end) = (self.asm.label(), self.asm.label());
        // With its NUL byte, unless the text fills an array to its last byte.
        let mut wanted = literal.to_vec();
        wanted.push(0);
        wanted.truncate(match text {
            Text::Chars { size, .. } => *size as usize,
            _ => wanted.len(),
        });
        let mut at = 0;
        while at < wanted.len() {
            let size = [8, 4, 2, 1].into_iter().find(|size| at % size == 0 && at + size <= wanted.len()).unwrap_or(1);
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&wanted[at..at + size]);
            self.asm.load(Width::of(size as u8), R1, FP, buffer + at as i16);
            self.asm.set(R2, u64::from_le_bytes(bytes));
            self.asm.jump_if(Cond::Ne, R1, R2, differs);
            at += size;
        }
        self.asm.set(R0, u64::from(equal));
        self.asm.jump(end);
        self.asm.place(differs);
        self.asm.set(R0, u64::from(!equal));
        self.asm.place(end);
        self.release(room);
    }
}
