//! Integers in memory: loaded directly where the verifier knows the pointer's type, else by the helpers that find out whether the
//! memory is there.

use aya_obj::generated::bpf_func_id::{BPF_FUNC_probe_read_kernel, BPF_FUNC_probe_read_user};

use super::function::Generator;
use crate::{
    assemble::{Alu, Cond, FP, Label, R0, R1, R2, R3, R6, Width},
    attach::Place,
    check::ir::{Access, MemoryField, Value},
    counters::Counter,
};

impl Generator<'_> {
    /// r0: the integer; 0 if it could not be read, which is counted and noted.
    pub(super) fn memory_field(&mut self, field: &MemoryField) {
        match field.access {
            // A typed pointer is no number: the verifier allows no arithmetic with it. Read by a helper it is one.
            Access::Typed if !field.pointer => self.direct(field),
            _ => self.by_helper(field),
        }
        if let Some((shift, width)) = field.bits {
            let above = 64 - (shift + width) as i32;
            if above > 0 {
                self.asm.alu_imm(Alu::Lsh, R0, above);
            }
            self.asm.alu_imm(if field.int.signed { Alu::Arsh } else { Alu::Rsh }, R0, 64 - width as i32);
        }
    }

    fn direct(&mut self, field: &MemoryField) {
        let (fault, done) = (self.asm.label(), self.asm.label());
        self.typed(&field.base, fault);
        self.asm.load(Width::of(field.int.size), R0, R0, field.offset as i16);
        if field.int.signed {
            self.convert(field.int, R0);
        }
        self.asm.jump(done);
        self.asm.place(fault);
        self.fault();
        self.asm.place(done);
    }

    /// r0: a pointer whose type the verifier knows, and which is not null.
    fn typed(&mut self, pointer: &Value, fault: Label) {
        match pointer {
            Value::Pointer(Place::Slot(slot)) => self.asm.load(Width::W8, R0, R6, 8 * *slot as i16),
            Value::Field(field) if field.access == Access::Typed => {
                self.typed(&field.base, fault);
                self.asm.load(Width::W8, R0, R0, field.offset as i16);
            }
            // The checker calls no other pointer typed.
            other => self.value(other),
        }
        self.asm.jump_if_imm(Cond::Eq, R0, 0, fault);
    }

    fn by_helper(&mut self, field: &MemoryField) {
        let (fault, done) = (self.asm.label(), self.asm.label());
        let copy = self.allocate(8);
        match field.access {
            Access::Typed => self.typed(&field.base, fault),
            _ => self.value(&field.base),
        }
        self.asm.mov(R3, R0);
        if field.offset > 0 {
            self.asm.alu_imm(Alu::Add, R3, field.offset as i32);
        }
        self.asm.set(R2, field.int.size.into());
        self.stack_address(R1, copy);
        self.asm.call(if field.access == Access::User { BPF_FUNC_probe_read_user } else { BPF_FUNC_probe_read_kernel });
        self.asm.jump_if_imm(Cond::SignedLt, R0, 0, fault);
        self.asm.load(Width::of(field.int.size), R0, FP, copy);
        if field.int.signed {
            self.convert(field.int, R0);
        }
        self.asm.jump(done);
        self.asm.place(fault);
        self.fault();
        self.asm.place(done);
        self.release(8);
    }

    /// Counts that memory was not there, and notes it for the field that is being written. r0: 0.
    fn fault(&mut self) {
        self.bump(Counter::ReadFault);
        if let Some(slot) = self.fault {
            self.asm.set(R1, 1);
            self.asm.store(Width::W8, FP, slot, R1);
        }
        self.asm.set(R0, 0);
    }
}
