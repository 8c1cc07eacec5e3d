//! What is asked of all parts of an expression: the time of the run, and whether it can fault.

use super::{
    text::Text,
    value::{Bytes, Key, KeyPart, Stack, Value},
};

impl Value {
    /// Whether any part of it satisfies the test.
    pub(crate) fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        test(self)
            || match self {
                Value::Unary(_, operand) | Value::Convert(_, operand) | Value::Swap(_, operand) => operand.any(test),
                Value::Binary { left, right, .. } => left.any(test) || right.any(test),
                Value::Choose(a, b, c) => a.any(test) || b.any(test) || c.any(test),
                Value::Field(field) => field.base.any(test),
                Value::Element(_, key) | Value::HasKey(_, key) => any_in_key(key, test),
                Value::TextIs { text, .. } | Value::TextLength(text) | Value::Contains(text, _) => text.any(test),
                Value::SameText { left, right, .. } => left.any(test) || right.any(test),
                Value::SameBytes { left, right, .. } => left.any(test) || right.any(test),
                _ => false,
            }
    }

    /// Whether computing it asks for the time of the run.
    pub(crate) fn needs_time(&self) -> bool {
        self.any(&asks_for_time)
    }

    /// Whether it reads memory that may not be there.
    pub(crate) fn can_fault(&self) -> bool {
        self.any(&|v| matches!(v, Value::Field(_)))
    }
}

/// Whether the value itself is of the time of the run.
fn asks_for_time(value: &Value) -> bool {
    matches!(value, Value::Time | Value::Duration | Value::Elapsed)
}

fn any_in_key(key: &Key, test: &dyn Fn(&Value) -> bool) -> bool {
    key.iter().any(|part| match part {
        KeyPart::Int(value) => value.any(test),
        KeyPart::Text(text) => text.any(test),
        KeyPart::Bytes(bytes) => bytes.any(test),
        KeyPart::Stack(Stack::Address(address)) => address.any(test),
        KeyPart::Stack(_) => false,
    })
}

/// Whether computing the key asks for the time of the run.
pub(crate) fn key_needs_time(key: &Key) -> bool {
    any_in_key(key, &asks_for_time)
}

impl Text {
    fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        match self {
            Text::Pointer { pointer: value, .. } | Text::Array { address: value, .. } => value.any(test),
            Text::Path(path) => path.address.any(test),
            Text::Element { key, .. } => any_in_key(key, test),
            Text::Choose(condition, a, b) => condition.any(test) || a.any(test) || b.any(test),
            _ => false,
        }
    }

    /// Whether computing it asks for the time of the run.
    pub(crate) fn needs_time(&self) -> bool {
        self.any(&asks_for_time)
    }
}

impl Bytes {
    fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        match self {
            Bytes::Memory { address: value, .. } | Bytes::Int { value, .. } => value.any(test),
            Bytes::Context { .. } | Bytes::Literal(_) => false,
        }
    }
}
