//! The frames of a kernel stack between the place that is traced and the call for the stack. Nobody wants to see them, and
//! `kstack(3)` would be full of them.
//!
//! Measured on Linux 6.18, innermost first:
//!
//! | hook | frames |
//! |---|---|
//! | raw tracepoint | function, dispatcher, `bpf_trace_runN`; `__bpf_trace_NAME` where the compiler did not make it a jump; `__traceiter_NAME` while others listen, too (include/linux/tracepoint.h calls the only one directly) |
//! | tracepoint by a perf event | `__traceiter_NAME` while others listen |
//! | trampoline | function, dispatcher, `bpf_trampoline_N` |
//! | others | none: the registers are those of the place itself |

use std::{cell::OnceCell, ops::Range};

use aya_obj::generated::bpf_func_id::BPF_FUNC_get_stack;

use super::{function::Generator, room::Spot};
use crate::{
    assemble::{Alu, Cond, R1, R2, R3, R4, R6, Width},
    kernel::Kernel,
    output::Hook,
};

/// The dispatcher and the function that it calls.
const OWN: u8 = 2;

/// The frames of one hook.
pub(super) struct Frames<'a> {
    hook: &'a Hook,
    kernel: &'a dyn Kernel,
    /// Found when the first body asks for a stack.
    perhaps: OnceCell<Vec<Range<u64>>>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(hook: &'a Hook, kernel: &'a dyn Kernel) -> Frames<'a> {
        Frames { hook, kernel, perhaps: OnceCell::new() }
    }

    fn hook(&self) -> &Hook {
        self.hook
    }

    /// How many there always are.
    fn always(&self) -> u8 {
        match self.hook {
            Hook::TpBtf { .. } | Hook::Fentry { .. } => OWN + 1,
            _ => 0,
        }
    }

    /// The functions of which one frame each may follow. None if the kernel does not say where they are.
    fn perhaps(&self) -> &[Range<u64>] {
        self.perhaps.get_or_init(|| {
            let (Hook::TpBtf { name } | Hook::PerfTracepoint { name, .. }) = self.hook else { return Vec::new() };
            let functions = [format!("__bpf_trace_{name}"), format!("__traceiter_{name}")];
            let functions = match self.hook {
                Hook::TpBtf { .. } => &functions[..],
                _ => &functions[1..],
            };
            functions.iter().filter_map(|function| self.kernel.symbol(function).ok().flatten()).collect()
        })
    }
}

impl Generator<'_> {
    /// Writes the kernel's frames from the traced place on. r0: how many bytes, or below 0 why not.
    pub(super) fn kernel_stack(&mut self, at: Spot, depth: u32) {
        let frames = self.frames;
        let done = self.asm.label();
        let mut skip = frames.always();
        self.get_stack(at, depth, skip.into());
        for _ in frames.perhaps() {
            let again = self.asm.label();
            let (base, offset) = self.reach(at, R3);
            // 0 where there is no stack.
            self.asm.load(Width::W8, R1, base, offset);
            for function in frames.perhaps() {
                self.asm.mov(R2, R1);
                self.asm.set(R3, function.start);
                self.asm.alu(Alu::Sub, R2, R3);
                self.asm.jump_if_imm(Cond::Lt, R2, i32::try_from(function.end - function.start).unwrap_or(i32::MAX), again);
            }
            self.asm.jump(done);
            self.asm.place(again);
            skip += 1;
            self.get_stack(at, depth, skip.into());
        }
        self.asm.place(done);
    }

    /// `bpf_get_stack`: the rest it zeroes.
    pub(super) fn get_stack(&mut self, at: Spot, depth: u32, flags: u64) {
        // For these programs the verifier of some kernels, 6.1 among them, wants memory that has something in it already (arg2_type of
        // bpf_get_stack_proto_raw_tp, kernel/trace/bpf_trace.c).
        if matches!(self.frames.hook(), Hook::TpBtf { .. } | Hook::Fentry { .. } | Hook::Lsm { .. }) && at.is_on_stack() {
            self.zero(at, 0, 8 * depth);
        }
        self.asm.mov(R1, R6);
        self.address(R2, at);
        self.asm.set(R3, (8 * depth).into());
        self.asm.set(R4, flags);
        self.asm.call(BPF_FUNC_get_stack);
    }
}
