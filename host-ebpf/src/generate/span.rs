//! Spans: the entry half keeps {generation, time, values} under the thread's id, the exit half takes it.
//!
//! An entry of another generation, or none, makes the exit `unpaired` (G4): a call that was entered before the gate opened, or
//! before a pause, or that never was, such as a clone's return in the child.

use std::mem::offset_of;

use aya_obj::generated::{
    BPF_EXIST, BPF_NOEXIST,
    bpf_func_id::{BPF_FUNC_map_delete_elem, BPF_FUNC_map_lookup_elem, BPF_FUNC_map_update_elem},
};

use super::{function::Generator, room::Spot};
use crate::{
    Broken,
    assemble::{Cond, FP, R0, R1, R2, R3, R4, R7, R8, Reg, Width},
    check::ir::{Save, TaskField, Value},
    counters::Counter,
    gate,
    output::{MapRef, SpanEntry},
    plan::{Nesting, SpanPlan},
};

/// The offsets in [`SpanEntry`], and of what follows it.
const GENERATION: i16 = offset_of!(SpanEntry, generation) as i16;
const TIME: i16 = offset_of!(SpanEntry, time) as i16;
const THREAD: i16 = offset_of!(SpanEntry, thread) as i16;
const SAVED: i16 = size_of::<SpanEntry>() as i16;

/// An element of this key is not there, or is (include/uapi/asm-generic/errno-base.h).
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

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

    fn broken(&self, mechanism: Broken) -> bool {
        self.context.options.broken == Some(mechanism)
    }

    fn map(&self) -> MapRef {
        MapRef::Span(self.function.probe)
    }

    fn plan(&self) -> SpanPlan {
        self.context.spans.get(&self.function.probe).copied().unwrap_or_default()
    }

    pub(super) fn span_entry(&mut self) {
        let function = self.function;
        let size = SAVED as u32 + self.plan().saved;
        self.bump(Counter::Entered);
        self.time();
        let stacks = function.body.saves.iter().any(Save::is_stack);
        let entry = if stacks {
            self.claim_scratch(|this| this.bump(Counter::Lost));
            self.scratch_room(size)
        } else {
            Spot::stack(self.allocate(size))
        };
        self.build_span_key(function.body.key.as_ref().map(|(entry, _)| entry.as_slice()));
        let mut at = SAVED as u32;
        for save in &function.body.saves {
            let spot = entry.at(at);
            match save {
                Save::Int(value) => {
                    self.value(value);
                    self.put(Width::W8, spot);
                }
                Save::Text(text) => self.put_text(text, spot, text.capacity(), true, None),
                Save::Stack(stack) => self.put_stack(stack, spot, stack.depth()),
            }
            at += save.size();
        }
        // Where another target of the probe keeps more, the rest is zero.
        self.zero(entry, at, size);
        let (base, offset) = self.reach(entry, R2);
        self.asm.store(Width::W8, base, offset + TIME, R8);
        self.value(&Value::Task(TaskField::Tid));
        let (base, offset) = self.reach(entry, R2);
        self.asm.store(Width::W8, base, offset + THREAD, R0);
        match self.broken(Broken::NoGeneration) {
            true => self.asm.set(R7, 0),
            false => self.generation(R7),
        }
        self.asm.store(Width::W8, base, offset + GENERATION, R7);
        // An element that is there already is of a call that never returned (a thread that exited within it had this id), or of
        // another generation. Only the former is lost now.
        let (new, update, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.lookup();
        self.asm.jump_if_imm(Cond::Eq, R0, 0, new);
        self.asm.load(Width::W8, R1, R0, GENERATION);
        self.asm.jump_if(Cond::Ne, R1, R7, update);
        self.bump(Counter::Lost);
        self.asm.place(update);
        if !stacks {
            for at in (0..size as i16).step_by(8) {
                self.asm.load(Width::W8, R1, FP, offset + at);
                self.asm.store(Width::W8, R0, at, R1);
            }
            self.leave();
        }
        // Where the key is not the thread's, another CPU may put an entry there meanwhile: that one stays, and this one is lost. Or its exit takes
        // the one that was there: then this one is the lost one, which has been counted.
        let insert = self.asm.label();
        if stacks {
            self.asm.set(R7, u64::from(BPF_EXIST));
            self.asm.jump(insert);
        }
        self.asm.place(new);
        self.asm.set(R7, u64::from(BPF_NOEXIST));
        self.asm.place(insert);
        self.key(R2);
        self.address(R3, entry);
        self.asm.map(R1, self.map());
        self.asm.mov(R4, R7);
        self.asm.call(BPF_FUNC_map_update_elem);
        self.asm.jump_if_imm(Cond::Eq, R0, 0, done);
        let lost = self.asm.label();
        if stacks {
            self.asm.jump_if_imm(Cond::Eq, R0, -ENOENT, done);
        }
        self.asm.jump_if_imm(Cond::Eq, R0, -EEXIST, lost);
        self.bump(Counter::MapFull);
        self.asm.place(lost);
        self.bump(Counter::Lost);
        self.asm.place(done);
        self.release_span_key();
        if stacks {
            self.release_scratch();
        } else {
            self.release(size);
        }
    }

    /// Goes on with the entry's values on the stack, or leaves.
    pub(super) fn span_exit(&mut self) {
        let function = self.function;
        let saved: u32 = function.body.saves.iter().map(Save::on_stack).sum();
        self.entry_time = self.allocate(8);
        self.saved = self.allocate(saved);
        let stacks = function.body.saves.iter().any(Save::is_stack);
        if stacks {
            // Before the key, which is given back.
            self.scratch = self.allocate(8);
        }
        let (unpaired, stale, paired) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.build_span_key(function.body.key.as_ref().map(|(_, exit)| exit.as_slice()));
        self.lookup();
        self.asm.jump_if_imm(Cond::Eq, R0, 0, unpaired);
        self.asm.mov(R7, R0);
        match self.broken(Broken::NoGeneration) {
            true => self.asm.load(Width::W8, R2, R7, GENERATION),
            false => self.generation(R2),
        }
        self.asm.load(Width::W8, R1, R7, GENERATION);
        self.asm.jump_if(Cond::Ne, R1, R2, stale);
        if stacks {
            self.claim_scratch(|this| {
                this.delete();
                this.bump(Counter::Matched);
                this.bump(Counter::Completed);
            });
            self.claimed = true;
        }
        self.asm.load(Width::W8, R1, R7, TIME);
        self.asm.store(Width::W8, FP, self.entry_time, R1);
        self.take_saved();
        // Of several exits with one key, on several CPUs, one takes the entry.
        let taken = self.asm.label();
        self.delete();
        self.asm.jump_if_imm(Cond::Eq, R0, 0, taken);
        if stacks {
            self.release_scratch();
        }
        self.asm.jump(unpaired);
        self.asm.place(taken);
        self.bump(Counter::Matched);
        self.asm.jump(paired);
        self.asm.place(stale);
        self.delete();
        self.asm.place(unpaired);
        if self.broken(Broken::NoPairing) && !stacks {
            self.zero(Spot::stack(self.entry_time), 0, 8);
            self.zero(Spot::stack(self.saved), 0, saved);
            self.bump(Counter::Matched);
        } else {
            self.bump(Counter::Unpaired);
            self.leave();
        }
        self.asm.place(paired);
        self.release_span_key();
    }

    /// Copies what the entry kept from the element that r7 points to: what follows each other on the stack at once.
    fn take_saved(&mut self) {
        let (mut from, mut to, mut pending) = (SAVED, self.saved, 0);
        for (index, save) in self.function.body.saves.iter().enumerate() {
            if !save.is_stack() {
                pending += save.size();
                continue;
            }
            self.copy(Spot::stack(to), R7, from, pending);
            from = from.wrapping_add(pending as i16);
            to = to.wrapping_add(pending as i16);
            pending = 0;
            let spot = self.scratch_room(save.size());
            self.copy(spot, R7, from, save.size());
            self.saved_stacks.push((index, spot));
            from = from.wrapping_add(save.size() as i16);
        }
        self.copy(Spot::stack(to), R7, from, pending);
    }

    /// Builds a key that is more than the thread's id: what joins the halves, or the thread and the target.
    fn build_span_key(&mut self, key: Option<&[Value]>) {
        let plan = self.plan();
        if plan.parts == 0 {
            return;
        }
        self.span_key = self.allocate(plan.key_size());
        let key_slot = self.span_key;
        let Some(key) = key else {
            self.value(&Value::Task(TaskField::Tid));
            self.asm.store(Width::W8, FP, key_slot, R0);
            match (self.function.nesting, self.at.place) {
                (Nesting::Place, None) => self.asm.load(Width::W8, R0, FP, self.cookie),
                (Nesting::Place, Some(number)) | (Nesting::Pair(number), _) => self.asm.set(R0, number.into()),
                (Nesting::One, _) => self.asm.set(R0, 0),
            }
            self.asm.store(Width::W8, FP, key_slot + 8, R0);
            return;
        };
        for (i, part) in key.iter().enumerate() {
            self.value(part);
            self.asm.store(Width::W8, FP, key_slot + 8 * i as i16, R0);
        }
    }

    fn release_span_key(&mut self) {
        if self.plan().parts > 0 {
            self.release(self.plan().key_size());
        }
    }

    /// `dst`: the address of the key; without another it is the thread's id, the lower half of what the kernel says.
    fn key(&mut self, dst: Reg) {
        let low = if cfg!(target_endian = "big") { self.pid_tgid + 4 } else { self.pid_tgid };
        let at = if self.plan().parts > 0 { self.span_key } else { low };
        self.stack_address(dst, at);
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
