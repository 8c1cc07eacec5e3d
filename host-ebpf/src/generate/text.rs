//! Text: writing it somewhere, and comparing it.

use aya_obj::generated::{
    bpf_func_id,
    bpf_func_id::{BPF_FUNC_get_current_comm, BPF_FUNC_probe_read_kernel_str, BPF_FUNC_probe_read_user_str},
};

use super::{function::Generator, room::Spot};
use crate::{
    assemble::{Alu, Cond, FP, Label, R0, R1, R2, R3, R6, Width},
    attach::Space,
    check::ir::{COMM_SIZE, NameKind, Text, Value, text_room},
    counters::Counter,
    group::Column,
    output::MapRef,
    record,
};

impl Generator<'_> {
    /// Writes text to where there is room for text of that capacity. What could not be read is empty, what was longer is cut; both are
    /// counted, and marked in the record of which it is field number `field`. With `zero` all of the room behind the text is zero:
    /// equal texts are then equal bytes.
    pub(super) fn put_text(&mut self, text: &Text, at: Spot, capacity: u32, zero: bool, field: Option<usize>) {
        let end = if zero { text_room(capacity) } else { 0 };
        match text {
            Text::Literal(bytes) => {
                let mut written = 0;
                for word in bytes.chunks(8) {
                    let mut padded = [0; 8];
                    padded[..word.len()].copy_from_slice(word);
                    self.asm.set(R0, u64::from_ne_bytes(padded));
                    self.put(Width::W8, at.at(written));
                    written += 8;
                }
                // The NUL byte, if the last word has none.
                let ended = !bytes.len().is_multiple_of(8);
                self.zero(at, written, end.max(if ended { written } else { written + 8 }));
            }
            Text::Name(kind, keep) => match self.at.place {
                Some(_) => {
                    let name = self.function.body.names.get(*kind).as_bytes().to_vec();
                    self.put_text(&Text::Literal(name), at, capacity, zero, field);
                }
                None => {
                    self.put_name(*kind, *keep, at);
                    self.zero(at, text_room(*keep), end);
                }
            },
            Text::Variable { index, keep } | Text::Saved { index, keep } => {
                let slot = if let Text::Variable { .. } = text { self.variable(*index) } else { self.saved(*index) };
                self.copy(at, FP, slot, text_room(*keep));
                self.zero(at, text_room(*keep), end);
            }
            Text::Element { map, key, keep } => {
                let (none, done) = (self.asm.label(), self.asm.label());
                self.find(*map, key);
                self.asm.jump_if_imm(Cond::Eq, R0, 0, none);
                self.copy(at, R0, 0, text_room(*keep));
                self.asm.jump(done);
                self.asm.place(none);
                self.zero(at, 0, text_room(*keep));
                self.asm.place(done);
                self.zero(at, text_room(*keep), end);
            }
            Text::Choose(condition, then, otherwise) => {
                let (no, done) = (self.asm.label(), self.asm.label());
                self.branch(condition, false, no);
                self.put_text(then, at, capacity, zero, field);
                self.asm.jump(done);
                self.asm.place(no);
                self.put_text(otherwise, at, capacity, zero, field);
                self.asm.place(done);
            }
            Text::Comm => {
                // Behind the NUL byte some kernels leave what was there: Linux 6.1 does (bpf_get_current_comm(), kernel/bpf/helpers.c).
                self.zero(at, 0, end);
                self.address(R1, at);
                self.asm.set(R2, COMM_SIZE.into());
                self.asm.call(BPF_FUNC_get_current_comm);
            }
            Text::Chars { .. } | Text::DataLoc { .. } | Text::Pointer { .. } | Text::Array { .. } => {
                self.zero(at, 0, end);
                self.read_text(text, at, field, true);
            }
            Text::Path(path) => {
                self.zero(at, 0, end);
                self.put_path(path, at, path.keep + 1, true, field);
            }
        }
    }

    /// The name of the place that the cookie tells, from the table.
    fn put_name(&mut self, kind: NameKind, keep: u32, at: Spot) {
        let table = self.context.places;
        let (none, done) = (self.asm.label(), self.asm.label());
        self.asm.load(Width::W8, R1, FP, self.cookie);
        // There is no such place; the verifier wants to see it.
        self.asm.jump_if_imm(Cond::Ge, R1, table.rows as i32, none);
        self.asm.alu_imm(Alu::Mul, R1, table.stride as i32);
        let column = Column { probe: self.function.probe, kind, syscall: self.at.syscall, returns: self.at.returns };
        let column = table.column(column);
        self.asm.map_value(R0, MapRef::Names, column.unwrap_or_default());
        self.asm.alu(Alu::Add, R0, R1);
        self.copy(at, R0, 0, text_room(keep));
        self.asm.jump(done);
        self.asm.place(none);
        self.zero(at, 0, text_room(keep));
        self.asm.place(done);
    }

    /// Text that is read from memory up to its NUL byte. With `cut`, what is longer than it is to be kept is cut; else one byte more of
    /// it is there.
    fn read_text(&mut self, text: &Text, at: Spot, field: Option<usize>, cut: bool) {
        let (fault, done) = (self.asm.label(), self.asm.label());
        let from = |this: &mut Self, pointer: &Value, space: Space| {
            this.value(pointer);
            this.asm.mov(R3, R0);
            match space {
                Space::User => BPF_FUNC_probe_read_user_str,
                Space::Kernel => BPF_FUNC_probe_read_kernel_str,
            }
        };
        let helper: bpf_func_id = match text {
            Text::Chars { offset, .. } => {
                self.asm.mov(R3, R6);
                self.asm.alu_imm(Alu::Add, R3, *offset as i32);
                BPF_FUNC_probe_read_kernel_str
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
            Text::Pointer { pointer, space, .. } => from(self, pointer, *space),
            Text::Array { address, space, .. } => from(self, address, *space),
            // The caller has no others.
            _ => return,
        };
        self.address(R1, at);
        self.asm.set(R2, text.room().into());
        self.asm.call(helper);
        // r0: how many bytes it wrote, with the NUL byte; below 0 if the memory was not there.
        self.asm.jump_if_imm(Cond::SignedLt, R0, 0, fault);
        if let Text::DataLoc { keep, .. } | Text::Pointer { keep, .. } = text
            && cut
        {
            self.asm.jump_if_imm(Cond::Ne, R0, text.room() as i32, done);
            self.mark(record::CUT, field);
            let (base, offset) = self.reach(at.at(*keep), R1);
            self.asm.store_imm(Width::W1, base, offset, 0);
            self.bump(Counter::Truncated);
        }
        self.asm.jump(done);
        self.asm.place(fault);
        // The helper has zeroed what it was to write.
        self.mark(record::ABSENT, field);
        self.bump(Counter::ReadFault);
        self.asm.place(done);
    }

    /// r0: 1 if the text is the literal (or is not, for `equal` false), else 0; without `whole`, if it begins with it. Text that could
    /// not be read is empty.
    pub(super) fn text_is(&mut self, text: &Text, literal: &[u8], equal: bool, whole: bool) {
        let room = text_room(if let Text::Path(_) = text { literal.len() as u32 } else { text.capacity() });
        let buffer = self.allocate(room);
        match text {
            // As much of its front as is looked at; where that was cut off, no string is the whole of it.
            Text::Path(path) => self.put_path(path, Spot::stack(buffer), literal.len() as u32 + 2, !whole, None),
            // What is longer than the literal must not end where that does; and nothing is lost by not looking at it.
            Text::Chars { .. } | Text::DataLoc { .. } | Text::Pointer { .. } | Text::Array { .. } => {
                self.read_text(text, Spot::stack(buffer), None, false);
            }
            _ => {
                let zero = matches!(text, Text::Literal(_) | Text::Name(..) | Text::Choose(..));
                self.put_text(text, Spot::stack(buffer), text.capacity(), zero, None);
            }
        }
        let (differs, end) = (self.asm.label(), self.asm.label());
        let mut wanted = literal.to_vec();
        if whole {
            wanted.push(0);
        }
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
        self.verdict(equal, differs, end);
        self.release(room);
    }

    /// r0: `equal`, or at `differs` its opposite.
    pub(super) fn verdict(&mut self, equal: bool, differs: Label, end: Label) {
        self.asm.set(R0, u64::from(equal));
        self.asm.jump(end);
        self.asm.place(differs);
        self.asm.set(R0, u64::from(!equal));
        self.asm.place(end);
    }

    /// r0: 1 if the texts are the same (or are not, for `equal` false), else 0.
    pub(super) fn same_text(&mut self, left: &Text, right: &Text, equal: bool) {
        let capacity = left.capacity().max(right.capacity());
        let room = text_room(capacity);
        let (a, b) = (self.allocate(room), self.allocate(room));
        self.put_text(left, Spot::stack(a), capacity, true, None);
        self.put_text(right, Spot::stack(b), capacity, true, None);
        let (differs, end) = (self.asm.label(), self.asm.label());
        for at in (0..room as i16).step_by(8) {
            self.asm.load(Width::W8, R1, FP, a + at);
            self.asm.load(Width::W8, R2, FP, b + at);
            self.asm.jump_if(Cond::Ne, R1, R2, differs);
        }
        self.verdict(equal, differs, end);
        self.release(room);
        self.release(room);
    }

    /// r0: how many bytes the text has.
    pub(super) fn text_length(&mut self, text: &Text) {
        let room = text_room(text.capacity());
        let buffer = self.allocate(room);
        self.put_text(text, Spot::stack(buffer), text.capacity(), true, None);
        // The helper that reads text says how long it is; it may read it to where it is.
        self.stack_address(R1, buffer);
        self.asm.set(R2, room.into());
        self.asm.mov(R3, R1);
        self.asm.call(BPF_FUNC_probe_read_kernel_str);
        self.asm.alu_imm(Alu::Sub, R0, 1);
        self.release(room);
    }

    /// r0: 1 if the text has the needle somewhere, else 0.
    pub(super) fn contains(&mut self, text: &Text, needle: &[u8]) {
        let room = text_room(text.capacity());
        let buffer = self.allocate(room);
        self.put_text(text, Spot::stack(buffer), text.capacity(), true, None);
        let (found, end) = (self.asm.label(), self.asm.label());
        // Behind the text there are zeroes only, which are in no needle.
        for start in 0..=(text.capacity() as usize).saturating_sub(needle.len()) {
            let next = self.asm.label();
            for (i, byte) in needle.iter().enumerate() {
                self.asm.load(Width::W1, R1, FP, buffer + (start + i) as i16);
                self.asm.jump_if_imm(Cond::Ne, R1, i32::from(*byte), next);
            }
            self.asm.jump(found);
            self.asm.place(next);
        }
        self.asm.set(R0, 0);
        self.asm.jump(end);
        self.asm.place(found);
        self.asm.set(R0, 1);
        self.asm.place(end);
        self.release(room);
    }
}
