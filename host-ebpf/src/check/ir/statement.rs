//! Statements, and the fields of what is emitted.

use std::hash::{Hash, Hasher};

use super::{
    text::Text,
    value::{Bytes, Key, Stack, Value},
};
use crate::{kernel::btf::Int, record::Naming, syntax::ast::BinaryOp};

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FieldValue {
    Int(Value, Int),
    Text(Text),
    Bytes(Bytes),
    Stack(Stack),
}

/// A field of an `emit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ctype: String,
    pub(crate) value: FieldValue,
    pub(crate) naming: Naming,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub(crate) kind: StatementKind,
    pub(crate) source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StatementKind {
    Assign(usize, Value),
    AssignText(usize, Text),
    If(Value, Vec<Statement>, Vec<Statement>),
    /// So many times, written out.
    Unroll(u32, Vec<Statement>),
    /// While the condition holds, and `limit` times at most.
    While {
        condition: Value,
        limit: u32,
        body: Vec<Statement>,
    },
    /// For each value of the variable from `from` to below `to`, and `limit` times at most.
    For {
        variable: usize,
        from: Value,
        to: Value,
        limit: u32,
        body: Vec<Statement>,
    },
    Break,
    Continue,
    /// `@m[k] = value`
    Set {
        map: usize,
        key: Key,
        value: Value,
    },
    SetText {
        map: usize,
        key: Key,
        value: Text,
    },
    /// `@m[k] += value`, in one indivisible step.
    Add {
        map: usize,
        key: Key,
        value: Value,
    },
    /// `@m[k] *= value`: the key is evaluated once.
    Change {
        map: usize,
        key: Key,
        op: BinaryOp,
        signed: bool,
        value: Value,
    },
    /// One more value for an aggregation.
    Aggregate {
        map: usize,
        key: Key,
        value: Value,
        /// It counts by intervals of time.
        series: bool,
    },
    Delete {
        map: usize,
        key: Key,
    },
    /// All elements of a map with keys.
    Clear {
        map: usize,
    },
    Return,
    Emit {
        stream: String,
        fields: Vec<Field>,
    },
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
