//! Typed trees: what the checker makes of a body at one target. Equal trees are equal programs, so they are compared and hashed.

use std::hash::{Hash, Hasher};

use crate::{
    attach::{Place, Space},
    kernel::btf::Int,
    syntax::ast::{BinaryOp, UnaryOp},
};

/// An expression whose value is an integer, 64 bits wide once it is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Const(u64),
    Task(TaskField),
    /// The number of the CPU.
    Cpu,
    /// When this run happened: `nsecs`.
    Time,
    /// The time since the span's entry.
    Duration,
    /// An argument, or what the traced call returns.
    Load(Place, Int),
    /// A pointer that the context holds. (A typed pointer of the verifier's, unlike [`Value::Load`].)
    Pointer(Place),
    /// What the span's entry half kept, by position in [`Body::saves`].
    Saved(usize),
    Variable(usize),
    Unary(UnaryOp, Box<Value>),
    Binary {
        op: BinaryOp,
        /// For division, right shift and order.
        signed: bool,
        left: Box<Value>,
        right: Box<Value>,
    },
    /// Whether the text is the literal, or, with `equal` false, is not.
    TextIs {
        text: Text,
        literal: Vec<u8>,
        equal: bool,
    },
}

/// What the kernel says of the running task for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TaskField {
    Pid,
    Tid,
    Uid,
    Gid,
}

/// An expression whose value is text. `keep` is the number of bytes kept at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    Comm,
    /// A `char[size]` in the context.
    Chars {
        offset: u32,
        size: u32,
    },
    DataLoc {
        offset: u32,
        relative: bool,
        keep: u32,
    },
    Pointer {
        pointer: Box<Value>,
        space: Space,
        keep: u32,
    },
}

/// `TASK_COMM_LEN` of include/linux/sched.h.
pub(crate) const COMM_SIZE: u32 = 16;

impl Text {
    /// How many bytes of text it can have.
    pub(crate) fn capacity(&self) -> u32 {
        match self {
            Text::Comm => COMM_SIZE,
            Text::Chars { size, .. } => *size,
            Text::DataLoc { keep, .. } | Text::Pointer { keep, .. } => *keep,
        }
    }

    /// How many bytes of memory writing it takes. A text that ends with a NUL byte is read with one byte more than itself and
    /// the NUL, so that a full read says that it was longer.
    pub(crate) fn room(&self) -> u32 {
        match self {
            Text::Comm | Text::Chars { .. } => self.capacity(),
            Text::DataLoc { keep, .. } | Text::Pointer { keep, .. } => keep + 2,
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FieldValue {
    Int(Value, Int),
    Text(Text),
}

/// A field of an `emit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ctype: String,
    pub(crate) value: FieldValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub(crate) kind: StatementKind,
    pub(crate) source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StatementKind {
    Assign(usize, Value),
    If(Value, Vec<Statement>, Vec<Statement>),
    Return,
    Emit { stream: String, fields: Vec<Field> },
}

/// The text that something came from, for the listing. It makes no difference between trees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source(pub(crate) String);

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A probe at one target, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    pub(crate) when: Option<(Value, Source)>,
    pub(crate) statements: Vec<Statement>,
    /// How many variables it has.
    pub(crate) variables: usize,
    /// What a span's entry half keeps for its exit half, as seen at the entry.
    pub(crate) saves: Vec<Value>,
}

impl Value {
    /// Whether any part of it satisfies the test.
    pub(crate) fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        test(self)
            || match self {
                Value::Unary(_, operand) => operand.any(test),
                Value::Binary { left, right, .. } => left.any(test) || right.any(test),
                Value::TextIs { text: Text::Pointer { pointer, .. }, .. } => pointer.any(test),
                _ => false,
            }
    }

    /// Whether computing it asks for the time of the run.
    pub(crate) fn needs_time(&self) -> bool {
        self.any(&|v| matches!(v, Value::Time | Value::Duration))
    }
}
