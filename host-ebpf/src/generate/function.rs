//! A probe half: whether this hit is one of its probe, its counters, and the body.

use aya_obj::generated::bpf_func_id::{
    BPF_FUNC_get_current_ancestor_cgroup_id, BPF_FUNC_get_current_pid_tgid, BPF_FUNC_get_current_task,
    BPF_FUNC_get_current_uid_gid, BPF_FUNC_get_smp_processor_id, BPF_FUNC_ktime_get_ns, BPF_FUNC_probe_read_kernel,
};

use super::{
    At, Context, GenerateError, STACK, WHOLE_STACK,
    frames::Frames,
    gate_bit, rate,
    room::{SCRATCH, Spot},
    statement,
    whole::Wholes,
};
use crate::{
    Broken,
    assemble::{Alu, Assembler, Cond, FP, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, Reg, Width},
    attach::{Iterated, Whose},
    check::ir::{Save, text_room},
    counters::{Counter, StreamCounter},
    kernel::syscalls::TS_COMPAT,
    output::MapRef,
    plan::{Function, Half, Nesting},
    processes,
    spec::{Limit, Scope},
};

pub(super) struct Generator<'a> {
    pub(super) asm: Assembler,
    pub(super) context: &'a Context<'a>,
    pub(super) frames: &'a Frames<'a>,
    pub(super) function: &'a Function,
    pub(super) at: At,
    /// The stack in use, in bytes below the frame pointer, and the most that it was.
    used: u32,
    most: u32,
    /// The same of the scratch map.
    pub(super) scratch_used: u32,
    pub(super) scratch_most: u32,
    /// How much of the scratch map the function will have used.
    scratch_needed: u32,
    /// Where the address of the scratch map's value is that is claimed; 0 if there is no place for it yet.
    pub(super) scratch: i16,
    /// The number of the place, where the function is told it.
    pub(super) cookie: i16,
    /// What `bpf_get_current_pid_tgid` returned, or would of the task that an iterator is at: process id above, thread id below.
    pub(super) pid_tgid: i16,
    /// The variables.
    variables: Vec<i16>,
    /// In a span's exit half: when it began, and what its entry kept.
    pub(super) entry_time: i16,
    pub(super) saved: i16,
    /// The same of call stacks, by position in the body's saves.
    pub(super) saved_stacks: Vec<(usize, Spot)>,
    /// The scratch map's value has been claimed.
    pub(super) claimed: bool,
    /// The key of a span that is not the thread's id alone.
    pub(super) span_key: i16,
    /// Where to note that memory was not there, for whoever wants to know.
    pub(super) fault: Option<i16>,
    /// The loops around a statement: where the next round begins, and what follows.
    pub(super) loops: Vec<(Label, Label)>,
    /// The program's functions for whole maps, and whether this function has a use for one.
    pub(super) wholes: Wholes,
    pub(super) uses_wholes: bool,
    /// The end of the body, whatever path it took.
    pub(super) completed: Label,
    /// The end of the function.
    out: Label,
}

/// What became of a function.
pub(super) struct Generated {
    pub(super) asm: Assembler,
    pub(super) wholes: Wholes,
    pub(super) scratch: u32,
}

impl<'a> Generator<'a> {
    pub(super) fn new(
        mut asm: Assembler,
        wholes: Wholes,
        context: &'a Context<'a>,
        frames: &'a Frames<'a>,
        function: &'a Function,
        at: At,
        scratch_needed: u32,
    ) -> Self {
        let (completed, out) = (asm.label(), asm.label());
        Generator {
            asm,
            context,
            frames,
            function,
            at,
            used: 0,
            most: 0,
            scratch_used: 0,
            scratch_most: 0,
            scratch_needed,
            scratch: 0,
            cookie: 0,
            pid_tgid: 0,
            variables: Vec::new(),
            entry_time: 0,
            saved: 0,
            saved_stacks: Vec::new(),
            claimed: false,
            span_key: 0,
            fault: None,
            loops: Vec::new(),
            wholes,
            uses_wholes: false,
            completed,
            out,
        }
    }

    pub(super) fn generate(mut self) -> Result<Generated, GenerateError> {
        self.pid_tgid = self.allocate(8);
        self.asm.mov(R6, R1);
        self.asm.mov(R7, R2);
        self.asm.mov(R8, R3);
        let asks = self.function.nesting == Nesting::Place || self.function.body.names.each().next().is_some();
        if asks && self.at.place.is_none() {
            self.cookie = self.allocate(8);
            self.asm.store(Width::W8, FP, self.cookie, R4);
        }
        if self.function.syscall {
            self.native_abi();
        }
        match self.function.whose {
            Whose::Iterated(at) => self.iterated(at),
            Whose::Running | Whose::Nobody | Whose::Host => self.asm.call(BPF_FUNC_get_current_pid_tgid),
        }
        self.asm.store(Width::W8, FP, self.pid_tgid, R0);
        if matches!(self.function.whose, Whose::Running | Whose::Iterated(_)) {
            self.scope();
        }
        self.within();
        self.find_counters();
        self.limits();
        self.gate();
        match self.function.half {
            Half::Entry => self.span_entry(),
            Half::Exit => {
                self.span_exit();
                self.body();
            }
            Half::Whole => self.body(),
        }
        self.asm.place(self.out);
        self.asm.set(R0, 0);
        self.asm.exit();
        let there = if self.uses_wholes { STACK - WHOLE_STACK } else { STACK };
        if self.most > there {
            return Err(GenerateError::Stack { probe: self.function.probe, needed: self.most, there });
        }
        if self.scratch_most > SCRATCH {
            return Err(GenerateError::Scratch { probe: self.function.probe, needed: self.scratch_most });
        }
        Ok(Generated { asm: self.asm, wholes: self.wholes, scratch: self.scratch_most })
    }

    /// Room on the stack, aligned to 8 bytes; the offset from the frame pointer of its first byte.
    pub(super) fn allocate(&mut self, bytes: u32) -> i16 {
        self.used += bytes.next_multiple_of(8);
        self.most = self.most.max(self.used);
        // Past the limit the offset means nothing; `generate` refuses the function.
        -(self.used.min(STACK) as i16)
    }

    /// Gives back what was allocated last.
    pub(super) fn release(&mut self, bytes: u32) {
        self.used -= bytes.next_multiple_of(8);
    }

    pub(super) fn leave(&mut self) {
        self.asm.jump(self.out);
    }

    /// The raw tracepoints fire for 32-bit calls, too, whose numbers mean other calls: `int 0x80` with 20 is getpid, not writev.
    fn native_abi(&mut self) {
        let Some(status) = self.context.thread_status else { return };
        let flags = self.allocate(4);
        self.asm.call(BPF_FUNC_get_current_task);
        self.asm.mov(R3, R0);
        self.asm.alu_imm(Alu::Add, R3, status as i32);
        self.asm.set(R2, 4);
        self.stack_address(R1, flags);
        self.asm.call(BPF_FUNC_probe_read_kernel);
        self.asm.load(Width::W4, R1, FP, flags);
        self.asm.alu_imm(Alu::And, R1, TS_COMPAT as i32);
        self.asm.jump_if_imm(Cond::Ne, R1, 0, self.out);
        self.release(4);
    }

    /// r0: of the task that an iterator is at what `bpf_get_current_pid_tgid` returns of the one that runs. Leaves behind the last one.
    fn iterated(&mut self, at: Iterated) {
        self.asm.load(Width::W8, R1, R6, 8 * at.object as i16);
        self.asm.jump_if_imm(Cond::Eq, R1, 0, self.out);
        self.asm.load(Width::W8, R1, R6, 8 * at.task as i16);
        self.asm.jump_if_imm(Cond::Eq, R1, 0, self.out);
        self.asm.load(Width::W4, R0, R1, at.tgid as i16);
        self.asm.load(Width::W4, R2, R1, at.pid as i16);
        self.asm.alu_imm(Alu::Lsh, R0, 32);
        self.asm.alu(Alu::Or, R0, R2);
    }

    /// Leaves for tasks out of scope and for the host's own. In r0 is what `bpf_get_current_pid_tgid` returned.
    fn scope(&mut self) {
        self.asm.alu_imm(Alu::Rsh, R0, 32);
        // No process id is larger; the verifier wants to see it.
        self.asm.alu_imm(Alu::And, R0, processes::SIZE as i32 - 1);
        self.asm.map_value(R1, MapRef::Processes, 0);
        self.asm.alu(Alu::Add, R1, R0);
        self.asm.load(Width::W1, R1, R1, 0);
        match self.context.options.scope {
            Scope::System => {
                self.asm.alu_imm(Alu::And, R1, i32::from(processes::OWN));
                self.asm.jump_if_imm(Cond::Ne, R1, 0, self.out);
            }
            Scope::Marked => {
                self.asm.alu_imm(Alu::And, R1, i32::from(processes::OWN | processes::IN_SCOPE));
                self.asm.jump_if_imm(Cond::Ne, R1, i32::from(processes::IN_SCOPE), self.out);
            }
        }
    }

    /// Leaves for running tasks of other users and control groups. What helpers do not tell is asked in `limits`.
    fn within(&mut self) {
        let options = self.context.options;
        let asked = match self.function.whose {
            Whose::Host | Whose::Iterated(_) => &[][..],
            Whose::Nobody => &options.granted,
            Whose::Running => {
                self.task_within(&options.limits);
                &options.granted
            }
        };
        self.task_within(asked);
    }

    fn task_within(&mut self, limits: &[Limit]) {
        for limit in limits {
            match *limit {
                Limit::Process(_) => {}
                Limit::User(uid) => {
                    self.asm.call(BPF_FUNC_get_current_uid_gid);
                    self.asm.zero_extend_32(R0);
                    self.asm.set(R1, uid.into());
                    self.asm.jump_if(Cond::Ne, R0, R1, self.out);
                }
                Limit::Cgroup(cgroup) => {
                    // The task's own control group, or the one above it at that level.
                    self.asm.set(R1, cgroup.level.into());
                    self.asm.call(BPF_FUNC_get_current_ancestor_cgroup_id);
                    self.asm.set(R1, cgroup.id);
                    self.asm.jump_if(Cond::Ne, R0, R1, self.out);
                }
            }
        }
    }

    /// Leaves for tasks that are not what is asked of them.
    fn limits(&mut self) {
        let function = self.function;
        if let Some(limits) = &function.body.limits {
            self.branch(limits, false, self.out);
        }
    }

    /// r9: this CPU's block of counters.
    fn find_counters(&mut self) {
        if self.context.options.without_counters {
            return;
        }
        let layout = &self.context.counters;
        self.asm.call(BPF_FUNC_get_smp_processor_id);
        // There is no such CPU; the verifier wants to see it.
        self.asm.jump_if_imm(Cond::Gt, R0, layout.cpus as i32 - 1, self.out);
        self.asm.alu_imm(Alu::Mul, R0, layout.stride() as i32);
        self.asm.map_value(R9, MapRef::Counters, 0);
        self.asm.alu(Alu::Add, R9, R0);
    }

    fn gate(&mut self) {
        let (hits, closed) = match self.function.half {
            Half::Entry => (Counter::EntryHits, Counter::EntryHitsClosed),
            Half::Whole | Half::Exit => (Counter::Hits, Counter::HitsClosed),
        };
        if self.context.options.gate.is_some() {
            let open = self.asm.label();
            self.asm.jump_if_imm(Cond::Ne, R7, 0, open);
            self.bump(closed);
            self.leave();
            self.asm.place(open);
        }
        self.bump(hits);
        if let (Some(bit), Some(Broken::ReadsGateTwice)) = (self.context.options.gate, self.context.options.broken) {
            gate_bit(&mut self.asm, R7, bit);
            self.asm.jump_if_imm(Cond::Eq, R7, 0, self.out);
        }
    }

    /// Adds 1 to a counter of the probe. Uses r1 and r2.
    pub(super) fn bump(&mut self, counter: Counter) {
        let options = self.context.options;
        if options.without_counter != Some(counter) && !options.without_counters {
            self.add_one(self.context.counters.probe(self.function.probe, counter));
        }
    }

    /// Adds 1 to a counter of a stream. Uses r1 and r2.
    pub(super) fn bump_stream(&mut self, stream: usize, counter: StreamCounter) {
        let options = self.context.options;
        if options.without_stream_counter != Some(counter) && !options.without_counters {
            self.add_one(self.context.counters.stream(stream, counter));
        }
    }

    /// Atomic, since another program on this CPU can interrupt this one.
    fn add_one(&mut self, offset: u32) {
        self.asm.set(R1, 1);
        match i16::try_from(offset) {
            Ok(offset) => self.asm.atomic_add(R9, offset, R1),
            Err(_) => {
                self.asm.mov(R2, R9);
                self.asm.alu_imm(Alu::Add, R2, offset as i32);
                self.asm.atomic_add(R2, 0, R1);
            }
        }
    }

    /// r8: the time of this run, taken now unless it was before.
    pub(super) fn time(&mut self) {
        let known = self.asm.label();
        self.asm.jump_if_imm(Cond::Ne, R8, 0, known);
        self.asm.call(BPF_FUNC_ktime_get_ns);
        self.asm.mov(R8, R0);
        self.asm.place(known);
    }

    /// The predicate, the rate limit and the statements.
    fn body(&mut self) {
        let function = self.function;
        let body = &function.body;
        let (filtered, shed) = (self.asm.label(), self.asm.label());
        for text in &body.variables {
            let size = if *text == 0 { 8 } else { text_room(*text) };
            let slot = self.allocate(size);
            self.variables.push(slot);
            // Through a register: the verifier then knows the value.
            self.asm.set(R0, 0);
            for at in (0..size as i16).step_by(8) {
                self.asm.store(Width::W8, FP, slot + at, R0);
            }
        }
        if self.scratch_needed > 0 && !self.claimed {
            self.claim_scratch(|this| this.bump(Counter::Completed));
        }
        if let Some((when, source)) = &body.when {
            if when.needs_time() {
                self.time();
            }
            self.asm.note(&source.0);
            self.branch(when, false, filtered);
        }
        let rate = rate::of(self.context.options, function);
        if let Some(rate) = rate {
            self.within_rate(rate, shed);
        } else if statement::needs_time(&body.statements) {
            self.time();
        }
        self.statements(&body.statements);
        self.asm.place(self.completed);
        self.bump(Counter::Completed);
        if self.scratch_needed > 0 {
            self.release_scratch();
        }
        self.leave();
        self.asm.place(filtered);
        self.bump(Counter::Filtered);
        if self.scratch_needed > 0 {
            self.release_scratch();
        }
        if rate.is_some() {
            self.leave();
            self.asm.place(shed);
            self.bump(Counter::Shed);
            if self.scratch_needed > 0 {
                self.release_scratch();
            }
        }
    }

    /// The stack slot of a variable.
    pub(super) fn variable(&self, index: usize) -> i16 {
        self.variables.get(index).copied().unwrap_or_default()
    }

    /// The stack slot of what a span's entry kept.
    pub(super) fn saved(&self, index: usize) -> i16 {
        let before: u32 = self.function.body.saves.iter().take(index).map(Save::on_stack).sum();
        self.saved.wrapping_add(before as i16)
    }

    pub(super) fn stack_address(&mut self, dst: Reg, offset: i16) {
        self.asm.mov(dst, FP);
        self.asm.alu_imm(Alu::Add, dst, i32::from(offset));
    }
}
