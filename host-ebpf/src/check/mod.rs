//! Names and types: a syntax tree and a target to a typed tree, and the data classes that it needs.
//!
//! | room | what |
//! |---|---|
//! | here | statements, variables, fields |
//! | `expr` | expressions and operators |
//! | `memory` | what pointers point to: members, elements, casts |
//! | `builtins`, `functions` | names and calls |
//! | `path` | the paths of files |
//! | `bytes` | bytes that are compared, addresses of the internet |
//! | `iterated` | what names mean in an iterator |
//! | `limits` | whose hits are hits |
//! | `access` | maps in expressions and statements |
//! | `maps` | what all probes together say of each map |
//! | `types`, `ir` | types, typed trees |

mod access;
mod builtins;
mod bytes;
mod expr;
mod fold;
mod functions;
pub(crate) mod ir;
mod iterated;
pub(crate) mod limits;
pub(crate) mod maps;
mod memory;
mod path;
mod types;

use std::ops::Range;

use ir::{Body, ContextUse, Field, FieldValue, Names, Save, Source, StatementKind, Text, Value};
use maps::Maps;
use types::{IntType, Typed, computed};

use crate::{
    attach::{Site, Target},
    diagnostic::{Diagnostic, Part},
    kernel::{
        Kernel,
        btf::{Int, Types},
    },
    needs::DataClass,
    record,
    spec::ProbeSpec,
    syntax::{
        ast::{BinaryOp, Expr, ExprKind, Ident, Statement},
        parse_list,
    },
};

/// How many bytes of a text `str(p)` keeps.
const DEFAULT_TEXT: u32 = 64;
/// The most that `str(p, n)` can keep.
const MAX_TEXT: u32 = 1024;
/// The most that a variable, a key or a comparison can hold: it stands on the stack, which has 512 bytes.
const MAX_STACK_TEXT: u32 = 128;
/// The longest string that text can be compared with, and the most bytes that bytes can: they are read onto the stack.
const MAX_LITERAL: usize = 64;
/// How often a loop runs whose end is not a constant: the verifier walks every round.
const LOOP_LIMIT: u32 = 128;
/// How often one with constant ends can run.
const MAX_ROUNDS: u64 = 1024;
/// The most parts that the key of a span can have.
const MAX_SPAN_KEY: usize = 4;
/// How often `unroll` can repeat its block.
const MAX_UNROLL: u64 = 100;

/// The names that an expression can begin with.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    builtins::names().chain(functions::names()).chain(crate::aggregate::NAMES)
}

/// A probe's syntax trees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) when: Option<&'a Expr>,
    pub(crate) body: &'a [Statement],
    /// What is asked of the task whose hit it is.
    pub(crate) limits: Option<&'a Expr>,
    /// Which of the probe's attach points has the target.
    pub(crate) attach: usize,
}

/// What reading data of a class is traced back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) class: DataClass,
    /// The expression's text.
    pub(crate) text: String,
}

/// Checks one probe at one of its targets.
pub(crate) fn check(
    spec: &ProbeSpec,
    parsed: Parsed<'_>,
    target: &Target,
    kernel: &dyn Kernel,
    maps: &mut Maps,
) -> Result<(Body, Vec<Read>), Diagnostic> {
    // What a variable holds at most may be said after it was read, in a loop: then all is checked again, knowing it.
    let mut texts = Texts::new();
    loop {
        let (body, reads, wider) = check_once(spec, parsed, target, kernel, maps, &texts)?;
        if wider.is_empty() {
            return Ok((body, reads));
        }
        texts = wider;
    }
}

/// Variables, and what text each holds at most.
type Texts = Vec<(String, u32)>;

/// The last is empty, or what each variable that holds text was found to hold at most, if for one of them that is more than was
/// known when it was assigned first. That only ever grows, up to [`MAX_STACK_TEXT`].
fn check_once(
    spec: &ProbeSpec,
    parsed: Parsed<'_>,
    target: &Target,
    kernel: &dyn Kernel,
    maps: &mut Maps,
    texts: &[(String, u32)],
) -> Result<(Body, Vec<Read>, Texts)> {
    let mut checker = Checker {
        spec,
        target,
        kernel,
        maps,
        part: Part::When,
        variables: Vec::new(),
        texts,
        wider: false,
        saves: Vec::new(),
        reads: Vec::new(),
        names: Names::default(),
        entry: ContextUse::default(),
        here: ContextUse::default(),
        paths: false,
        loops: 0,
        lacks: None,
    };
    let mut body = Body::default();
    if let Some(limits) = parsed.limits {
        body.limits = Some(checker.condition(limits, Half::Here)?);
        // Others than the plugin ask.
        checker.reads.clear();
    }
    if let Some(when) = parsed.when {
        let value = checker.condition(when, Half::Here)?;
        body.when = Some((value, Source(format!("when {}", checker.text(&when.span)))));
    }
    checker.part = Part::Body;
    body.statements = checker.statements(parsed.body)?;
    checker.part = Part::Attach(parsed.attach);
    // Of the body's variables the key knows none: it is built before the body runs, and at the entry, where none does.
    let variables = std::mem::take(&mut checker.variables);
    body.key = checker.key()?;
    if let Some(error) = checker.lacks {
        return Err(error);
    }
    body.variables = variables.iter().map(|variable| variable.text).collect();
    body.saves = checker.saves;
    body.names = checker.names;
    (body.entry, body.here) = (checker.entry, checker.here);
    body.paths = checker.paths;
    let texts = variables.into_iter().filter(|variable| checker.wider && variable.text > 0);
    Ok((body, checker.reads, texts.map(|variable| (variable.name, variable.text)).collect()))
}

struct Checker<'a> {
    spec: &'a ProbeSpec,
    target: &'a Target,
    kernel: &'a dyn Kernel,
    maps: &'a mut Maps,
    part: Part,
    variables: Vec<Variable>,
    /// What each variable that holds text holds at most, as far as it is known from before.
    texts: &'a [(String, u32)],
    /// One was found to hold more.
    wider: bool,
    saves: Vec<Save>,
    reads: Vec<Read>,
    names: Names,
    entry: ContextUse,
    here: ContextUse,
    /// There are paths.
    paths: bool,
    /// How many loops are around this statement.
    loops: u32,
    /// What the kernel lacks that the probe needs.
    lacks: Option<Diagnostic>,
}

struct Variable {
    name: String,
    /// Of an integer.
    typ: IntType,
    /// Bytes of text that it holds at most; 0 for an integer.
    text: u32,
    /// It was declared and not assigned.
    unset: bool,
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

impl<'a> Checker<'a> {
    fn text(&self, span: &Range<usize>) -> &str {
        self.spec.text(self.part).get(span.clone()).unwrap_or_default()
    }

    fn types(&self) -> Types<'a> {
        Types::new(self.kernel)
    }

    fn error(&self, span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.spec, self.part, span.clone(), message)
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

    /// What is read of the context in a half.
    fn uses(&mut self, half: Half) -> &mut ContextUse {
        match half {
            Half::Here => &mut self.here,
            Half::Entry => &mut self.entry,
        }
    }

    /// What joins the halves of a span, where that is not the thread.
    fn key(&mut self) -> Result<Option<(Vec<Value>, Vec<Value>)>> {
        let Some(key) = self.target.key.clone() else { return Ok(None) };
        let mut half = |(text, at): &(String, usize), half| {
            let parts = parse_list(text, *at).map_err(|error| {
                let help = error.help.unwrap_or_else(|| "all that stands behind `key` is the key".to_owned());
                self.error_help(&error.span, error.message, help)
            })?;
            let early = |value: &Value| value.needs_time() || value.any(&|value| matches!(value, Value::Saved(_)));
            let int = |part: &Expr, this: &mut Self| match this.expr(part, half)? {
                Typed::Int(value, _) if early(&value) => {
                    let message = "the key of a span joins its ends, so it can't be made of times or of what the entry kept";
                    Err(this.error_help(&part.span, message, "the two ends may differ: `key args.next_pid .. args.prev_pid`"))
                }
                Typed::Int(value, _) => Ok(value),
                other => {
                    let message = format!("the key of a span is made of integers, and this is {}", other.describe());
                    Err(this.error(&part.span, message))
                }
            };
            parts.iter().map(|part| int(part, self)).collect::<Result<Vec<Value>>>()
        };
        let (entry, exit) = (half(&key.entry, Half::Entry)?, half(&key.exit, Half::Here)?);
        if entry.len() != exit.len() {
            let span = key.exit.1..key.exit.1 + key.exit.0.len();
            let message = format!("the key has {} parts at the entry and {} at the exit", entry.len(), exit.len());
            return Err(self.error_help(&span, message, "both sides of the `..` have as many"));
        }
        if entry.len() > MAX_SPAN_KEY {
            let span = key.entry.1..key.entry.1 + key.entry.0.len();
            return Err(self.error(&span, format!("a span's key has {MAX_SPAN_KEY} parts at most")));
        }
        Ok(Some((entry, exit)))
    }

    fn statements(&mut self, statements: &[Statement]) -> Result<Vec<ir::Statement>> {
        statements.iter().map(|s| self.statement(s)).collect()
    }

    fn statement(&mut self, statement: &Statement) -> Result<ir::Statement> {
        use crate::syntax::ast::StatementKind as Ast;
        let span = &statement.span;
        let kind = match &statement.kind {
            Ast::Return => StatementKind::Return,
            Ast::Let(variable) => {
                self.declare(variable);
                StatementKind::Unroll(0, Vec::new())
            }
            Ast::Assign(variable, op, value) => self.assign(variable, *op, value)?,
            Ast::AssignMap(map, op, value) => self.assign_map(map, *op, value, span)?,
            Ast::Declare(map, kind, size) => {
                self.declare_map(map, kind, size, span)?;
                StatementKind::Unroll(0, Vec::new())
            }
            Ast::Delete(map) => self.delete(map)?,
            Ast::Clear(map) => self.clear(map)?,
            Ast::If(condition, then, otherwise) => {
                let value = self.condition(condition, Half::Here)?;
                StatementKind::If(value, self.statements(then)?, self.statements(otherwise)?)
            }
            Ast::Unroll(times, body) => {
                let times = match self.int(times, Half::Here)?.0 {
                    Value::Const(n) if (1..=MAX_UNROLL).contains(&n) => n as u32,
                    _ => {
                        let message = format!("`unroll` takes a constant between 1 and {MAX_UNROLL}");
                        return Err(self.error_help(
                            &times.span,
                            message,
                            "`for ($i : 0..n) { ... }` takes any number, up to its own bound",
                        ));
                    }
                };
                // Within it a loop around can't be left.
                let loops = std::mem::take(&mut self.loops);
                let body = self.statements(body);
                self.loops = loops;
                StatementKind::Unroll(times, body?)
            }
            Ast::While(condition, body) => {
                let condition = self.condition(condition, Half::Here)?;
                let body = self.in_loop(body)?;
                StatementKind::While { condition, limit: LOOP_LIMIT, body }
            }
            Ast::For(variable, from, to, body) => self.range_loop(variable, from, to, body)?,
            Ast::Break | Ast::Continue if self.loops == 0 => {
                let message = format!("`{}` stands in no loop", self.text(span));
                let help = match statement.kind {
                    Ast::Break => "it leaves a `while` or `for`; an `unroll` is none, `return` leaves the body",
                    _ => "it goes on with a `while` or `for`; an `unroll` is none",
                };
                return Err(self.error_help(span, message, help));
            }
            Ast::Break => StatementKind::Break,
            Ast::Continue => StatementKind::Continue,
            Ast::Emit(stream, fields) => self.emit(stream.as_ref(), fields, span)?,
        };
        Ok(ir::Statement { kind, source: Source(self.text(span).to_owned()) })
    }

    fn in_loop(&mut self, body: &[Statement]) -> Result<Vec<ir::Statement>> {
        self.loops += 1;
        let body = self.statements(body);
        self.loops -= 1;
        body
    }

    fn range_loop(&mut self, variable: &Ident, from: &Expr, to: &Expr, body: &[Statement]) -> Result<StatementKind> {
        let ((first, ..), (last, ..)) = (self.int(from, Half::Here)?, self.int(to, Half::Here)?);
        let limit = match (&first, &last) {
            (Value::Const(a), Value::Const(b)) => {
                let rounds = u64::try_from((*b as i64).saturating_sub(*a as i64)).unwrap_or(0);
                if rounds > MAX_ROUNDS {
                    let message = format!("the loop has {rounds} rounds, and {MAX_ROUNDS} is the most");
                    let help = "the kernel's verifier follows each of them";
                    return Err(self.error_help(&(from.span.start..to.span.end), message, help));
                }
                rounds as u32
            }
            _ => LOOP_LIMIT,
        };
        let index = self.variable(variable, computed(types::S64), 0)?;
        let body = self.in_loop(body)?;
        Ok(StatementKind::For { variable: index, from: first, to: last, limit, body })
    }

    fn emit(
        &mut self,
        stream: Option<&Ident>,
        fields: &[crate::syntax::ast::EmitField],
        span: &Range<usize>,
    ) -> Result<StatementKind> {
        let at = stream.map_or(span, |stream| &stream.span);
        if fields.len() > record::MAX_FIELDS {
            let message = format!("a stream can have {} fields, this one has {}", record::MAX_FIELDS, fields.len());
            return Err(self.error_help(at, message, "make two streams of it"));
        }
        let mut out: Vec<Field> = Vec::with_capacity(fields.len());
        for field in fields {
            if out.iter().any(|f| f.name == field.name.name) {
                let message = format!("the field `{}` is there already", field.name.name);
                return Err(self.error_help(&field.name.span, message, "give it another name: `NAME: ...`"));
            }
            out.push(self.field(&field.name, &field.value)?);
        }
        // A bare list is the stream of its probe.
        let stream = stream.map_or_else(|| self.spec.name.clone(), |stream| stream.name.clone());
        Ok(StatementKind::Emit { stream, fields: out })
    }

    fn declare(&mut self, variable: &Ident) {
        if self.variables.iter().all(|v| v.name != variable.name) {
            let typ = computed(types::U64);
            self.variables.push(Variable { name: variable.name.clone(), typ, text: 0, unset: true });
        }
    }

    /// The variable's number, now of that type. One that holds text never holds an integer, nor the other way round.
    fn variable(&mut self, variable: &Ident, typ: IntType, text: u32) -> Result<usize> {
        let typ = IntType { int: Int { size: 8, ..typ.int }, ..typ };
        let before = self.texts.iter().find(|(name, _)| *name == variable.name).map_or(0, |(_, text)| *text);
        let text = if text > 0 { text.max(before) } else { 0 };
        let Some(index) = self.variables.iter().position(|v| v.name == variable.name) else {
            self.variables.push(Variable { name: variable.name.clone(), typ, text, unset: false });
            return Ok(self.variables.len() - 1);
        };
        let known = &mut self.variables[index];
        if !known.unset && (known.text == 0) != (text == 0) {
            let (was, is) = if text == 0 { ("text", "an integer") } else { ("an integer", "text") };
            let message = format!("`${}` holds {was}, and this is {is}", variable.name);
            return Err(self.error_help(&variable.span, message, "use another variable"));
        }
        known.typ = typ;
        self.wider |= !known.unset && text > known.text;
        known.text = known.text.max(text);
        known.unset = false;
        Ok(index)
    }

    fn assign(&mut self, variable: &Ident, op: Option<BinaryOp>, value: &Expr) -> Result<StatementKind> {
        let combined;
        let value = match op {
            None => value,
            Some(op) => {
                let left = Expr { kind: ExprKind::Variable(variable.name.clone()), span: variable.span.clone() };
                let span = variable.span.start..value.span.end;
                combined = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(value.clone())), span };
                &combined
            }
        };
        match self.expr(value, Half::Here)? {
            Typed::Int(value, typ) => {
                let index = self.variable(variable, typ, 0)?;
                Ok(StatementKind::Assign(index, value))
            }
            Typed::Text(text, _) => self.assign_text(variable, text, &value.span),
            Typed::Literal(bytes) => self.assign_text(variable, Text::Literal(bytes), &value.span),
            Typed::Object(object) => {
                // As in C, an array is where it begins; a struct is kept by where it is, too.
                let (value, typ) = self.address_of(object);
                let index = self.variable(variable, typ, 0)?;
                Ok(StatementKind::Assign(index, value))
            }
            other => {
                let message = format!("a variable holds an integer or text, and this is {}", other.describe());
                Err(self.error_help(&value.span, message, "use it where it is needed: in an `emit`, or as a key"))
            }
        }
    }

    fn assign_text(&mut self, variable: &Ident, text: Text, span: &Range<usize>) -> Result<StatementKind> {
        let text = self.short(text, span)?;
        let index = self.variable(variable, computed(types::U64), text.capacity())?;
        Ok(StatementKind::AssignText(index, text))
    }

    /// Text that is to stand on the stack.
    fn short(&self, text: Text, span: &Range<usize>) -> Result<Text> {
        if text.capacity() > MAX_STACK_TEXT {
            let message =
                format!("this text has up to {} bytes, and {MAX_STACK_TEXT} is the most outside of an `emit`", text.capacity());
            let function = if let Text::Path(_) = text { "path" } else { "str" };
            return Err(self.error_help(span, message, format!("keep less of it: `{function}(p, {MAX_STACK_TEXT})`")));
        }
        Ok(text)
    }

    fn field(&mut self, name: &Ident, value: &Expr) -> Result<Field> {
        let mut naming = record::Naming::Plain;
        let (value, ctype) = match self.expr(value, Half::Here)? {
            Typed::Int(value, typ) => {
                naming = typ.naming;
                (FieldValue::Int(value, typ.int), typ.ctype)
            }
            Typed::Text(text, ctype) => (FieldValue::Text(text), ctype),
            Typed::Literal(bytes) => {
                let ctype = format!("char[{}]", bytes.len().max(1));
                (FieldValue::Text(Text::Literal(bytes)), ctype)
            }
            Typed::Bytes(bytes, kind, ctype) => {
                naming = kind;
                (FieldValue::Bytes(bytes), ctype)
            }
            Typed::Stack(stack, kind) => {
                naming = kind;
                (FieldValue::Stack(stack), "stack".to_owned())
            }
            Typed::Object(_) | Typed::Array(_) => {
                let help = "name a member of it, or take its bytes: `buf(x, LENGTH)`";
                return Err(self.error_help(&value.span, "a field can't be a struct or an array", help));
            }
        };
        Ok(Field { name: name.name.clone(), ctype, value, naming })
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
}
