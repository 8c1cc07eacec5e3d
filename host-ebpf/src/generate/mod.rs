//! The plan to instructions: one program per hook, or per group of hooks that are alike.
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
//! | `rate` | which hits go into the body where not all may |
//! | `emit` | records |
//! | `map`, `aggregate` | keys and elements of maps, aggregations |
//! | `whole` | maps as a whole |
//! | `expr`, `memory`, `text`, `path`, `bytes` | values: integers, what pointers point to, text, paths, bytes and stacks |
//! | `frames` | what of a kernel stack is ours |
//! | `room` | where values are put: the stack, a record, or the scratch map |
//!
//! Registers in a function: r6 context, r7 the gate's outcome and later the record, r8 the time or 0, r9 this CPU's counters.

mod aggregate;
mod bytes;
mod emit;
mod expr;
mod frames;
mod function;
mod map;
mod memory;
mod path;
pub(crate) mod rate;
mod room;
mod span;
mod statement;
mod text;
mod whole;

use std::collections::BTreeMap;

use aya_obj::generated::bpf_func_id::{BPF_FUNC_get_attach_cookie, BPF_FUNC_ktime_get_ns, BPF_FUNC_tail_call};
use frames::Frames;
use function::Generator;
pub(crate) use room::{SCRATCH_HEADER, SCRATCH_LEVELS};
use whole::Wholes;

use crate::{
    Broken,
    assemble::{Alu, Assembled, Assembler, Cond, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, Reg, TooLarge, Width},
    check::ir::Save,
    counters::Layout,
    gate,
    group::{Group, NameTable},
    kernel::{Features, Kernel, SESSION_IS_RETURN, btf::TypeId, syscalls},
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
    /// What places are called that one program serves.
    pub(crate) places: &'a NameTable,
    /// The offset of `thread_info.status` in `struct task_struct`, where the kernel has it.
    pub(crate) thread_status: Option<u32>,
    /// The kernel's function that says at which end of a call a session's program runs.
    pub(crate) session_is_return: Option<u32>,
}

/// Where the functions of a program run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// The place's number; `None` where the function is told it.
    pub(crate) place: Option<u32>,
    /// The number is a system call's.
    pub(crate) syscall: bool,
    /// Where calls return.
    pub(crate) returns: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        specs: &'a [ProbeSpec],
        options: &'a Options,
        counters: Layout,
        plan: &'a Plan,
        maps: &'a [PluginMap],
        places: &'a NameTable,
        kernel: &dyn Kernel,
    ) -> Self {
        let thread_status = kernel.btf().member("task_struct", "thread_info.status").map(|(offset, _)| offset);
        let names = specs.iter().map(|spec| spec.name.as_str()).collect();
        let features = kernel.features();
        let session_is_return = kernel.btf().function(SESSION_IS_RETURN).map(TypeId::number);
        Context {
            options,
            counters,
            streams: &plan.streams,
            maps,
            spans: &plan.spans,
            names,
            features,
            places,
            thread_status,
            session_is_return,
        }
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
    #[error(
        "{0} functions would be in one program, with one for each map that is counted or cleared, and {MAX_FUNCTIONS} is the most"
    )]
    Functions(usize),
    /// The stack of a program has 512 bytes (`MAX_BPF_STACK`, include/linux/filter.h), of which the dispatcher's frame takes 32.
    #[error("the probe needs {needed} bytes of stack, and there are {there}")]
    Stack { probe: usize, needed: u32, there: u32 },
    #[error("the probe needs {needed} bytes for keys, call stacks and paths at a time, and there are {}", room::SCRATCH)]
    Scratch { probe: usize, needed: u32 },
}

/// The stack that a function can use.
pub(crate) const STACK: u32 = 512 - 32;
/// What the two functions take of it by which a map is gone through, however little they need (`check_max_stack_depth`,
/// kernel/bpf/verifier.c).
const WHOLE_STACK: u32 = 2 * 32;

/// How many functions a program can have (`BPF_MAX_SUBPROGS`, include/linux/bpf_verifier.h).
const MAX_FUNCTIONS: usize = 256;

/// Makes one program.
pub(crate) fn program(group: &Group, context: &Context<'_>, kernel: &dyn Kernel) -> Result<Code, GenerateError> {
    let frames = Frames::new(&group.hook, kernel);
    let mut asm = Assembler::default();
    let labels: Vec<Vec<Label>> = group.ends().map(|(plan, _)| plan.functions.iter().map(|_| asm.label()).collect()).collect();
    dispatcher(&mut asm, group, &labels, context);
    let mut scratch = 0;
    let mut wholes = Wholes::default();
    for ((plan, returns), labels) in group.ends().zip(&labels) {
        for (index, (function, label)) in plan.functions.iter().zip(labels).enumerate() {
            let told = group.by_cookie() || plan.by_number(index);
            let at = At { place: (!told).then_some(plan.place), syscall: function.syscall, returns };
            let half = match function.half {
                Half::Whole => "",
                Half::Entry => ".entry",
                Half::Exit => ".exit",
            };
            // Whether a function uses the scratch map is known once it is made, and it has to begin by claiming it.
            let body = &function.body;
            let large = body.paths
                || context.maps.iter().any(|map| map.key_size > room::ON_STACK)
                || body.saves.iter().any(Save::is_stack);
            let needed = match large {
                true => {
                    Generator::new(Assembler::default(), Wholes::default(), context, &frames, function, at, 0).generate()?.scratch
                }
                false => 0,
            };
            // Several functions of one probe differ in their arguments.
            let name = format!("{}{half}", context.names.get(function.probe).copied().unwrap_or_default());
            asm.function(*label, &name);
            let generated = Generator::new(asm, wholes, context, &frames, function, at, needed).generate()?;
            (asm, wholes) = (generated.asm, generated.wholes);
            scratch = scratch.max(needed);
        }
    }
    wholes.generate(&mut asm);
    let assembled = asm.finish()?;
    match assembled.functions.len() {
        0..=MAX_FUNCTIONS => Ok(Code { assembled, scratch }),
        functions => Err(GenerateError::Functions(functions)),
    }
}

fn dispatcher(asm: &mut Assembler, group: &Group, functions: &[Vec<Label>], context: &Context<'_>) {
    let main = asm.label();
    asm.function(main, "dispatch");
    asm.mov(R6, R1);
    match context.options.gate {
        // The one load of the gate word in this run; its outcome stays in r7.
        Some(bit) => gate_bit(asm, R7, bit),
        None => asm.set(R7, 1),
    }
    if group.hook.is_uprobe() {
        own_stack(asm);
    }
    let cookie = group.by_cookie();
    if cookie {
        // r8: the place. Behind a closed gate nobody asks for it.
        when_open(asm, R8, |asm| {
            asm.mov(R1, R6);
            asm.call(BPF_FUNC_get_attach_cookie);
        });
    }
    match (group.ends().map(|(plan, _)| plan).collect::<Vec<_>>().as_slice(), functions) {
        ([plan], [functions]) => {
            end(asm, &group.hook, plan, functions, cookie);
            asm.set(R0, 0);
        }
        ([entry, exit], [entering, returning]) => {
            let (begins, done) = (asm.label(), asm.label());
            asm.mov(R1, R6);
            asm.call_kernel(context.session_is_return.unwrap_or_default());
            asm.jump_if_imm(Cond::Eq, R0, 0, begins);
            end(asm, &group.hook, exit, returning, cookie);
            asm.set(R0, 0);
            asm.jump(done);
            asm.place(begins);
            end(asm, &group.hook, entry, entering, cookie);
            // 1 has the kernel skip the return: with the gate closed it would be of no use.
            asm.mov(R0, R7);
            asm.alu_imm(Alu::Xor, R0, 1);
            if context.options.broken == Some(Broken::NoPairing) {
                asm.set(R0, 0);
            }
            asm.place(done);
        }
        _ => asm.set(R0, 0),
    }
    asm.exit();
}

/// Has the kernel leave the program on the stack of its thread.
///
/// Since Linux 6.13 it gives programs of BPF_PROG_TYPE_KPROBE one stack a CPU (`bpf_enable_priv_stack`, kernel/bpf/verifier.c), which no
/// program may need twice at a time. Those of uprobes do: they can be preempted, and nothing keeps the next thread of that CPU from the same
/// program (`bpf_prog_run_array_uprobe`, include/linux/bpf.h; `uprobe_prog_run`, kernel/trace/bpf_trace.c). Then what is on the stack
/// is the other thread's: values, keys, and pointers that the verifier has passed.
///
/// A program with a tail call gets no such stack (`check_max_stack_depth`), and for that it is looked for before it is known what is never
/// reached. The verifier then removes it, so it costs no instruction and needs no map.
fn own_stack(asm: &mut Assembler) {
    let over = asm.label();
    asm.set(R0, 0);
    asm.jump_if_imm(Cond::Eq, R0, 0, over);
    asm.call(BPF_FUNC_tail_call);
    asm.place(over);
}

/// `dst`: 1 if the plugin's bit of the gate word is set now, else 0. Uses r1.
fn gate_bit(asm: &mut Assembler, dst: Reg, bit: u8) {
    asm.map_value(R1, MapRef::Gate, gate::WORD);
    asm.load(Width::W8, dst, R1, 0);
    if bit > 0 {
        asm.alu_imm(Alu::Rsh, dst, i32::from(bit));
    }
    asm.alu_imm(Alu::And, dst, 1);
}

/// Calls the functions of one end.
fn end(asm: &mut Assembler, hook: &Hook, plan: &HookPlan, functions: &[Label], cookie: bool) {
    let shared = !plan.always.is_empty() && !plan.by_syscall.is_empty();
    if shared || plan.always.len() > 1 {
        time(asm);
    } else {
        asm.set(R9, 0);
    }
    calls(asm, &plan.always, functions, cookie);
    if !plan.by_syscall.is_empty() {
        let out = asm.label();
        number(asm, hook);
        switch(asm, plan, functions, shared, out);
        asm.place(out);
    }
}

/// `dst`: what `ask` leaves in r0, or 0 with the gate closed.
fn when_open(asm: &mut Assembler, dst: Reg, ask: impl FnOnce(&mut Assembler)) {
    let closed = asm.label();
    asm.set(dst, 0);
    asm.jump_if_imm(Cond::Eq, R7, 0, closed);
    ask(asm);
    asm.mov(dst, R0);
    asm.place(closed);
}

/// r9: the one time of a run in which several functions may ask for it. With the gate closed none does.
fn time(asm: &mut Assembler) {
    when_open(asm, R9, |asm| asm.call(BPF_FUNC_ktime_get_ns));
}

/// `told`: the functions want to know the number in r8.
fn calls(asm: &mut Assembler, which: &[usize], functions: &[Label], told: bool) {
    for function in which {
        asm.mov(R1, R6);
        asm.mov(R2, R7);
        asm.mov(R3, R9);
        if told {
            asm.mov(R4, R8);
        }
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
fn switch(asm: &mut Assembler, plan: &HookPlan, functions: &[Label], shared: bool, out: Label) {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (&number, which) in &plan.by_syscall {
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
        calls(asm, which, functions, which.iter().any(|function| plan.by_number(*function)));
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
