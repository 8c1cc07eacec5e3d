//! Bytes that are compared, and addresses of the internet, which are such.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::{
    Checker, Half, MAX_LITERAL, Result,
    expr::equality,
    ir::{Bytes, Value},
    types::{BOOL, IntType, Typed, computed},
};
use crate::{
    diagnostic::Diagnostic,
    kernel::btf::{Int, Shape},
    record::Naming,
    syntax::ast::{BinaryOp, Expr},
};

/// What one side of a comparison is, if the other is bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Bytes, whatever the other side is.
    Bytes(u32),
    /// An array of so many bytes; beside a pointer it is where it begins.
    Array(u32),
    /// A struct of so many bytes, of which some may mean nothing.
    Struct(u32),
    /// An integer of so many bytes, which is no pointer.
    Int(u32),
    Other,
}

impl Side {
    fn length(self) -> u32 {
        match self {
            Side::Bytes(length) | Side::Array(length) | Side::Struct(length) | Side::Int(length) => length,
            Side::Other => 0,
        }
    }
}

impl Checker<'_> {
    fn side(&self, typed: &Typed) -> Side {
        match typed {
            Typed::Bytes(bytes, ..) => Side::Bytes(bytes.length()),
            Typed::Array(array) => Side::Array(array.size()),
            Typed::Object(object) => {
                let size = self.types().size(object.id).unwrap_or(0);
                match self.types().shape(object.id) {
                    Some(Shape::Array { .. }) => Side::Array(size),
                    _ => Side::Struct(size),
                }
            }
            Typed::Int(_, typ) if typ.is_no_pointer() => Side::Int(typ.int.size.into()),
            _ => Side::Other,
        }
    }

    /// Whether bytes are the same, if that is what is asked.
    pub(super) fn same_bytes(
        &mut self,
        op: BinaryOp,
        (left, left_expr): (&Typed, &Expr),
        (right, right_expr): (&Typed, &Expr),
        span: &Range<usize>,
        half: Half,
    ) -> Result<Option<Typed>> {
        let sides = (self.side(left), self.side(right));
        match sides {
            (Side::Bytes(_), Side::Other) | (Side::Other, Side::Bytes(_)) => return Err(self.no_bytes(op, left, right, span)),
            (Side::Other, _) | (_, Side::Other) | (Side::Int(_), Side::Int(_)) | (Side::Struct(_), Side::Struct(_)) => {
                return Ok(None);
            }
            (Side::Array(_), Side::Struct(_)) | (Side::Struct(_), Side::Array(_)) => return Ok(None),
            _ => {}
        }
        let Some(equal) = equality(op) else { return Err(self.no_bytes(op, left, right, span)) };
        let (a, b) = (sides.0.length(), sides.1.length());
        if a != b {
            let message = format!("`{}` has {a} bytes on its left and {b} on its right", op.as_str());
            let help = match (a, b) {
                (4, 16) | (16, 4) => "among addresses of IPv6 one of IPv4 is `pton(\"::ffff:127.0.0.1\")`",
                _ => "compare as many: `buf(x, 16) == buf(y, 16)`",
            };
            return Err(self.error_help(span, message, help));
        }
        if a as usize > MAX_LITERAL {
            let message = format!("that is {a} bytes, and {MAX_LITERAL} is the most that is compared");
            return Err(self.error_help(span, message, format!("compare a part: `buf(x, {MAX_LITERAL})`")));
        }
        let (left, right) = (self.bytes_of(left, left_expr, half)?, self.bytes_of(right, right_expr, half)?);
        let value = match (left, right) {
            (Bytes::Literal(left), Bytes::Literal(right)) => Value::Const(u64::from((left == right) == equal)),
            // What is known is behind what is read.
            (left @ Bytes::Literal(_), right) => Value::SameBytes { left: right, right: left, equal },
            (left, right) => Value::SameBytes { left, right, equal },
        };
        Ok(Some(Typed::Int(value, computed(BOOL))))
    }

    fn bytes_of(&mut self, typed: &Typed, expr: &Expr, half: Half) -> Result<Bytes> {
        match typed {
            Typed::Bytes(bytes, ..) => Ok(bytes.clone()),
            Typed::Int(value, typ) => Ok(Bytes::Int { value: Box::new(value.clone()), length: typ.int.size.into() }),
            _ => self.bytes_at(expr, None, MAX_LITERAL as u32, &expr.span, half),
        }
    }

    fn no_bytes(&self, op: BinaryOp, left: &Typed, right: &Typed, span: &Range<usize>) -> Diagnostic {
        let message = format!("`{}` has {} on its left and {} on its right", op.as_str(), left.describe(), right.describe());
        let address = |typed: &Typed| matches!(typed, Typed::Bytes(_, Naming::Inet, _));
        let help = match (left, right) {
            (Typed::Literal(_), other) | (other, Typed::Literal(_)) if address(other) => {
                "compare the address itself: `x == pton(\"127.0.0.1\")`"
            }
            _ => "bytes compare by `==` and `!=`, with as many bytes: `x == pton(\"::1\")`, `buf(x, 16) == buf(y, 16)`",
        };
        self.error_help(span, message, help)
    }

    /// An address of the internet protocol: of IPv4 an integer, of IPv6 bytes, in network order.
    pub(super) fn network_address(&self, text: &Expr) -> Result<Typed> {
        let literal = self.literal(text, "the address")?;
        if let Ok(address) = literal.parse::<Ipv4Addr>() {
            let value = u32::from_ne_bytes(address.octets());
            let int = Int { size: 4, signed: false };
            return Ok(Typed::Int(Value::Const(value.into()), IntType::new(int, "u32")));
        }
        if let Ok(address) = literal.parse::<Ipv6Addr>() {
            return Ok(Typed::Bytes(Bytes::Literal(address.octets().to_vec()), Naming::Plain, "u8[16]".to_owned()));
        }
        let message = format!("`{literal}` is no address of IPv4 or IPv6");
        let help = "`pton(\"127.0.0.1\")`, `pton(\"::1\")`; it is in network order, as in the kernel";
        Err(self.error_help(&text.span, message, help))
    }
}
