//! The session's own programs that follow a command's children: they mark what a marked process forks, and unmark what ends.
//!
//! They run also while the gate is closed: who is in scope must be known before the opening. They record nothing else.

use aya_obj::generated::bpf_func_id::BPF_FUNC_get_current_pid_tgid;

use crate::{
    assemble::{Alu, Assembler, Cond, Label, R0, R1, R2, R3, R4, R6, R7, Reg, TooLarge, Width},
    compile::program_name,
    kernel::Kernel,
    output::{Hook, MapRef, Program},
    processes::{IN_SCOPE, SIZE},
};

/// The trackers can't be made for this kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The kernel's types lack something that has been there in every kernel since 5.5.
    #[error("this kernel's BTF has no `{0}`, which following a command's children needs; `--system-wide` does without")]
    NoMember(&'static str),
    /// A bug: they are a few dozen instructions.
    #[error("the programs that follow a command's children: {0}")]
    TooLarge(String),
}

/// Makes the trackers.
pub fn trackers(kernel: &dyn Kernel) -> Result<Vec<Program>, ScopeError> {
    let offset =
        |structure, member, whole| kernel.btf().member(structure, member).map(|(o, _)| o).ok_or(ScopeError::NoMember(whole));
    let tgid = offset("task_struct", "tgid", "task_struct.tgid")?;
    let signal = offset("task_struct", "signal", "task_struct.signal")?;
    let live = offset("signal_struct", "live.counter", "signal_struct.live")?;
    let fork = program("sched_process_fork", |asm, _| fork(asm, tgid));
    let exit = program("sched_process_exit", |asm, out| exit(asm, signal, live, out));
    [fork, exit].into_iter().map(|p| p.map_err(|e| ScopeError::TooLarge(e.to_string()))).collect()
}

fn program(tracepoint: &str, body: impl FnOnce(&mut Assembler, Label)) -> Result<Program, TooLarge> {
    let mut asm = Assembler::default();
    let (main, out) = (asm.label(), asm.label());
    asm.function(main, tracepoint);
    asm.mov(R6, R1);
    // The task that runs: the parent at a fork, the one that ends at an exit.
    asm.call(BPF_FUNC_get_current_pid_tgid);
    asm.alu_imm(Alu::Rsh, R0, 32);
    mark_of(&mut asm, R7, R0);
    asm.load(Width::W1, R2, R7, 0);
    asm.alu_imm(Alu::And, R2, i32::from(IN_SCOPE));
    asm.jump_if_imm(Cond::Eq, R2, 0, out);
    body(&mut asm, out);
    asm.place(out);
    asm.set(R0, 0);
    asm.exit();
    let code = asm.finish()?;
    let hook = Hook::TpBtf { name: tracepoint.to_owned() };
    Ok(Program { name: program_name(&hook), hook, probes: Vec::new(), insns: code.insns, maps: code.maps, notes: code.notes })
}

/// `dst`: the address of the mark of the process in `pid`.
fn mark_of(asm: &mut Assembler, dst: Reg, pid: Reg) {
    asm.alu_imm(Alu::And, pid, SIZE as i32 - 1);
    asm.map_value(dst, MapRef::Processes, 0);
    asm.alu(Alu::Add, dst, pid);
}

/// sched_process_fork(struct task_struct *parent, struct task_struct *child), before the child runs (kernel_clone() in
/// kernel/fork.c wakes it afterwards).
fn fork(asm: &mut Assembler, tgid: u32) {
    asm.load(Width::W8, R3, R6, 8);
    asm.load(Width::W4, R4, R3, tgid as i16);
    mark_of(asm, R1, R4);
    asm.load(Width::W1, R2, R1, 0);
    asm.alu_imm(Alu::Or, R2, i32::from(IN_SCOPE));
    asm.store(Width::W1, R1, 0, R2);
}

/// sched_process_exit(struct task_struct *p, ...): the process ends with its last thread, and do_exit() in kernel/exit.c has
/// counted this one out of `signal->live` already.
fn exit(asm: &mut Assembler, signal: u32, live: u32, out: Label) {
    asm.load(Width::W8, R3, R6, 0);
    asm.load(Width::W8, R3, R3, signal as i16);
    asm.load(Width::W4, R4, R3, live as i16);
    asm.jump_if_imm(Cond::Ne, R4, 0, out);
    asm.load(Width::W1, R2, R7, 0);
    asm.alu_imm(Alu::And, R2, !i32::from(IN_SCOPE));
    asm.store(Width::W1, R7, 0, R2);
}
