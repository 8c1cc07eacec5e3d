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
    /// `p->field`
    Arrow(Box<Expr>, Ident),
    /// `p[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `@m`, `@m[pid, comm]`
    Map(MapAccess),
    /// `(struct sock *)x`
    Cast(TypeName, Box<Expr>),
    /// `c ? x : y`
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `sizeof(struct sock)`
    SizeOf(TypeName),
    /// `offsetof(struct sock, field)`
    OffsetOf(TypeName, Ident),
    /// `container_of(p, struct sock, field)`
    ContainerOf(Box<Expr>, TypeName, Ident),
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
    /// `*`: what a pointer points to.
    Dereference,
    /// `&`: where something is.
    AddressOf,
}

/// A type as C writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// Words and stars, parted by single spaces.
    pub text: String,
    /// Its bytes.
    pub span: Range<usize>,
}

/// A map, or an element of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapAccess {
    /// The name without the `@`; empty for the map `@`.
    pub name: Ident,
    /// What stands in brackets; of a tuple, its parts.
    pub keys: Vec<Expr>,
    /// The bytes of all of it.
    pub span: Range<usize>,
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
    /// `$x = e;`; with an operator `$x += e;`
    Assign(Ident, Option<BinaryOp>, Expr),
    /// `let $x;`
    Let(Ident),
    /// `@m[k] = e;`; with an operator `@m[k] += e;`. `@m++` is `@m += 1`.
    AssignMap(MapAccess, Option<BinaryOp>, Expr),
    /// `let @m = lruhash(10000);`
    Declare(Ident, Ident, Expr),
    /// `delete(@m[k]);`
    Delete(MapAccess),
    /// `clear(@m);`
    Clear(MapAccess),
    /// `unroll(n) { ... }`
    Unroll(Expr, Vec<Statement>),
    /// `while (e) { ... }`
    While(Expr, Vec<Statement>),
    /// `for ($i : a..b) { ... }`: from a up to but not b.
    For(Ident, Expr, Expr, Vec<Statement>),
    /// `break;`
    Break,
    /// `continue;`
    Continue,
    /// `if (e) { ... } else { ... }`
    If(Expr, Vec<Statement>, Vec<Statement>),
    /// `return;`
    Return,
    /// `emit s { f: e, g };`. Without a name it is the bare list `{ pid, comm }` at the end of a body.
    Emit(Option<Ident>, Vec<EmitField>),
}

/// A field of an `emit`; `pid` alone is `pid: pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmitField {
    /// The column's name.
    pub name: Ident,
    /// Its value.
    pub value: Expr,
}
