//! The session's own program that keeps the process table: at every fork it says of the child whether it is in scope.
//!
//! It runs also while the gate is closed: who is in scope must be known before the opening. It records nothing else.
//!
//! A process stays marked to its last instruction, and longer: its number means it until a fork gives the number to another, and
//! then that fork's mark is the one that counts. Nothing hooks the end of a process: what a probe sees there comes in an order
//! that differs from kernel to kernel, and between the last of it and the number's return is no place that all kernels have.

use aya_obj::generated::bpf_func_id::BPF_FUNC_get_current_pid_tgid;

use crate::{
    assemble::{Alu, Assembler, Cond, R0, R1, R2, R3, R4, R6, Reg, TooLarge, Width},
    compile::program_name,
    kernel::Kernel,
    output::{Hook, MapRef, Program},
    processes::{IN_SCOPE, SIZE},
};

/// What comes of a marked process's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// They are in scope as well.
    Follow,
    /// They are not.
    Leave,
}

/// The tracker can't be made for this kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The kernel's types lack something that has been there in every kernel since 5.5.
    #[error("this kernel's BTF has no `{0}`, without which a run can't be kept to some processes; `--system-wide` does without")]
    NoMember(&'static str),
    /// A bug: it is a few dozen instructions.
    #[error("the program that says which processes are in scope: {0}")]
    TooLarge(String),
}

/// Makes the tracker.
pub fn tracker(kernel: &dyn Kernel, children: Children) -> Result<Program, ScopeError> {
    let tgid = kernel.btf().member("task_struct", "tgid").ok_or(ScopeError::NoMember("task_struct.tgid"))?.0;
    program("sched_process_fork", tgid, children).map_err(|e| ScopeError::TooLarge(e.to_string()))
}

/// sched_process_fork(struct task_struct *parent, struct task_struct *child), before the child runs (kernel_clone() in
/// kernel/fork.c wakes it afterwards). A thread has its process's mark. Those that the kernel makes without the event are such
/// threads (create_io_thread(), vhost_task_create()).
fn program(tracepoint: &str, tgid: u32, children: Children) -> Result<Program, TooLarge> {
    let mut asm = Assembler::default();
    let (main, out) = (asm.label(), asm.label());
    asm.function(main, tracepoint);
    asm.mov(R6, R1);
    // The parent runs.
    asm.call(BPF_FUNC_get_current_pid_tgid);
    asm.alu_imm(Alu::Rsh, R0, 32);
    asm.load(Width::W8, R3, R6, 8);
    asm.load(Width::W4, R4, R3, tgid as i16);
    asm.jump_if(Cond::Eq, R4, R0, out);
    // No mark is left of another that had the number before.
    asm.set(R1, 0);
    if children == Children::Follow {
        mark_of(&mut asm, R3, R0);
        asm.load(Width::W1, R1, R3, 0);
        asm.alu_imm(Alu::And, R1, i32::from(IN_SCOPE));
    }
    mark_of(&mut asm, R2, R4);
    asm.store(Width::W1, R2, 0, R1);
    asm.place(out);
    asm.set(R0, 0);
    asm.exit();
    let code = asm.finish()?;
    let hook = Hook::TpBtf { name: tracepoint.to_owned() };
    Ok(Program {
        name: program_name(&hook),
        hook,
        probes: Vec::new(),
        insns: code.insns,
        maps: code.maps,
        notes: code.notes,
        functions: code.functions,
    })
}

/// `dst`: the address of the mark of the process in `pid`.
fn mark_of(asm: &mut Assembler, dst: Reg, pid: Reg) {
    asm.alu_imm(Alu::And, pid, SIZE as i32 - 1);
    asm.map_value(dst, MapRef::Processes, 0);
    asm.alu(Alu::Add, dst, pid);
}
