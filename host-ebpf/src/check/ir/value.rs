//! Expressions whose value is an integer, bytes or a call stack, and the keys of elements, which have them as parts.

use super::text::Text;
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
    /// What the span's entry half kept, by position in [`Body::saves`](super::Body::saves).
    Saved(usize),
    Variable(usize),
    /// What one helper returns.
    Helper(Helper),
    /// The time since the gate opened.
    Elapsed,
    /// The first if the condition is not 0, else the second.
    Choose(Box<Value>, Box<Value>, Box<Value>),
    /// The low bytes, extended as the type's sign asks.
    Convert(Int, Box<Value>),
    /// The low `size` bytes in the other order.
    Swap(u8, Box<Value>),
    /// An integer in memory.
    Field(Box<MemoryField>),
    /// The value of a map's element; 0 for one that is not there.
    Element(usize, Key),
    /// Whether the element is there.
    HasKey(usize, Key),
    /// How many keys the map has.
    Len(usize),
    /// How many bytes a text has.
    TextLength(Text),
    /// Whether the literal is in the text.
    Contains(Text, Vec<u8>),
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
        /// The text ends where the literal does; else it may go on.
        whole: bool,
    },
    /// Whether two texts are the same, or, with `equal` false, are not.
    SameText {
        left: Text,
        right: Text,
        equal: bool,
    },
    /// The same of bytes, as many on each side. What can't be read is the same as nothing.
    SameBytes {
        left: Bytes,
        right: Bytes,
        equal: bool,
    },
}

/// Values that one call without arguments returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Helper {
    /// The address of the running `struct task_struct`.
    CurrentTask,
    CgroupId,
    Random,
    Jiffies,
    NumaNode,
    BootTime,
    TaiTime,
}

/// How memory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// Directly: the base is a pointer whose type the verifier knows.
    Typed,
    /// By a helper that finds out whether the memory is there.
    Kernel,
    User,
}

/// An integer in memory. What can't be read is 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemoryField {
    pub(crate) base: Value,
    pub(crate) access: Access,
    /// In bytes from the base.
    pub(crate) offset: u32,
    pub(crate) int: Int,
    /// Of a bit field: its lowest bit within the integer, and its width.
    pub(crate) bits: Option<(u32, u32)>,
    /// It is a pointer: as a number it is not to be a typed one.
    pub(crate) pointer: bool,
}

/// The key of an element, part by part.
pub(crate) type Key = Vec<KeyPart>;

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyPart {
    Int(Value),
    Text(Text),
    Bytes(Bytes),
    Stack(Stack),
}

/// Bytes in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bytes {
    /// So many from that address on.
    Memory { address: Box<Value>, space: Space, length: u32 },
    /// So many from that byte of the context on.
    Context { offset: u32, length: u32 },
    /// The low bytes of an integer, in the order in which they stand in memory.
    Int { value: Box<Value>, length: u32 },
    /// Fixed bytes.
    Literal(Vec<u8>),
}

impl Bytes {
    pub(crate) fn length(&self) -> u32 {
        match self {
            Bytes::Memory { length, .. } | Bytes::Context { length, .. } | Bytes::Int { length, .. } => *length,
            Bytes::Literal(bytes) => bytes.len() as u32,
        }
    }
}

/// A call stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stack {
    /// The kernel's, so many frames at most.
    Kernel(u32),
    /// The process's.
    User(u32),
    /// One address of the process.
    Address(Box<Value>),
    /// What the span's entry half kept, by position in [`Body::saves`](super::Body::saves).
    Saved { index: usize, depth: u32 },
}

impl Stack {
    pub(crate) fn depth(&self) -> u32 {
        match self {
            Stack::Kernel(depth) | Stack::User(depth) | Stack::Saved { depth, .. } => *depth,
            Stack::Address(_) => 1,
        }
    }
}

/// What the kernel says of the running task for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TaskField {
    Pid,
    Tid,
    Uid,
    Gid,
}
