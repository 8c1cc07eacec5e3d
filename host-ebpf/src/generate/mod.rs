//! The plan to instructions: one program per hook.
//!
//! A program is a dispatcher and one function per probe half. The dispatcher loads the gate word, once, and calls the functions
//! of this hit with what it found. Each function asks for itself whether the hit is one of its probe, counts it, and runs the
//! body. What is decided where:
//!
//! | room | what |
//! |---|---|
//! | here | the dispatcher: gate, the functions of a system call |
//! | `function` | a probe half: native ABI, scope, counters, time, predicate |
//! | `statement` | statements and loops |
//! | `span` | pairing entries with exits |
//! | `emit` | records |
//! | `map`, `aggregate` | keys and elements of maps, aggregations |
//! | `expr`, `memory`, `text`, `bytes` | values: integers, what pointers point to, text, bytes and stacks |
//! | `room` | where values are put: the stack, a record, or the scratch map |
//!
//! Registers in a function: r6 context, r7 the gate's outcome and later the record, r8 the time or 0, r9 this CPU's counters.

mod aggregate;
mod bytes;
mod emit;
mod expr;
mod function;
mod map;
mod memory;
mod room;
mod span;
mod statement;
mod text;

use std::collections::BTreeMap;

use aya_obj::generated::bpf_func_id::BPF_FUNC_ktime_get_ns;
use function::Generator;
pub(crate) use room::{SCRATCH_HEADER, SCRATCH_LEVELS};

use crate::{
    assemble::{Alu, Assembled, Assembler, Cond, Label, R0, R1, R2, R3, R6, R7, R8, R9, TooLarge, Width},
    check::ir::Save,
    counters::Layout,
    gate,
    kernel::{Features, Kernel, syscalls},
    output::{Hook, MapRef, PluginMap},
    plan::{Half, HookPlan, Plan, SpanPlan},
    record::Stream,
    spec::{Options, ProbeSpec},
};

/// What the code of all functions of a plugin depends on.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    pub(crate) counters: Layout,
    pub(crate) streams: &'a [Stream],
    pub(crate) maps: &'a [PluginMap],
    pub(crate) spans: &'a BTreeMap<usize, SpanPlan>,
    /// The names of the probes, for the listing.
    pub(crate) names: Vec<&'a str>,
    pub(crate) features: Features,
    /// The offset of `thread_info.status` in `struct task_struct`, where the kernel has it.
    pub(crate) thread_status: Option<u32>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        specs: &'a [ProbeSpec],
        options: &'a Options,
        counters: Layout,
        plan: &'a Plan,
        maps: &'a [PluginMap],
        kernel: &dyn Kernel,
    ) -> Self {
        let thread_status = kernel.btf().member("task_struct", "thread_info.status").map(|(offset, _)| offset);
        let names = specs.iter().map(|spec| spec.name.as_str()).collect();
        let features = kernel.features();
        Context { options, counters, streams: &plan.streams, maps, spans: &plan.spans, names, features, thread_status }
    }
}

/// A program, and how many bytes of the scratch map it uses.
pub(crate) struct Code {
    pub(crate) assembled: Assembled,
    pub(crate) scratch: u32,
}

/// The code can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The stack of a program has 512 bytes (`MAX_BPF_STACK`, include/linux/filter.h), of which the dispatcher's frame takes 32.
    #[error("the probe needs {needed} bytes of stack, and there are {STACK}")]
    Stack { probe: usize, needed: u32 },
    #[error("the probe needs {needed} bytes for keys and call stacks at a time, and there are {}", room::SCRATCH)]
    Scratch { probe: usize, needed: u32 },
}

/// The stack that a function can use.
pub(crate) const STACK: u32 = 512 - 32;

/// Makes the program of one hook.
pub(crate) fn program(hook: &Hook, plan: &HookPlan, context: &Context<'_>) -> Result<Code, GenerateError> {
    let mut asm = Assembler::default();
    let labels: Vec<Label> = plan.functions.iter().map(|_| asm.label()).collect();
    dispatcher(&mut asm, hook, plan, &labels, context);
    let mut scratch = 0;
    for (function, label) in plan.functions.iter().zip(&labels) {
        let half = match function.half {
            Half::Whole => "",
            Half::Entry => ".entry",
            Half::Exit => ".exit",
        };
        // Whether a function uses the scratch map is known once it is made, and it has to begin by claiming it.
        let large =
            context.maps.iter().any(|map| map.key_size > room::ON_STACK) || function.body.saves.iter().any(Save::is_stack);
        let needed = match large {
            true => Generator::new(Assembler::default(), context, function, 0).generate()?.scratch,
            false => 0,
        };
        // Several functions of one probe differ in their arguments.
        let name = format!("{}{half}", context.names.get(function.probe).copied().unwrap_or_default());
        asm.function(*label, &name);
        asm = Generator::new(asm, context, function, needed).generate()?.asm;
        scratch = scratch.max(needed);
    }
    Ok(Code { assembled: asm.finish()?, scratch })
}

fn dispatcher(asm: &mut Assembler, hook: &Hook, plan: &HookPlan, functions: &[Label], context: &Context<'_>) {
    let main = asm.label();
    asm.function(main, "dispatch");
    asm.mov(R6, R1);
    match context.options.gate {
        Some(bit) => {
            // The one load of the gate word in this run; its outcome stays in r7.
            asm.map_value(R1, MapRef::Gate, gate::WORD);
            asm.load(Width::W8, R7, R1, 0);
            if bit > 0 {
                asm.alu_imm(Alu::Rsh, R7, i32::from(bit));
            }
            asm.alu_imm(Alu::And, R7, 1);
        }
        None => asm.set(R7, 1),
    }
    let shared = !plan.always.is_empty() && !plan.by_syscall.is_empty();
    if shared || plan.always.len() > 1 {
        time(asm);
    } else {
        asm.set(R9, 0);
    }
    calls(asm, &plan.always, functions);
    if !plan.by_syscall.is_empty() {
        let out = asm.label();
        number(asm, hook);
        switch(asm, &plan.by_syscall, functions, shared, out);
        asm.place(out);
    }
    asm.set(R0, 0);
    asm.exit();
}

/// r9: the one time of a run in which several functions may ask for it. With the gate closed none does.
fn time(asm: &mut Assembler) {
    let closed = asm.label();
    asm.set(R9, 0);
    asm.jump_if_imm(Cond::Eq, R7, 0, closed);
    asm.call(BPF_FUNC_ktime_get_ns);
    asm.mov(R9, R0);
    asm.place(closed);
}

fn calls(asm: &mut Assembler, which: &[usize], functions: &[Label]) {
    for function in which {
        asm.mov(R1, R6);
        asm.mov(R2, R7);
        asm.mov(R3, R9);
        asm.call_function(functions[*function]);
    }
}

/// r8: the number of the system call. One of the x32 ABI has bit 30 set and so is none of ours.
fn number(asm: &mut Assembler, hook: &Hook) {
    match hook {
        // sys_exit(struct pt_regs *regs, long ret)
        Hook::TpBtf { name } if name == "sys_exit" => {
            asm.load(Width::W8, R1, R6, 0);
            asm.load(Width::W8, R8, R1, syscalls::NUMBER_OFFSET as i16);
        }
        // sys_enter(struct pt_regs *regs, long id)
        _ => asm.load(Width::W8, R8, R6, 8),
    }
}

/// Numbers that follow each other and run the same functions.
struct Range<'a> {
    first: u32,
    last: u32,
    functions: &'a [usize],
}

/// Calls the functions of the system call in r8, found by halving, or goes to `out`.
fn switch(asm: &mut Assembler, by_syscall: &BTreeMap<u32, Vec<usize>>, functions: &[Label], shared: bool, out: Label) {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (&number, which) in by_syscall {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == number && range.functions == which.as_slice() => range.last = number,
            _ => ranges.push(Range { first: number, last: number, functions: which }),
        }
    }
    // One place for each distinct set of functions.
    let mut leaves: Vec<(&[usize], Label)> = Vec::new();
    for range in &ranges {
        if leaves.iter().all(|(which, _)| *which != range.functions) {
            leaves.push((range.functions, asm.label()));
        }
    }
    halve(asm, &ranges, &leaves, out);
    for (which, label) in &leaves {
        asm.place(*label);
        if !shared && which.len() > 1 {
            time(asm);
        }
        calls(asm, which, functions);
        asm.jump(out);
    }
}

fn halve(asm: &mut Assembler, ranges: &[Range<'_>], leaves: &[(&[usize], Label)], out: Label) {
    match ranges {
        [] => asm.jump(out),
        [range] => {
            asm.jump_if_imm(Cond::Lt, R8, range.first as i32, out);
            asm.jump_if_imm(Cond::Gt, R8, range.last as i32, out);
            let leaf = leaves.iter().find(|(which, _)| *which == range.functions).map_or(out, |(_, label)| *label);
            asm.jump(leaf);
        }
        ranges => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let upper = asm.label();
            asm.jump_if_imm(Cond::Ge, R8, high[0].first as i32, upper);
            halve(asm, low, leaves, out);
            asm.place(upper);
            halve(asm, high, leaves, out);
        }
    }
}
