//! Types of expressions.

use super::ir::{Bytes, Stack, Text, Value};
use crate::{
    attach::Space,
    kernel::btf::{Int, TypeId},
    record::Naming,
};

pub(super) const S64: Int = Int { size: 8, signed: true };
pub(super) const U64: Int = Int { size: 8, signed: false };
pub(super) const BOOL: Int = Int { size: 1, signed: false };

/// What a pointer points to: a type, or with `levels` above 0 a pointer of so many levels to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointee {
    pub(super) id: TypeId,
    pub(super) levels: u32,
}

/// An integer's type, with what is known of it as a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IntType {
    pub(super) int: Int,
    /// Of a pointer: whose memory it points into.
    pub(super) space: Option<Space>,
    /// Of a pointer: what it points to, where that is known.
    pub(super) to: Option<Pointee>,
    pub(super) ctype: String,
    pub(super) naming: Naming,
    /// Of a constant: nobody chose its type. It is a number as written or one of the kernel's, or computed from such alone.
    pub(super) literal: bool,
}

impl IntType {
    pub(super) fn new(int: Int, ctype: impl Into<String>) -> Self {
        IntType { int, space: None, to: None, ctype: ctype.into(), naming: Naming::Plain, literal: false }
    }

    pub(super) fn literal(self) -> Self {
        IntType { literal: true, ..self }
    }

    /// It is narrower than an address.
    pub(super) fn is_no_pointer(&self) -> bool {
        self.space.is_none() && self.int.size < 8
    }

    pub(super) fn pointer(space: Space, to: Option<Pointee>, ctype: impl Into<String>) -> Self {
        IntType { space: Some(space), to, ..IntType::new(Int::POINTER, ctype) }
    }
}

/// A struct, a union or an array: something in memory that is no value by itself.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// The pointer from which the offset counts.
    pub(super) base: Value,
    /// The verifier knows the base's type.
    pub(super) typed: bool,
    pub(super) space: Space,
    /// In bytes.
    pub(super) offset: u32,
    pub(super) id: TypeId,
}

/// An expression and its type.
#[derive(Clone, Debug)]
pub(super) enum Typed {
    Int(Value, IntType),
    Text(Text, String),
    Literal(Vec<u8>),
    Bytes(Bytes, Naming, String),
    Stack(Stack, Naming),
    Object(Object),
    Array(Array),
}

/// Integers one after the other in the record of a tracepoint.
#[derive(Clone, Debug)]
pub(super) struct Array {
    /// In the context.
    pub(super) offset: u32,
    pub(super) int: Int,
    pub(super) length: u32,
    /// Of the whole.
    pub(super) ctype: String,
}

impl Array {
    /// In bytes.
    pub(super) fn size(&self) -> u32 {
        self.length * u32::from(self.int.size)
    }
}

impl Typed {
    /// For messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Typed::Int(_, typ) if typ.space.is_some() => "a pointer",
            Typed::Int(..) => "an integer",
            Typed::Text(..) => "text",
            Typed::Literal(_) => "a string",
            Typed::Bytes(..) => "bytes",
            Typed::Stack(..) => "a call stack",
            Typed::Object(_) | Typed::Array(_) => "a struct or array",
        }
    }
}

pub(super) fn literal_type(value: u64) -> IntType {
    computed(Int { size: 8, signed: i64::try_from(value).is_ok() }).literal()
}

/// The type of what was computed rather than read.
pub(super) fn computed(int: Int) -> IntType {
    let ctype = match (int.size, int.signed) {
        (1, _) => "bool",
        (_, true) => "s64",
        (_, false) => "u64",
    };
    IntType::new(int, ctype)
}

/// Whether an operation on both is signed: C's rule at 64 bits. A literal takes the side of the other operand if it fits, and an
/// unsigned type that is narrower than 64 bits fits into the signed one. A constant of a type that a cast chose has that type.
pub(super) fn common_sign((lv, lt): (&Value, &IntType), (rv, rt): (&Value, &IntType)) -> bool {
    let positive = |v: &Value, t: &IntType| t.literal && matches!(v, Value::Const(n) if i64::try_from(*n).is_ok());
    let ((sv, st), (uv, ut)) = match (lt.int.signed, rt.int.signed) {
        (true, true) => return true,
        (false, false) => return false,
        (true, false) => ((lv, lt), (rv, rt)),
        (false, true) => ((rv, rt), (lv, lt)),
    };
    !positive(sv, st) && (ut.int.size < 8 || positive(uv, ut))
}
