//! Aggregations: the words of [`crate::aggregate`], kept by each CPU for itself.
//!
//! A word is only added to or raised, in one indivisible step: a run that interrupts another on the same CPU loses nothing.

use super::function::Generator;
use crate::{
    aggregate::{Content, SeriesOf},
    assemble::{Alu, Cond, FP, R0, R1, R2, R3, R4, R8, Width},
    check::ir::{Key, Value},
    record::Slot,
};

/// How often raising a word is tried: each failure is another run that raised it meanwhile on this CPU.
const TRIES: usize = 4;

impl Generator<'_> {
    pub(super) fn aggregate(&mut self, map: usize, key: &Key, value: &Value) {
        let of = self.plugin_map(map);
        let slot = self.allocate(8);
        self.value(value);
        self.asm.store(Width::W8, FP, slot, R0);
        let spot = self.build_key(map, key);
        if let Some(Slot::Int { offset, size, .. }) = of.bucket {
            self.asm.load(Width::W8, R1, FP, slot);
            self.bucket(of.content);
            self.put(Width::of(size), spot.at(offset));
        }
        let full = self.asm.label();
        self.find_or_insert(map, spot, full);
        let signed = matches!(of.value.slot, Slot::Int { signed: true, .. });
        self.asm.mov(R3, R0);
        self.add_up(of.content, slot, signed);
        self.end_of_insert(full);
        self.give_back(of.key_size);
        self.release(8);
    }

    /// Takes the value in the stack slot into the words at r3.
    fn add_up(&mut self, content: Content, slot: i16, signed: bool) {
        match content {
            Content::Value => {}
            Content::Count | Content::Hist { .. } | Content::LinearHist { .. } => self.count_one(0),
            Content::Sum => self.add_value(0, slot),
            Content::Avg | Content::Stats => {
                self.count_one(0);
                self.add_value(8, slot);
            }
            Content::Min | Content::Max => self.raise(0, slot, content == Content::Min, signed),
            Content::TimeSeries { interval, of, .. } => self.series(interval, of, slot, signed, content.words()),
        }
    }

    fn count_one(&mut self, offset: i16) {
        self.asm.set(R1, 1);
        self.asm.atomic_add(R3, offset, R1);
    }

    fn add_value(&mut self, offset: i16, slot: i16) {
        self.asm.load(Width::W8, R1, FP, slot);
        self.asm.atomic_add(R3, offset, R1);
    }

    /// Raises a word at r3 to that of the value ([`crate::aggregate::encode_max`], [`crate::aggregate::encode_min`]).
    fn raise(&mut self, offset: i16, slot: i16, least: bool, signed: bool) {
        let done = self.asm.label();
        self.asm.load(Width::W8, R1, FP, slot);
        if signed {
            self.asm.set(R2, 1 << 63);
            self.asm.alu(Alu::Xor, R1, R2);
        }
        if least {
            self.asm.alu_imm(Alu::Xor, R1, -1);
        }
        if !self.context.features.atomic_fetch {
            self.asm.load(Width::W8, R0, R3, offset);
            self.asm.jump_if(Cond::Ge, R0, R1, done);
            self.asm.store(Width::W8, R3, offset, R1);
            self.asm.place(done);
            return;
        }
        for _ in 0..TRIES {
            self.asm.load(Width::W8, R0, R3, offset);
            self.asm.jump_if(Cond::Ge, R0, R1, done);
            self.asm.mov(R2, R0);
            self.asm.compare_exchange(R3, offset, R1);
            self.asm.jump_if(Cond::Eq, R0, R2, done);
        }
        self.asm.place(done);
    }

    /// Takes the value into the interval of now; what was of an earlier one is forgotten.
    fn series(&mut self, interval: u64, of: SeriesOf, slot: i16, signed: bool, words: u32) {
        let same = self.asm.label();
        self.interval(interval);
        self.asm.alu_imm(Alu::Add, R0, 1);
        self.asm.load(Width::W8, R1, R3, 0);
        self.asm.jump_if(Cond::Eq, R0, R1, same);
        self.asm.set(R1, 0);
        for word in 1..words as i16 {
            self.asm.store(Width::W8, R3, 8 * word, R1);
        }
        self.asm.store(Width::W8, R3, 0, R0);
        self.asm.place(same);
        match of {
            SeriesOf::Sum => self.add_value(8, slot),
            SeriesOf::Avg => {
                self.count_one(8);
                self.add_value(16, slot);
            }
            SeriesOf::Min | SeriesOf::Max => self.raise(8, slot, of == SeriesOf::Min, signed),
            SeriesOf::Last => {
                self.asm.store(Width::W8, R3, 8, R8);
                self.asm.load(Width::W8, R1, FP, slot);
                self.asm.store(Width::W8, R3, 16, R1);
            }
        }
    }

    /// r0: the number of the interval of now. Uses r1.
    fn interval(&mut self, interval: u64) {
        self.asm.mov(R0, R8);
        self.asm.set(R1, interval);
        self.asm.alu(Alu::Div, R0, R1);
    }

    /// r0: the number of the bucket of the value in r1.
    fn bucket(&mut self, content: Content) {
        match content {
            Content::Hist { bits } => self.log2_bucket(bits),
            Content::LinearHist { min, max, step } => self.linear_bucket(min, max, step, content.buckets().unwrap_or_default()),
            Content::TimeSeries { interval, buckets, .. } => {
                self.interval(interval);
                self.asm.alu_imm(Alu::Mod, R0, buckets as i32);
            }
            _ => {}
        }
    }

    /// As [`crate::aggregate::log2_bucket`].
    fn log2_bucket(&mut self, bits: u8) {
        let (small, done) = (self.asm.label(), self.asm.label());
        let bits = i32::from(bits);
        self.asm.set(R0, 0);
        self.asm.jump_if_imm(Cond::SignedLt, R1, 0, done);
        self.asm.jump_if_imm(Cond::Lt, R1, 1 << bits, small);
        // r0: the logarithm, found by halving.
        self.asm.mov(R2, R1);
        for shift in [32, 16, 8, 4, 2, 1] {
            let less = self.asm.label();
            self.asm.mov(R3, R2);
            self.asm.alu_imm(Alu::Rsh, R3, shift);
            self.asm.jump_if_imm(Cond::Eq, R3, 0, less);
            self.asm.mov(R2, R3);
            self.asm.alu_imm(Alu::Add, R0, shift);
            self.asm.place(less);
        }
        if bits == 0 {
            self.asm.alu_imm(Alu::Add, R0, 2);
        } else {
            self.asm.alu_imm(Alu::Sub, R0, bits);
            // It is 0 to 63; the verifier wants to see it.
            self.asm.alu_imm(Alu::And, R0, 63);
            self.asm.mov(R4, R1);
            self.asm.alu(Alu::Rsh, R4, R0);
            self.asm.alu_imm(Alu::And, R4, (1 << bits) - 1);
            self.asm.alu_imm(Alu::Add, R0, 1);
            self.asm.alu_imm(Alu::Lsh, R0, bits);
            self.asm.alu(Alu::Add, R0, R4);
            self.asm.alu_imm(Alu::Add, R0, 1);
        }
        self.asm.jump(done);
        self.asm.place(small);
        self.asm.mov(R0, R1);
        self.asm.alu_imm(Alu::Add, R0, 1);
        self.asm.place(done);
    }

    /// As [`crate::aggregate::linear_bucket`].
    fn linear_bucket(&mut self, min: i64, max: i64, step: i64, buckets: u32) {
        let done = self.asm.label();
        self.asm.set(R0, 0);
        self.asm.set(R2, min.cast_unsigned());
        self.asm.jump_if(Cond::SignedLt, R1, R2, done);
        self.asm.set(R0, u64::from(buckets) - 1);
        self.asm.set(R3, max.cast_unsigned());
        self.asm.jump_if(Cond::SignedGe, R1, R3, done);
        self.asm.mov(R0, R1);
        self.asm.alu(Alu::Sub, R0, R2);
        self.asm.set(R2, step.cast_unsigned());
        self.asm.alu(Alu::Div, R0, R2);
        self.asm.alu_imm(Alu::Add, R0, 1);
        self.asm.place(done);
    }
}
