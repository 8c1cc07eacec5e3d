//! The builtins: one row each.

use super::ir::{TaskField, Value};
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

/// Those whose value is an integer. `comm`, `args`, `entry` and `retval` are not plain values; see [`super`].
pub(super) const BUILTINS: [Builtin; 7] = [
    Builtin { name: "pid", ctype: "u32", int: U32, only: Only::Everywhere, value: Value::Task(TaskField::Pid) },
    Builtin { name: "tid", ctype: "u32", int: U32, only: Only::Everywhere, value: Value::Task(TaskField::Tid) },
    Builtin { name: "uid", ctype: "u32", int: U32, only: Only::Everywhere, value: Value::Task(TaskField::Uid) },
    Builtin { name: "gid", ctype: "u32", int: U32, only: Only::Everywhere, value: Value::Task(TaskField::Gid) },
    Builtin { name: "cpu", ctype: "u32", int: U32, only: Only::Everywhere, value: Value::Cpu },
    Builtin { name: "nsecs", ctype: "u64", int: U64, only: Only::Everywhere, value: Value::Time },
    Builtin { name: "duration", ctype: "u64", int: U64, only: Only::Span, value: Value::Duration },
];

/// All names that an expression can begin with, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|b| b.name).chain(["comm", "args", "entry", "retval", "str"])
}
