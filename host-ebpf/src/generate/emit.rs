//! Records: room in the ring, the fields, and a wake-up of the reader only when much waits.

use aya_obj::generated::{
    BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
    bpf_func_id::{BPF_FUNC_ringbuf_query, BPF_FUNC_ringbuf_reserve, BPF_FUNC_ringbuf_submit},
};

use super::{function::Generator, room::Spot};
use crate::{
    assemble::{Alu, Cond, FP, R0, R1, R2, R3, R7, R8, Width},
    check::ir::{Field, FieldValue, Value},
    counters::StreamCounter,
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
                (FieldValue::Int(value, _), Slot::Int { offset, size, .. }) => self.integer_field(value, i, offset as i16, size),
                (FieldValue::Text(text), Slot::Text { offset, capacity }) => {
                    self.put_text(text, Spot::record(offset), capacity, false, Some(i));
                }
                (FieldValue::Bytes(bytes), Slot::Bytes { offset, capacity }) => {
                    self.put_bytes(bytes, Spot::record(offset), capacity, Some(i));
                }
                (FieldValue::Stack(stack), Slot::Stack { offset, depth }) => self.put_stack(stack, Spot::record(offset), depth),
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

    fn integer_field(&mut self, value: &Value, field: usize, offset: i16, size: u8) {
        if !value.can_fault() {
            self.value(value);
            self.asm.store(Width::of(size), R7, offset, R0);
            return;
        }
        let (fault, read) = (self.allocate(8), self.asm.label());
        self.asm.set(R1, 0);
        self.asm.store(Width::W8, FP, fault, R1);
        self.fault = Some(fault);
        self.value(value);
        self.fault = None;
        self.asm.store(Width::of(size), R7, offset, R0);
        self.asm.load(Width::W8, R1, FP, fault);
        self.asm.jump_if_imm(Cond::Eq, R1, 0, read);
        self.mark(record::ABSENT, Some(field));
        self.asm.place(read);
        self.release(8);
    }

    /// Sets the bit of a field in the record's header. Uses r1.
    pub(super) fn mark(&mut self, bitmap: u32, field: Option<usize>) {
        let Some(field) = field else { return };
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
