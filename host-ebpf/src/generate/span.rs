//! Spans: the entry half keeps {generation, time, values} under the thread's id, the exit half takes it.
//!
//! An entry of another generation, or none, makes the exit `unpaired` (G4): a call that was entered before the gate opened, or
//! before a pause, or that never was, such as a clone's return in the child.

use aya_obj::generated::{
    BPF_ANY,
    bpf_func_id::{BPF_FUNC_map_delete_elem, BPF_FUNC_map_lookup_elem, BPF_FUNC_map_update_elem},
};

use super::function::Generator;
use crate::{
    assemble::{Alu, Cond, FP, R0, R1, R2, R3, R4, R7, R8, Reg, Width},
    counters::Counter,
    gate,
    output::MapRef,
};

/// The offsets in [`crate::output::SpanEntry`].
const GENERATION: i16 = 0;
const TIME: i16 = 8;
const SAVED: i16 = 16;

impl Generator<'_> {
    /// `dst`: the plugin's generation; 0 in a run without a gate, which has but one.
    fn generation(&mut self, dst: Reg) {
        match self.context.options.gate {
            Some(bit) => {
                self.asm.map_value(dst, MapRef::Gate, gate::generation(bit));
                self.asm.load(Width::W8, dst, dst, 0);
            }
            None => self.asm.set(dst, 0),
        }
    }

    fn map(&self) -> MapRef {
        MapRef::Span(self.function.probe)
    }

    pub(super) fn span_entry(&mut self) {
        let saves = self.context.saves.get(&self.function.probe).copied().unwrap_or(0);
        let size = SAVED as u32 + 8 * saves as u32;
        let entry = self.allocate(size);
        self.bump(Counter::Entered);
        self.time();
        for i in 0..saves {
            // Where another target of the probe keeps more, the rest is zero.
            match self.function.body.saves.get(i) {
                Some(value) => self.value(value),
                None => self.asm.set(R0, 0),
            }
            self.asm.store(Width::W8, FP, entry + SAVED + 8 * i as i16, R0);
        }
        self.asm.store(Width::W8, FP, entry + TIME, R8);
        self.generation(R7);
        self.asm.store(Width::W8, FP, entry + GENERATION, R7);
        // An element that is there already is of a call that never returned (a thread that exited within it had this id), or of
        // another generation. Only the former is lost now.
        let (insert, update, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.lookup();
        self.asm.jump_if_imm(Cond::Eq, R0, 0, insert);
        self.asm.load(Width::W8, R1, R0, GENERATION);
        self.asm.jump_if(Cond::Ne, R1, R7, update);
        self.bump(Counter::Lost);
        self.asm.place(update);
        for offset in (0..size as i16).step_by(8) {
            self.asm.load(Width::W8, R1, FP, entry + offset);
            self.asm.store(Width::W8, R0, offset, R1);
        }
        self.leave();
        self.asm.place(insert);
        self.key(R2);
        self.stack_address(R3, entry);
        self.asm.map(R1, self.map());
        self.asm.set(R4, u64::from(BPF_ANY));
        self.asm.call(BPF_FUNC_map_update_elem);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, done);
        self.bump(Counter::MapFull);
        self.bump(Counter::Lost);
        self.asm.place(done);
        self.release(size);
    }

    /// Goes on with the entry's values on the stack, or leaves.
    pub(super) fn span_exit(&mut self) {
        let saves = self.function.body.saves.len();
        self.entry_time = self.allocate(8);
        self.saved = self.allocate(8 * saves as u32);
        let (unpaired, stale, paired) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.lookup();
        self.asm.jump_if_imm(Cond::Eq, R0, 0, unpaired);
        self.asm.mov(R7, R0);
        self.generation(R2);
        self.asm.load(Width::W8, R1, R7, GENERATION);
        self.asm.jump_if(Cond::Ne, R1, R2, stale);
        self.asm.load(Width::W8, R1, R7, TIME);
        self.asm.store(Width::W8, FP, self.entry_time, R1);
        for i in 0..saves as i16 {
            self.asm.load(Width::W8, R1, R7, SAVED + 8 * i);
            self.asm.store(Width::W8, FP, self.saved + 8 * i, R1);
        }
        self.delete();
        self.bump(Counter::Matched);
        self.asm.jump(paired);
        self.asm.place(stale);
        self.delete();
        self.asm.place(unpaired);
        self.bump(Counter::Unpaired);
        self.leave();
        self.asm.place(paired);
    }

    /// r2: the address of the thread's id, the lower half of what the kernel says.
    fn key(&mut self, dst: Reg) {
        let low = if cfg!(target_endian = "big") { self.pid_tgid + 4 } else { self.pid_tgid };
        self.asm.mov(dst, FP);
        self.asm.alu_imm(Alu::Add, dst, i32::from(low));
    }

    fn lookup(&mut self) {
        self.key(R2);
        self.asm.map(R1, self.map());
        self.asm.call(BPF_FUNC_map_lookup_elem);
    }

    fn delete(&mut self) {
        self.key(R2);
        self.asm.map(R1, self.map());
        self.asm.call(BPF_FUNC_map_delete_elem);
    }
}
