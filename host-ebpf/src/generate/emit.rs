//! Records: room in the ring, the fields, and a wake-up of the reader only when much waits.

use aya_obj::generated::{
    BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
    bpf_func_id::{BPF_FUNC_ringbuf_query, BPF_FUNC_ringbuf_reserve, BPF_FUNC_ringbuf_submit},
};

use super::function::Generator;
use crate::{
    assemble::{Alu, Cond, R0, R1, R2, R3, R7, R8, Width},
    check::ir::{Field, FieldValue, Text},
    counters::{Counter, StreamCounter},
    output::MapRef,
    record::{self, Slot},
};

/// What the kernel puts before each record in the ring (`BPF_RINGBUF_HDR_SZ`, include/uapi/linux/bpf.h).
const RING_HEADER: u32 = 8;

impl Generator<'_> {
    /// Writes one record. The filters are behind us: from the reservation to the submission there is one way only.
    pub(super) fn emit(&mut self, stream: &str, fields: &[Field]) {
        let Some(number) = self.context.streams.iter().position(|s| s.name == stream) else { return };
        let layout = &self.context.streams[number];
        let (full, done) = (self.asm.label(), self.asm.label());
        self.bump_stream(number, StreamCounter::Attempted);
        self.asm.map(R1, MapRef::Ring);
        self.asm.set(R2, u64::from(layout.size));
        self.asm.set(R3, 0);
        self.asm.call(BPF_FUNC_ringbuf_reserve);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, full);
        self.asm.mov(R7, R0);
        self.asm.store(Width::W8, R7, record::TIME as i16, R8);
        self.asm.store_imm(Width::W4, R7, record::STREAM as i16, number as i32);
        self.asm.store_imm(Width::W4, R7, record::ABSENT as i16, 0);
        self.asm.store_imm(Width::W4, R7, record::CUT as i16, 0);
        for (i, field) in layout.fields.iter().enumerate() {
            let Some(emitted) = fields.iter().find(|f| f.name == field.name) else { continue };
            match (&emitted.value, field.slot) {
                (FieldValue::Int(value, _), Slot::Int { offset, size, .. }) => {
                    self.value(value);
                    self.asm.store(Width::of(size), R7, offset as i16, R0);
                }
                (FieldValue::Text(text), Slot::Text { offset, capacity }) => self.text_field(text, i, offset as i16, capacity),
                // The planner gave the field the slot of its kind.
                _ => {}
            }
        }
        self.submit(layout.size);
        self.bump_stream(number, StreamCounter::Emitted);
        self.asm.jump(done);
        self.asm.place(full);
        self.bump_stream(number, StreamCounter::RingFull);
        self.asm.place(done);
    }

    fn text_field(&mut self, text: &Text, field: usize, offset: i16, capacity: u32) {
        let (fault, done) = (self.asm.label(), self.asm.label());
        self.text(text, R7, offset);
        match text {
            Text::Comm => {}
            Text::Chars { .. } => self.asm.jump_if_imm(Cond::SignedLt, R0, 0, fault),
            Text::DataLoc { keep, .. } | Text::Pointer { keep, .. } => {
                self.asm.jump_if_imm(Cond::SignedLt, R0, 0, fault);
                self.asm.jump_if_imm(Cond::Ne, R0, text.room() as i32, done);
                self.mark(record::CUT, field);
                self.asm.store_imm(Width::W1, R7, offset + *keep as i16, 0);
                self.bump(Counter::Truncated);
            }
        }
        if let Text::Comm | Text::Chars { .. } = text
            && text.capacity() < capacity
        {
            self.asm.store_imm(Width::W1, R7, offset + text.capacity() as i16, 0);
        }
        self.asm.jump(done);
        self.asm.place(fault);
        if *text != Text::Comm {
            self.mark(record::ABSENT, field);
            self.bump(Counter::ReadFault);
        }
        self.asm.place(done);
    }

    /// Sets the bit of a field in the record's header.
    fn mark(&mut self, bitmap: u32, field: usize) {
        self.asm.load(Width::W4, R1, R7, bitmap as i16);
        self.asm.alu_imm(Alu::Or, R1, (1u32 << field) as i32);
        self.asm.store(Width::W4, R7, bitmap as i16, R1);
    }

    /// Hands the record over. The one record that lifts what waits over the mark wakes the reader; for the others it polls: a
    /// wake-up costs the traced thread 16 µs.
    fn submit(&mut self, size: u32) {
        let quiet = self.asm.label();
        self.asm.map(R1, MapRef::Ring);
        self.asm.set(R2, BPF_RB_AVAIL_DATA as u64);
        self.asm.call(BPF_FUNC_ringbuf_query);
        self.asm.set(R2, BPF_RB_NO_WAKEUP as u64);
        self.asm.alu_imm(Alu::Sub, R0, self.context.options.wake_at as i32);
        self.asm.jump_if_imm(Cond::Ge, R0, (size + RING_HEADER) as i32, quiet);
        self.asm.set(R2, BPF_RB_FORCE_WAKEUP as u64);
        self.asm.place(quiet);
        self.asm.mov(R1, R7);
        self.asm.call(BPF_FUNC_ringbuf_submit);
    }
}
