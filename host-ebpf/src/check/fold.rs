//! Operators on constants, computed here and now; on anything else they stay.

use super::ir::Value;
use crate::{
    kernel::btf::Int,
    syntax::ast::{BinaryOp, UnaryOp},
};

pub(super) fn unary(op: UnaryOp, operand: Value) -> Value {
    match operand {
        Value::Const(n) => Value::Const(match op {
            UnaryOp::Negate => n.wrapping_neg(),
            UnaryOp::Complement => !n,
            UnaryOp::Not => u64::from(n == 0),
            UnaryOp::Dereference | UnaryOp::AddressOf => n,
        }),
        operand => Value::Unary(op, Box::new(operand)),
    }
}

/// The low bytes, extended as the type's sign asks.
pub(super) fn convert(int: Int, n: u64) -> u64 {
    let shift = 64 - 8 * u32::from(int.size);
    if int.signed { ((n << shift).cast_signed() >> shift).cast_unsigned() } else { n << shift >> shift }
}

pub(super) fn binary(op: BinaryOp, signed: bool, left: Value, right: Value) -> Value {
    if matches!(op, BinaryOp::Add | BinaryOp::Subtract) && right == Value::Const(0) {
        return left;
    }
    if let (Value::Const(l), Value::Const(r)) = (&left, &right)
        && let Some(value) = constant(op, signed, *l, *r)
    {
        return Value::Const(value);
    }
    Value::Binary { op, signed, left: Box::new(left), right: Box::new(right) }
}

/// What the operator gives at 64 bits; `None` for a division by zero, which the checker refuses.
fn constant(op: BinaryOp, signed: bool, l: u64, r: u64) -> Option<u64> {
    let (sl, sr) = (l as i64, r as i64);
    let order = if signed { sl.cmp(&sr) } else { l.cmp(&r) };
    Some(match op {
        BinaryOp::Add => l.wrapping_add(r),
        BinaryOp::Subtract => l.wrapping_sub(r),
        BinaryOp::Multiply => l.wrapping_mul(r),
        BinaryOp::Divide | BinaryOp::Remainder if r == 0 => return None,
        BinaryOp::Divide if signed => sl.wrapping_div(sr) as u64,
        BinaryOp::Divide => l / r,
        BinaryOp::Remainder if signed => sl.wrapping_rem(sr) as u64,
        BinaryOp::Remainder => l % r,
        BinaryOp::ShiftLeft => l.wrapping_shl(r as u32),
        BinaryOp::ShiftRight if signed => sl.wrapping_shr(r as u32) as u64,
        BinaryOp::ShiftRight => l.wrapping_shr(r as u32),
        BinaryOp::BitAnd => l & r,
        BinaryOp::BitOr => l | r,
        BinaryOp::BitXor => l ^ r,
        BinaryOp::Equal => u64::from(order.is_eq()),
        BinaryOp::NotEqual => u64::from(order.is_ne()),
        BinaryOp::Less => u64::from(order.is_lt()),
        BinaryOp::LessEqual => u64::from(order.is_le()),
        BinaryOp::Greater => u64::from(order.is_gt()),
        BinaryOp::GreaterEqual => u64::from(order.is_ge()),
        BinaryOp::And => u64::from(l != 0 && r != 0),
        BinaryOp::Or => u64::from(l != 0 || r != 0),
    })
}
