//! The builtins whose value is an integer: one row each.

use super::ir::{Helper, TaskField, Value};
use crate::kernel::btf::Int;

/// Where a builtin means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    Everywhere,
    /// At the exit of a span.
    Span,
}

pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) ctype: &'static str,
    pub(super) int: Int,
    pub(super) only: Only,
    pub(super) value: Value,
}

const U32: Int = Int { size: 4, signed: false };
const U64: Int = Int { size: 8, signed: false };

const fn row(name: &'static str, ctype: &'static str, int: Int, value: Value) -> Builtin {
    Builtin { name, ctype, int, only: Only::Everywhere, value }
}

/// Those that are plain values. The others are in [`OTHERS`]; see [`super::expr`].
pub(super) static BUILTINS: [Builtin; 12] = [
    row("pid", "u32", U32, Value::Task(TaskField::Pid)),
    row("tid", "u32", U32, Value::Task(TaskField::Tid)),
    row("uid", "u32", U32, Value::Task(TaskField::Uid)),
    row("gid", "u32", U32, Value::Task(TaskField::Gid)),
    row("cpu", "u32", U32, Value::Cpu),
    row("nsecs", "u64", U64, Value::Time),
    row("elapsed", "u64", U64, Value::Elapsed),
    row("cgroup", "u64", U64, Value::Helper(Helper::CgroupId)),
    row("rand", "u32", U32, Value::Helper(Helper::Random)),
    row("jiffies", "u64", U64, Value::Helper(Helper::Jiffies)),
    row("numaid", "u32", U32, Value::Helper(Helper::NumaNode)),
    Builtin { name: "duration", ctype: "u64", int: U64, only: Only::Span, value: Value::Duration },
];

/// Those that are text, or depend on the target.
pub(super) static OTHERS: [&str; 14] = [
    "comm",
    "args",
    "entry",
    "retval",
    "curtask",
    "ppid",
    "pcomm",
    "ncpus",
    "func",
    "probe",
    "probetype",
    "kstack",
    "ustack",
    "usermode",
];

/// All names that an expression can begin with, other than those of functions, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|b| b.name).chain(OTHERS.iter().copied())
}
