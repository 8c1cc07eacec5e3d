//! The syntax trees. Every node knows the bytes of the text that it came from.

use std::ops::Range;

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident {
    /// The name, without a sigil.
    pub name: String,
    /// Its bytes, with the sigil.
    pub span: Range<usize>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its bytes.
    pub span: Range<usize>,
}

/// The kinds of expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExprKind {
    /// `42`, `0x2a`, `1_000_000`
    Int(u64),
    /// `"cat"`
    Text(String),
    /// A builtin: `pid`
    Name(String),
    /// A variable: `$x`
    Variable(String),
    /// `args.filename`
    Member(Box<Expr>, Ident),
    /// `str(x)`
    Call(Ident, Vec<Expr>),
    /// `-x`
    Unary(UnaryOp, Box<Expr>),
    /// `x + y`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Negate,
    /// `!`
    Not,
    /// `~`
    Complement,
}

/// Operators with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // They are what C calls them.
pub enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    ShiftLeft,
    ShiftRight,
    BitAnd,
    BitOr,
    BitXor,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
}

impl BinaryOp {
    /// As the text has it.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::Remainder => "%",
            BinaryOp::ShiftLeft => "<<",
            BinaryOp::ShiftRight => ">>",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::And => "&&",
            BinaryOp::Or => "||",
        }
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is.
    pub kind: StatementKind,
    /// Its bytes; of an `if`, those up to its block.
    pub span: Range<usize>,
}

/// The kinds of statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// `$x = e;`
    Assign(Ident, Expr),
    /// `if (e) { ... } else { ... }`
    If(Expr, Vec<Statement>, Vec<Statement>),
    /// `return;`
    Return,
    /// `emit s { f: e, g };`
    Emit(Ident, Vec<EmitField>),
}

/// A field of an `emit`; `pid` alone is `pid: pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmitField {
    /// The column's name.
    pub name: Ident,
    /// Its value.
    pub value: Expr,
}
