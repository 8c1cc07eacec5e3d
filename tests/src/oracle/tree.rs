//! Expressions and statements as data. Their text has as few parentheses as C needs, so that precedence is tested, too.

use std::fmt::{self, Display, Formatter};

/// The integer types that casts name: their name, size in bytes and sign. What a `bool` is made of differs: it is 0 or 1.
pub const TYPES: [(&str, u8, bool); 13] = [
    ("int64", 8, true),
    ("uint64", 8, false),
    ("int32", 4, true),
    ("uint32", 4, false),
    ("int16", 2, true),
    ("uint16", 2, false),
    ("int8", 1, true),
    ("uint8", 1, false),
    ("u64", 8, false),
    ("s32", 4, true),
    ("unsigned int", 4, false),
    ("size_t", 8, false),
    ("bool", 1, false),
];
/// The place of `bool` among them.
pub const BOOL: usize = 12;

/// How many integers and texts there are as inputs. Those with an even number are signed.
pub const INTEGERS: usize = 4;
/// The same of texts.
pub const TEXTS: usize = 2;
/// How many bytes the texts of inputs can have.
pub const TEXT_CAPACITY: usize = 16;

/// An integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A number as it is written.
    Literal(u64),
    /// `sizeof` of one of [`TYPES`].
    SizeOf(usize),
    /// `$v0`: an input in a variable.
    Variable(usize),
    /// `@m0`: the same input in a map.
    Input(usize),
    /// `$i0`: how far a loop is. Without such a loop around it, 0.
    Counter(usize),
    /// `@s[key]`
    Element(Place),
    /// `has_key(@s[key])`
    HasKey(Place),
    /// `len(@s)`, or, with `true`, `len(@p)`.
    Len(bool),
    /// To one of [`TYPES`].
    Cast(usize, Box<Expr>),
    /// With one operand.
    Unary(Unary, Box<Expr>),
    /// With two operands.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `a ? b : c`
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `bswap(x)`
    Swap(Box<Expr>),
    /// `text == "string"` or `text != "string"`; the string may stand on the left.
    TextIs {
        /// What is compared.
        text: Text,
        /// With what.
        string: String,
        /// `==`, not `!=`.
        equal: bool,
        /// The string stands on the left.
        swapped: bool,
    },
    /// The same of two texts.
    SameText(Text, Text, bool),
    /// `strncmp(text, "string", n)`
    BeginsAlike(Text, String, usize),
    /// `strcontains(text, "needle")`
    Contains(Text, String),
    /// `strlen(text)`
    Length(Text),
    /// A comparison of text at an address where nothing is: the empty text, and the fault is counted.
    Fault,
}

/// An element of a map: of `@s`, whose values are signed, or, with a text in the key, of `@p`, whose values are unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number in the key.
    pub number: Box<Expr>,
    /// The text in the key.
    pub text: Option<Side>,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// `$t0`: an input in a variable.
    Variable(usize),
    /// `@t0`: the same input in a map.
    Input(usize),
    /// `comm`, which is that of the thread that runs the program.
    Comm,
    /// `a ? b : c`
    Choose(Box<Expr>, Box<Side>, Box<Side>),
}

/// One of the texts to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// A string.
    Fixed(String),
    /// Another.
    Text(Text),
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Negate,
    Complement,
    Not,
}

/// Operators with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
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

impl Binary {
    /// All of them, the simplest first.
    pub const ALL: [Binary; 18] = [
        Binary::Add,
        Binary::Subtract,
        Binary::Multiply,
        Binary::BitAnd,
        Binary::BitOr,
        Binary::BitXor,
        Binary::Equal,
        Binary::NotEqual,
        Binary::Less,
        Binary::LessEqual,
        Binary::Greater,
        Binary::GreaterEqual,
        Binary::And,
        Binary::Or,
        Binary::ShiftLeft,
        Binary::ShiftRight,
        Binary::Divide,
        Binary::Remainder,
    ];

    /// Whether there is an operator that assigns what it gives.
    pub fn assigns(self) -> bool {
        matches!(self.notation().1, 3..=5 | 8..=10)
    }

    /// How it is written, and how tightly it binds in C.
    fn notation(self) -> (&'static str, u8) {
        match self {
            Binary::Or => ("||", 1),
            Binary::And => ("&&", 2),
            Binary::BitOr => ("|", 3),
            Binary::BitXor => ("^", 4),
            Binary::BitAnd => ("&", 5),
            Binary::Equal => ("==", 6),
            Binary::NotEqual => ("!=", 6),
            Binary::Less => ("<", 7),
            Binary::LessEqual => ("<=", 7),
            Binary::Greater => (">", 7),
            Binary::GreaterEqual => (">=", 7),
            Binary::ShiftLeft => ("<<", 8),
            Binary::ShiftRight => (">>", 8),
            Binary::Add => ("+", 9),
            Binary::Subtract => ("-", 9),
            Binary::Multiply => ("*", 10),
            Binary::Divide => ("/", 10),
            Binary::Remainder => ("%", 10),
        }
    }
}

/// What binds tighter than all operators with two operands, and what needs no parentheses at all.
const PREFIX: u8 = 11;
const WHOLE: u8 = 12;

impl Expr {
    fn binds(&self) -> u8 {
        match self {
            Expr::Choose(..) => 0,
            Expr::Binary(op, ..) => op.notation().1,
            Expr::TextIs { .. } | Expr::SameText(..) | Expr::Fault => Binary::Equal.notation().1,
            Expr::Unary(..) | Expr::Cast(..) => PREFIX,
            _ => WHOLE,
        }
    }

    /// As an operand that has to bind at least as tightly as `least`.
    fn operand(&self, f: &mut Formatter<'_>, least: u8) -> fmt::Result {
        if self.binds() < least { write!(f, "({self})") } else { write!(f, "{self}") }
    }

    /// Behind an operator in front of it.
    fn prefixed(&self, f: &mut Formatter<'_>, op: &str) -> fmt::Result {
        f.write_str(op)?;
        // Two minus signs would be another operator.
        if op == "-" && matches!(self, Expr::Unary(Unary::Negate, _)) {
            f.write_str(" ")?;
        }
        self.operand(f, PREFIX)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = |equal: &bool| if *equal { "==" } else { "!=" };
        match self {
            Expr::Literal(n) if n % 3 == 2 => write!(f, "{n:#x}"),
            Expr::Literal(n) => write!(f, "{n}"),
            Expr::SizeOf(of) => write!(f, "sizeof({})", TYPES[*of].0),
            Expr::Variable(n) => write!(f, "$v{n}"),
            Expr::Input(n) => write!(f, "@m{n}"),
            Expr::Counter(n) => write!(f, "$i{n}"),
            Expr::Element(place) => write!(f, "{place}"),
            Expr::HasKey(place) => write!(f, "has_key({place})"),
            Expr::Len(texts) => write!(f, "len(@{})", whole(*texts)),
            Expr::Cast(to, operand) => operand.prefixed(f, &format!("({})", TYPES[*to].0)),
            Expr::Unary(Unary::Negate, operand) => operand.prefixed(f, "-"),
            Expr::Unary(Unary::Complement, operand) => operand.prefixed(f, "~"),
            Expr::Unary(Unary::Not, operand) => operand.prefixed(f, "!"),
            Expr::Binary(op, left, right) => {
                let (mark, binds) = op.notation();
                left.operand(f, binds)?;
                write!(f, " {mark} ")?;
                // What follows each other groups from the left.
                right.operand(f, binds + 1)
            }
            Expr::Choose(condition, then, otherwise) => {
                condition.operand(f, 1)?;
                write!(f, " ? {then} : {otherwise}")
            }
            Expr::Swap(operand) => write!(f, "bswap({operand})"),
            Expr::TextIs { text, string, equal, swapped: false } => write!(f, "{text} {} {}", sign(equal), quoted(string)),
            Expr::TextIs { text, string, equal, swapped: true } => write!(f, "{} {} {text}", quoted(string), sign(equal)),
            Expr::SameText(left, right, equal) => write!(f, "{left} {} {right}", sign(equal)),
            Expr::BeginsAlike(text, string, length) => write!(f, "strncmp({text}, {}, {length})", quoted(string)),
            Expr::Contains(text, needle) => write!(f, "strcontains({text}, {})", quoted(needle)),
            Expr::Length(text) => write!(f, "strlen({text})"),
            Expr::Fault => write!(f, "str(kptr($nowhere)) == \"\""),
        }
    }
}

/// The name of the map that has texts in its keys, or of the other.
fn whole(texts: bool) -> &'static str {
    if texts { "p" } else { "s" }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.text {
            None => write!(f, "@s[{}]", self.number),
            Some(text) => write!(f, "@p[{}, {text}]", self.number),
        }
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Text::Variable(n) => write!(f, "$t{n}"),
            Text::Input(n) => write!(f, "@t{n}"),
            Text::Comm => f.write_str("comm"),
            Text::Choose(condition, then, otherwise) => {
                f.write_str("(")?;
                condition.operand(f, 1)?;
                write!(f, " ? {then} : {otherwise})")
            }
        }
    }
}

impl Display for Side {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Side::Fixed(string) => f.write_str(&quoted(string)),
            Side::Text(text) => write!(f, "{text}"),
        }
    }
}

/// What a statement changes, an integer. What is assigned is cast to its type, so that it keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `$v0`
    Variable(usize),
    /// `@m0`
    Input(usize),
    /// `@s[key]`
    Element(Place),
}

impl Target {
    /// Whether its type has a sign.
    pub fn signed(&self) -> bool {
        match self {
            Target::Variable(n) | Target::Input(n) => n.is_multiple_of(2),
            Target::Element(place) => place.text.is_none(),
        }
    }
}

/// Until where a `for` counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A number.
    Constant(i64),
    /// `$v0`, which may be far away: the language has a limit for that.
    Variable(usize),
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `$v0 = x;`, or with an operator `$v0 += x;`
    Assign(Target, Option<Binary>, Expr),
    /// `$v0++;` or `--$v0;`
    Step(Target, bool),
    /// `$t0 = text;`
    Text(usize, Side),
    /// `@t0 = text;`
    TextInput(usize, Side),
    /// `delete(@s[key]);`
    Delete(Place),
    /// `clear(@s);`, or, with `true`, `clear(@p);`
    Clear(bool),
    /// `if (x) { ... } else { ... }`
    If(Expr, Vec<Statement>, Vec<Statement>),
    /// `while (x) { ... }`
    While(Expr, Vec<Statement>),
    /// `for ($i0 : a..b) { ... }`, with the number of loops around it in the name of its variable.
    For(i64, Bound, Vec<Statement>),
    /// `unroll(n) { ... }`
    Unroll(u8, Vec<Statement>),
    /// `emit along { x };`
    Emit(Expr),
    /// `break;`
    Break,
    /// `continue;`
    Continue,
    /// `return;`
    Return,
}

/// Statements with this many `for` loops around them.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a>(pub &'a [Statement], pub usize);

impl Display for Block<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let depth = self.1;
        for statement in self.0 {
            let inner = |statements| Block(statements, depth);
            match statement {
                Statement::Assign(target, op, value) => {
                    let op = op.map_or("", |op| op.notation().0);
                    write!(f, "{target} {op}= ({}int64)", if target.signed() { "" } else { "u" })?;
                    value.operand(f, PREFIX)?;
                    writeln!(f, ";")?;
                }
                Statement::Step(target, true) => writeln!(f, "{target}++;")?,
                Statement::Step(target, false) => writeln!(f, "--{target};")?,
                Statement::Text(n, text) => writeln!(f, "$t{n} = {text};")?,
                Statement::TextInput(n, text) => writeln!(f, "@t{n} = {text};")?,
                Statement::Delete(place) => writeln!(f, "delete({place});")?,
                Statement::Clear(texts) => writeln!(f, "clear(@{});", whole(*texts))?,
                Statement::If(condition, then, otherwise) => {
                    write!(f, "if ({condition}) {{\n{}}}", inner(then))?;
                    match otherwise.as_slice() {
                        [] => writeln!(f)?,
                        [Statement::If(..)] => write!(f, " else {}", inner(otherwise))?,
                        _ => writeln!(f, " else {{\n{}}}", inner(otherwise))?,
                    }
                }
                Statement::While(condition, body) => writeln!(f, "while ({condition}) {{\n{}}}", inner(body))?,
                Statement::For(from, to, body) => {
                    let to = match to {
                        Bound::Constant(n) => n.to_string(),
                        Bound::Variable(n) => format!("$v{n}"),
                    };
                    writeln!(f, "for ($i{depth} : {from}..{to}) {{\n{}}}", Block(body, depth + 1))?;
                }
                Statement::Unroll(times, body) => writeln!(f, "unroll({times}) {{\n{}}}", inner(body))?,
                Statement::Emit(value) => writeln!(f, "emit along {{ x: (int64)({value}) }};")?,
                Statement::Break => writeln!(f, "break;")?,
                Statement::Continue => writeln!(f, "continue;")?,
                Statement::Return => writeln!(f, "return;")?,
            }
        }
        Ok(())
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Target::Variable(n) => write!(f, "$v{n}"),
            Target::Input(n) => write!(f, "@m{n}"),
            Target::Element(place) => write!(f, "{place}"),
        }
    }
}

/// A string as the language writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parentheses stand where C needs them and nowhere else.
    #[test]
    fn text() {
        let check = |expr: Expr, expect: &str| assert_eq!(expr.to_string(), expect);
        let v = |n| Box::new(Expr::Variable(n));
        let binary = |op, left, right| Box::new(Expr::Binary(op, left, right));
        check(*binary(Binary::Subtract, v(0), binary(Binary::Subtract, v(1), v(2))), "$v0 - ($v1 - $v2)");
        check(*binary(Binary::Subtract, binary(Binary::Subtract, v(0), v(1)), v(2)), "$v0 - $v1 - $v2");
        check(*binary(Binary::Multiply, binary(Binary::Add, v(0), v(1)), v(2)), "($v0 + $v1) * $v2");
        check(*binary(Binary::Or, binary(Binary::And, v(0), v(1)), v(2)), "$v0 && $v1 || $v2");
        check(Expr::Cast(6, binary(Binary::Add, v(0), v(1))), "(int8)($v0 + $v1)");
        check(Expr::Unary(Unary::Negate, Box::new(Expr::Unary(Unary::Negate, v(0)))), "- -$v0");
        let choose = || Box::new(Expr::Choose(v(0), v(1), v(2)));
        check(*binary(Binary::Add, choose(), v(3)), "($v0 ? $v1 : $v2) + $v3");
        check(Expr::Choose(choose(), choose(), choose()), "($v0 ? $v1 : $v2) ? $v0 ? $v1 : $v2 : $v0 ? $v1 : $v2");
        check(
            Expr::TextIs { text: Text::Comm, string: "a\"\\\n".into(), equal: true, swapped: true },
            "\"a\\\"\\\\\\n\" == comm",
        );
    }
}
