//! Names and types: a syntax tree and a target to a typed tree, and the data classes that it needs.

mod builtins;
mod fold;
pub(crate) mod ir;

use std::ops::Range;

use builtins::{BUILTINS, Only};
use ir::{Body, Field, FieldValue, Source, StatementKind, Text, Value};

use crate::{
    attach::{ArgumentValue, Site, Space, Target},
    diagnostic::{Diagnostic, Part, suggest},
    kernel::btf::Int,
    needs::DataClass,
    record,
    spec::ProbeSpec,
    syntax::ast::{BinaryOp, Expr, ExprKind, Ident, Statement, UnaryOp},
};

/// How many bytes of a text `str(p)` keeps, as bpftrace does.
const DEFAULT_TEXT: u32 = 64;
/// The most that `str(p, n)` can keep.
const MAX_TEXT: u32 = 1024;
/// The longest string that text can be compared with; it is read onto the stack.
const MAX_LITERAL: usize = 64;

const S64: Int = Int { size: 8, signed: true };
const BOOL: Int = Int { size: 1, signed: false };

/// The names that an expression can begin with.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    builtins::names()
}

/// A probe's syntax trees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) when: Option<&'a Expr>,
    pub(crate) body: &'a [Statement],
}

/// What reading data of a class is traced back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) class: DataClass,
    /// The expression's text.
    pub(crate) text: String,
}

/// Checks one probe at one of its targets.
pub(crate) fn check(spec: &ProbeSpec, parsed: Parsed<'_>, target: &Target) -> Result<(Body, Vec<Read>), Diagnostic> {
    let mut checker = Checker { spec, target, part: Part::When, variables: Vec::new(), saves: Vec::new(), reads: Vec::new() };
    let mut body = Body::default();
    if let Some(when) = parsed.when {
        let (value, ..) = checker.int(when, Half::Here)?;
        body.when = Some((value, Source(format!("when {}", checker.text(&when.span)))));
    }
    checker.part = Part::Body;
    body.statements = checker.statements(parsed.body)?;
    body.variables = checker.variables.len();
    body.saves = checker.saves;
    Ok((body, checker.reads))
}

struct Checker<'a> {
    spec: &'a ProbeSpec,
    target: &'a Target,
    part: Part,
    variables: Vec<Variable>,
    saves: Vec<Value>,
    reads: Vec<Read>,
}

struct Variable {
    name: String,
    typ: IntType,
}

/// An integer's type, with what is known of it as a pointer.
#[derive(Clone, Debug)]
struct IntType {
    int: Int,
    space: Option<Space>,
    ctype: String,
}

impl IntType {
    fn new(int: Int, ctype: impl Into<String>) -> Self {
        IntType { int, space: None, ctype: ctype.into() }
    }
}

enum Typed {
    Int(Value, IntType),
    Text(Text, String),
    Literal(Vec<u8>),
}

/// Which half of a span an expression is evaluated in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    /// Where the body runs.
    Here,
    /// Behind `entry.`
    Entry,
}

type Result<T, E = Diagnostic> = std::result::Result<T, E>;

impl Checker<'_> {
    fn source(&self) -> &str {
        match self.part {
            Part::When => self.spec.when.as_deref().unwrap_or_default(),
            _ => &self.spec.body,
        }
    }

    fn text(&self, span: &Range<usize>) -> &str {
        self.source().get(span.clone()).unwrap_or_default()
    }

    fn error(&self, span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            probe: self.spec.name.clone(),
            part: self.part,
            source_text: self.source().to_owned(),
            span: span.clone(),
            message: message.into(),
            help: None,
            missing: false,
        }
    }

    fn error_help(&self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic { help: Some(help.into()), ..self.error(span, message) }
    }

    fn read(&mut self, class: DataClass, span: &Range<usize>) {
        if !self.reads.iter().any(|r| r.class == class) {
            let text = self.text(span).to_owned();
            self.reads.push(Read { class, text });
        }
    }

    fn statements(&mut self, statements: &[Statement]) -> Result<Vec<ir::Statement>> {
        statements.iter().map(|s| self.statement(s)).collect()
    }

    fn statement(&mut self, statement: &Statement) -> Result<ir::Statement> {
        use crate::syntax::ast::StatementKind as Ast;
        let kind = match &statement.kind {
            Ast::Return => StatementKind::Return,
            Ast::Assign(variable, value) => self.assign(variable, value)?,
            Ast::If(condition, then, otherwise) => {
                let (value, ..) = self.int(condition, Half::Here)?;
                StatementKind::If(value, self.statements(then)?, self.statements(otherwise)?)
            }
            Ast::Emit(stream, fields) => {
                if fields.len() > record::MAX_FIELDS {
                    let message = format!("a stream can have {} fields, this one has {}", record::MAX_FIELDS, fields.len());
                    return Err(self.error(&stream.span, message));
                }
                let mut out: Vec<Field> = Vec::with_capacity(fields.len());
                for field in fields {
                    if out.iter().any(|f| f.name == field.name.name) {
                        let message = format!("the field `{}` is there already", field.name.name);
                        return Err(self.error_help(&field.name.span, message, "give it another name: `NAME: ...`"));
                    }
                    out.push(self.field(&field.name, &field.value)?);
                }
                StatementKind::Emit { stream: stream.name.clone(), fields: out }
            }
        };
        Ok(ir::Statement { kind, source: Source(self.text(&statement.span).to_owned()) })
    }

    fn assign(&mut self, variable: &Ident, value: &Expr) -> Result<StatementKind> {
        let (value, typ) = match self.expr(value, Half::Here)? {
            Typed::Int(value, typ) => (value, typ),
            _ => {
                let help = "use the text where it is needed: in an `emit` or a comparison";
                return Err(self.error_help(&value.span, "a variable holds an integer, and this is text", help));
            }
        };
        let typ = IntType { int: Int { size: 8, ..typ.int }, ..typ };
        let index = match self.variables.iter().position(|v| v.name == variable.name) {
            Some(index) => {
                self.variables[index].typ = typ;
                index
            }
            None => {
                self.variables.push(Variable { name: variable.name.clone(), typ });
                self.variables.len() - 1
            }
        };
        Ok(StatementKind::Assign(index, value))
    }

    fn field(&mut self, name: &Ident, value: &Expr) -> Result<Field> {
        let (value, ctype) = match self.expr(value, Half::Here)? {
            Typed::Int(value, typ) => (FieldValue::Int(value, typ.int), typ.ctype),
            Typed::Text(text, ctype) => (FieldValue::Text(text), ctype),
            Typed::Literal(_) => {
                return Err(self.error_help(&value.span, "a field can't be a fixed string", "let the plugin add it"));
            }
        };
        Ok(Field { name: name.name.clone(), ctype, value })
    }

    /// An expression that must be an integer.
    fn int(&mut self, expr: &Expr, half: Half) -> Result<(Value, IntType)> {
        match self.expr(expr, half)? {
            Typed::Int(value, typ) => Ok((value, typ)),
            _ => {
                Err(self.error_help(&expr.span, "an integer is needed here, and this is text", "compare text with `==` or `!=`"))
            }
        }
    }

    fn expr(&mut self, expr: &Expr, half: Half) -> Result<Typed> {
        let span = &expr.span;
        match &expr.kind {
            ExprKind::Int(value) => Ok(Typed::Int(Value::Const(*value), literal_type(*value))),
            ExprKind::Text(text) => Ok(Typed::Literal(text.clone().into_bytes())),
            ExprKind::Name(name) => self.builtin(name, span, half),
            ExprKind::Variable(name) => match self.variables.iter().position(|v| v.name == *name) {
                Some(index) => Ok(Typed::Int(Value::Variable(index), self.variables[index].typ.clone())),
                None => {
                    let error = self.error(span, format!("`${name}` has no value yet"));
                    let like = suggest(name, self.variables.iter().map(|v| v.name.as_str()));
                    let help = like
                        .map_or_else(|| format!("assign it first: `${name} = ...;`"), |like| format!("did you mean `${like}`?"));
                    Err(Diagnostic { help: Some(help), ..error })
                }
            },
            ExprKind::Member(base, member) => self.member(base, member, span, half),
            ExprKind::Call(function, arguments) => self.call(function, arguments, span, half),
            ExprKind::Unary(op, operand) => {
                let (value, typ) = self.int(operand, half)?;
                let literal = matches!(value, Value::Const(_));
                let int = match op {
                    UnaryOp::Negate => S64,
                    UnaryOp::Complement if literal => S64,
                    UnaryOp::Complement => Int { size: 8, ..typ.int },
                    UnaryOp::Not => BOOL,
                };
                Ok(Typed::Int(fold::unary(*op, value), computed(int)))
            }
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, span, half),
        }
    }

    fn builtin(&mut self, name: &str, span: &Range<usize>, half: Half) -> Result<Typed> {
        if let Some(builtin) = BUILTINS.iter().find(|b| b.name == name) {
            if builtin.only == Only::Span && (self.target.entry.is_none() || half == Half::Entry) {
                let message = format!("`{name}` is known at the exit of a span only, and {} is none", self.here(half));
                return Err(self.error_help(span, message, "attach to `span:KIND:TARGET`"));
            }
            return Ok(Typed::Int(builtin.value.clone(), IntType::new(builtin.int, builtin.ctype)));
        }
        match name {
            "comm" if half == Half::Entry => Err(self.no_text_kept(span)),
            "comm" => Ok(Typed::Text(Text::Comm, format!("char[{}]", ir::COMM_SIZE))),
            "retval" => {
                let Some(retval) = self.site(half).retval.clone() else {
                    let message = format!("nothing returns at {}", self.here(half));
                    return Err(self.error_help(
                        span,
                        message,
                        "`retval` is known at `span:...` and at `tracepoint:syscalls:sys_exit_*`",
                    ));
                };
                self.read(DataClass::Arguments, span);
                self.argument(&retval.value, &retval.ctype, span, half)
            }
            "args" => {
                let help = self.arguments_help(half);
                Err(self.error_help(span, "`args` alone is no value", help))
            }
            "entry" => Err(self.error_help(
                span,
                "`entry` alone is no value",
                "name what was at the entry: `entry.args.NAME`, `entry.cpu`",
            )),
            _ => Err(self.unknown(name, span)),
        }
    }

    fn unknown(&self, name: &str, span: &Range<usize>) -> Diagnostic {
        let error = self.error(span, format!("`{name}` is not known"));
        let help = match suggest(name, builtins::names()) {
            Some(like) => format!("did you mean `{like}`?"),
            None if self.site(Half::Here).arguments.iter().any(|a| a.name == name) => format!("did you mean `args.{name}`?"),
            None => format!("there are {}", builtins::names().collect::<Vec<_>>().join(", ")),
        };
        Diagnostic { help: Some(help), ..error }
    }

    fn no_text_kept(&self, span: &Range<usize>) -> Diagnostic {
        self.error_help(
            span,
            "a span keeps integers from its entry, and this is text",
            "take the text at the exit: `str(entry.args.NAME)`",
        )
    }

    fn site(&self, half: Half) -> &Site {
        match (half, &self.target.entry) {
            (Half::Entry, Some(entry)) => entry,
            _ => &self.target.site,
        }
    }

    fn here(&self, half: Half) -> String {
        match (half, &self.target.entry) {
            (Half::Entry, Some(_)) => format!("the entry of {}", self.target.point),
            (Half::Here, Some(_)) => format!("the exit of {}", self.target.point),
            (_, None) => self.target.point.clone(),
        }
    }

    fn arguments_help(&self, half: Half) -> String {
        let names: Vec<&str> = self.site(half).arguments.iter().map(|a| a.name.as_str()).collect();
        if names.is_empty() {
            format!("{} has no arguments", self.here(half))
        } else {
            format!("{} has {}", self.here(half), names.join(", "))
        }
    }

    /// `args.NAME`, `entry.args.NAME`, `entry.BUILTIN`
    fn member(&mut self, base: &Expr, member: &Ident, span: &Range<usize>, half: Half) -> Result<Typed> {
        match &base.kind {
            ExprKind::Name(name) if name == "args" => self.args(member, span, half),
            ExprKind::Name(name) if name == "entry" => {
                self.entry(&Expr { kind: ExprKind::Name(member.name.clone()), span: member.span.clone() }, span)
            }
            ExprKind::Member(inner, args) if args.name == "args" && matches!(&inner.kind, ExprKind::Name(n) if n == "entry") => {
                let base = Expr { kind: ExprKind::Name(args.name.clone()), span: args.span.clone() };
                let inner =
                    Expr { kind: ExprKind::Member(Box::new(base), member.clone()), span: args.span.start..member.span.end };
                self.entry(&inner, span)
            }
            _ => {
                Err(self.error_help(&member.span, "only `args` and `entry` have members here", "`args.NAME`, `entry.args.NAME`"))
            }
        }
    }

    fn entry(&mut self, inner: &Expr, span: &Range<usize>) -> Result<Typed> {
        if self.target.entry.is_none() {
            let message = format!("{} is no span and has no entry", self.target.point);
            return Err(self.error_help(span, message, "attach to `span:KIND:TARGET`"));
        }
        match self.expr(inner, Half::Entry)? {
            Typed::Int(value, typ) => {
                let index = self.saves.iter().position(|saved| *saved == value).unwrap_or_else(|| {
                    self.saves.push(value);
                    self.saves.len() - 1
                });
                Ok(Typed::Int(Value::Saved(index), typ))
            }
            _ => Err(self.no_text_kept(span)),
        }
    }

    fn args(&mut self, member: &Ident, span: &Range<usize>, half: Half) -> Result<Typed> {
        let site = self.site(half);
        let Some(argument) = site.arguments.iter().find(|a| a.name == member.name).cloned() else {
            let message = format!("no argument `{}` at {}", member.name, self.here(half));
            let at_entry = half == Half::Here
                && self.target.entry.as_ref().is_some_and(|e| e.arguments.iter().any(|a| a.name == member.name));
            let help = if at_entry {
                format!("it is known at the entry: `entry.args.{}`", member.name)
            } else {
                match suggest(&member.name, site.arguments.iter().map(|a| a.name.as_str())) {
                    Some(like) => format!("did you mean `{like}`?"),
                    None => self.arguments_help(half),
                }
            };
            return Err(self.error_help(&member.span, message, help));
        };
        self.read(DataClass::Arguments, span);
        self.argument(&argument.value, &argument.ctype, span, half)
    }

    fn argument(&self, value: &ArgumentValue, ctype: &str, span: &Range<usize>, half: Half) -> Result<Typed> {
        match *value {
            ArgumentValue::Int(place, int) => Ok(Typed::Int(Value::Load(place, int), IntType::new(int, ctype))),
            ArgumentValue::Pointer(place, space) => {
                let typ = IntType { int: Int { size: 8, signed: false }, space: Some(space), ctype: ctype.to_owned() };
                Ok(Typed::Int(Value::Pointer(place), typ))
            }
            ArgumentValue::Chars { .. } | ArgumentValue::DataLoc { .. } if half == Half::Entry => Err(self.no_text_kept(span)),
            ArgumentValue::Chars { offset, size } => Ok(Typed::Text(Text::Chars { offset, size }, ctype.to_owned())),
            ArgumentValue::DataLoc { offset, relative } => {
                Ok(Typed::Text(Text::DataLoc { offset, relative, keep: DEFAULT_TEXT }, ctype.to_owned()))
            }
            ArgumentValue::Constant(..) | ArgumentValue::Memory(..) | ArgumentValue::Other => {
                Err(self.error(span, format!("a value of type `{ctype}` can't be used here")))
            }
        }
    }

    fn call(&mut self, function: &Ident, arguments: &[Expr], span: &Range<usize>, half: Half) -> Result<Typed> {
        if function.name != "str" {
            let error = self.error(&function.span, format!("there is no function `{}`", function.name));
            let help = match suggest(&function.name, ["str"]) {
                Some(like) => format!("did you mean `{like}`?"),
                None => "this version of the language has one function, `str(pointer)`".to_owned(),
            };
            return Err(Diagnostic { help: Some(help), ..error });
        }
        if half == Half::Entry {
            return Err(self.no_text_kept(span));
        }
        let (pointer, length) = match arguments {
            [pointer] => (pointer, None),
            [pointer, length] => (pointer, Some(length)),
            _ => {
                let message = format!("`str` takes a pointer and perhaps a length, not {} arguments", arguments.len());
                return Err(self.error_help(span, message, "`str(args.filename)`, `str(args.filename, 256)`"));
            }
        };
        let limit = match length {
            None => DEFAULT_TEXT,
            Some(length) => match self.int(length, half)?.0 {
                Value::Const(n) if (1..=u64::from(MAX_TEXT)).contains(&n) => n as u32,
                _ => {
                    let message = format!("the length must be a constant between 1 and {MAX_TEXT}");
                    return Err(self.error(&length.span, message));
                }
            },
        };
        match self.expr(pointer, half)? {
            Typed::Int(value, IntType { space: Some(space), .. }) => {
                self.read(
                    match space {
                        Space::User => DataClass::UserMemory,
                        Space::Kernel => DataClass::KernelMemory,
                    },
                    span,
                );
                Ok(Typed::Text(Text::Pointer { pointer: Box::new(value), space, keep: limit }, format!("char[{limit}]")))
            }
            Typed::Int(_, typ) => {
                let message = format!("`str` needs a pointer, and this is of type `{}`", typ.ctype);
                Err(self.error(&pointer.span, message))
            }
            // Text already: with a length of its own, where it has no fixed size.
            Typed::Text(Text::DataLoc { offset, relative, .. }, ctype) => {
                Ok(Typed::Text(Text::DataLoc { offset, relative, keep: limit }, ctype))
            }
            Typed::Text(text, ctype) => Ok(Typed::Text(text, ctype)),
            Typed::Literal(_) => Err(self.error(&pointer.span, "`str` needs a pointer, and this is a string")),
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let (l, r) = (self.expr(left, half)?, self.expr(right, half)?);
        let ((lv, lt), (rv, rt)) = match (l, r) {
            (Typed::Int(lv, lt), Typed::Int(rv, rt)) => ((lv, lt), (rv, rt)),
            (Typed::Text(text, _), Typed::Literal(literal)) => return self.text_is(op, text, literal, span, &right.span),
            (Typed::Literal(literal), Typed::Text(text, _)) => return self.text_is(op, text, literal, span, &left.span),
            (Typed::Int(..), _) => {
                return Err(
                    self.error(&right.span, format!("`{}` has an integer on its left and text on its right", op.as_str()))
                );
            }
            (_, Typed::Int(..)) => {
                return Err(
                    self.error(&right.span, format!("`{}` has text on its left and an integer on its right", op.as_str()))
                );
            }
            _ => return Err(self.error_help(span, "text is compared with a string only", "`comm == \"cat\"`")),
        };
        match (op, &rv) {
            (BinaryOp::Divide | BinaryOp::Remainder, Value::Const(0)) => {
                return Err(self.error(&right.span, "division by zero"));
            }
            (BinaryOp::ShiftLeft | BinaryOp::ShiftRight, Value::Const(n)) if *n > 63 => {
                return Err(self.error(&right.span, "a shift goes by 0 to 63 bits"));
            }
            _ => {}
        }
        let signed = match op {
            BinaryOp::ShiftLeft | BinaryOp::ShiftRight => lt.int.signed,
            _ => common_sign((&lv, lt.int), (&rv, rt.int)),
        };
        let int = match op {
            BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::Less
            | BinaryOp::LessEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterEqual
            | BinaryOp::And
            | BinaryOp::Or => BOOL,
            _ => Int { size: 8, signed },
        };
        let mut typ = computed(int);
        // A pointer with an offset is a pointer still.
        if matches!(op, BinaryOp::Add | BinaryOp::Subtract) {
            typ.space = lt.space.or(rt.space);
        }
        Ok(Typed::Int(fold::binary(op, signed, lv, rv), typ))
    }

    fn text_is(&self, op: BinaryOp, text: Text, literal: Vec<u8>, span: &Range<usize>, at: &Range<usize>) -> Result<Typed> {
        let equal = match op {
            BinaryOp::Equal => true,
            BinaryOp::NotEqual => false,
            _ => {
                return Err(self.error_help(
                    span,
                    format!("`{}` does not work on text", op.as_str()),
                    "compare text with `==` or `!=`",
                ));
            }
        };
        // The command's name ends with a NUL byte.
        let most = if text == Text::Comm { ir::COMM_SIZE as usize - 1 } else { MAX_LITERAL.min(text.capacity() as usize) };
        if literal.len() > most {
            let message = format!("this text has {most} bytes at most here, and the string has {}", literal.len());
            return Err(self.error(at, message));
        }
        if literal.contains(&0) {
            return Err(self.error(at, "text ends before a NUL byte and can't contain one"));
        }
        // Only as much is read as the comparison looks at.
        let keep = literal.len().max(1) as u32;
        let text = match text {
            Text::DataLoc { offset, relative, .. } => Text::DataLoc { offset, relative, keep },
            Text::Pointer { pointer, space, .. } => Text::Pointer { pointer, space, keep },
            text => text,
        };
        Ok(Typed::Int(Value::TextIs { text, literal, equal }, computed(BOOL)))
    }
}

fn literal_type(value: u64) -> IntType {
    computed(Int { size: 8, signed: i64::try_from(value).is_ok() })
}

/// The type of what was computed rather than read.
fn computed(int: Int) -> IntType {
    let ctype = match (int.size, int.signed) {
        (1, _) => "bool",
        (_, true) => "s64",
        (_, false) => "u64",
    };
    IntType::new(int, ctype)
}

/// Whether an operation on both is signed: C's rule at 64 bits. A constant takes the side of the other operand if it fits, and
/// an unsigned type that is narrower than 64 bits fits into the signed one.
fn common_sign((lv, lt): (&Value, Int), (rv, rt): (&Value, Int)) -> bool {
    let positive = |v: &Value| matches!(v, Value::Const(n) if i64::try_from(*n).is_ok());
    match (lt.signed, rt.signed) {
        (true, true) => true,
        (false, false) => false,
        (true, false) => {
            if positive(lv) {
                false
            } else {
                rt.size < 8 || positive(rv)
            }
        }
        (false, true) => {
            if positive(rv) {
                false
            } else {
                lt.size < 8 || positive(lv)
            }
        }
    }
}
