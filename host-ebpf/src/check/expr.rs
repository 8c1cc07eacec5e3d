//! Expressions: names, operators, and what they are at a target.

use std::ops::Range;

use super::{
    Checker, DEFAULT_TEXT, Half, MAX_LITERAL, MAX_TEXT, Result,
    builtins::{self, BUILTINS, Only},
    fold, functions,
    ir::{self, Access, MemoryField, NameKind, Names, Save, Stack, Text, Value},
    types::{Array, BOOL, IntType, S64, Typed, U64, common_sign, computed, literal_type},
};
use crate::{
    aggregate,
    attach::{Argument, ArgumentValue, ContextKind, Place, Site},
    diagnostic::{Diagnostic, Part, suggest},
    kernel::{
        btf::{Int, Named},
        registers,
    },
    needs::DataClass,
    syntax::ast::{BinaryOp, Expr, ExprKind, Ident, UnaryOp},
};

/// What bpftrace has and this language has not, or has in another way.
const ELSEWHERE: [(&str, &str); 4] = [
    ("username", "`uid` is the user's number; the plugin may know its name"),
    ("cpid", "a run with a command sees the command and its children alone"),
    ("has_cpid", "a run with a command sees the command and its children alone"),
    ("ctx", "iterators have it, as in `iter:task { print(ctx->task->comm); }`; elsewhere arguments are `args.NAME`"),
];

impl Checker<'_> {
    /// An expression that must be an integer.
    pub(super) fn int(&mut self, expr: &Expr, half: Half) -> Result<(Value, IntType)> {
        match self.expr(expr, half)? {
            Typed::Int(value, typ) => Ok((value, typ)),
            Typed::Object(object) => Ok(self.address_of(object)),
            other => Err(self.error(&expr.span, format!("an integer is needed here, and this is {}", other.describe()))),
        }
    }

    /// One whose truth is asked.
    pub(super) fn condition(&mut self, expr: &Expr, half: Half) -> Result<Value> {
        match self.expr(expr, half)? {
            Typed::Int(value, _) => Ok(value),
            Typed::Text(..) | Typed::Literal(_) => {
                let help = "compare text with `==` or `!=`";
                Err(self.error_help(&expr.span, "a condition is an integer, and this is text", help))
            }
            other => Err(self.error(&expr.span, format!("a condition is an integer, and this is {}", other.describe()))),
        }
    }

    pub(super) fn expr(&mut self, expr: &Expr, half: Half) -> Result<Typed> {
        let span = &expr.span;
        match &expr.kind {
            ExprKind::Int(value) => Ok(Typed::Int(Value::Const(*value), literal_type(*value))),
            ExprKind::Text(text) => Ok(Typed::Literal(text.clone().into_bytes())),
            ExprKind::Name(name) => self.builtin(name, span, half),
            ExprKind::Variable(name) => match self.variables.iter().position(|v| v.name == *name) {
                Some(index) if self.variables[index].text > 0 => {
                    let keep = self.variables[index].text;
                    Ok(Typed::Text(Text::Variable { index, keep }, format!("char[{keep}]")))
                }
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
            ExprKind::Arrow(base, member) => self.arrow(base, member, half),
            ExprKind::Index(base, index) => self.index(base, index, span, half),
            ExprKind::Map(_) if half == Half::Entry => {
                let help = match self.part {
                    Part::Attach(_) => "a span's key is made of arguments and builtins",
                    _ => "leave out the `entry.`",
                };
                Err(self.error_help(span, "a map is read where the body runs", help))
            }
            ExprKind::Map(map) => self.map_value(map),
            ExprKind::Cast(to, operand) => self.cast(to, operand, half),
            ExprKind::Choose(condition, then, otherwise) => self.choose(condition, then, otherwise, span, half),
            ExprKind::SizeOf(of) => {
                let size = self.named_size(of)?;
                Ok(Typed::Int(Value::Const(size.into()), computed(U64).literal()))
            }
            ExprKind::OffsetOf(of, member) => {
                let offset = self.offset_of(of, member)?;
                Ok(Typed::Int(Value::Const(offset.into()), computed(U64).literal()))
            }
            ExprKind::ContainerOf(pointer, of, member) => self.container_of(pointer, of, member, half),
            ExprKind::Unary(UnaryOp::Dereference, operand) => self.dereference(operand, half),
            ExprKind::Unary(UnaryOp::AddressOf, operand) => match self.lvalue(operand, half)? {
                Some(object) => {
                    let (value, typ) = self.address_of(object);
                    Ok(Typed::Int(value, typ))
                }
                None => Err(self.error_help(&operand.span, "this is nowhere in memory", "`&` takes a member: `&$p->field`")),
            },
            ExprKind::Unary(UnaryOp::Not, operand) => {
                Ok(Typed::Int(fold::unary(UnaryOp::Not, self.condition(operand, half)?), computed(BOOL)))
            }
            ExprKind::Binary(op @ (BinaryOp::And | BinaryOp::Or), left, right) => {
                let (left, right) = (self.condition(left, half)?, self.condition(right, half)?);
                Ok(Typed::Int(fold::binary(*op, false, left, right), computed(BOOL)))
            }
            ExprKind::Unary(op, operand) => {
                let (value, typ) = self.int(operand, half)?;
                let literal = typ.literal && matches!(value, Value::Const(_));
                let int = match op {
                    UnaryOp::Negate => S64,
                    UnaryOp::Complement if literal => S64,
                    UnaryOp::Complement => Int { size: 8, ..typ.int },
                    UnaryOp::Not => BOOL,
                    UnaryOp::Dereference | UnaryOp::AddressOf => typ.int,
                };
                Ok(Typed::Int(fold::unary(*op, value), IntType { literal, ..computed(int) }))
            }
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, span, half),
        }
    }

    pub(super) fn builtin(&mut self, name: &str, span: &Range<usize>, half: Half) -> Result<Typed> {
        if let Some(fact) = self.iterated_fact(name, span) {
            return fact;
        }
        if let Some(builtin) = BUILTINS.iter().find(|b| b.name == name) {
            if builtin.only == Only::Span && (self.target.entry.is_none() || half == Half::Entry) {
                if half == Half::Entry {
                    let message = format!("`{name}` is known at the exit of a span only");
                    return Err(self.error_help(span, message, "leave out the `entry.`"));
                }
                let message = format!("`{name}` is known at the exit of a span only, and {} is none", self.here(half));
                return Err(self.error_help(span, message, "attach to `span:KIND:TARGET`"));
            }
            return Ok(Typed::Int(builtin.value.clone(), IntType::new(builtin.int, builtin.ctype)));
        }
        match name {
            "comm" => Ok(Typed::Text(Text::Comm, format!("char[{}]", ir::COMM_SIZE))),
            "retval" => {
                let Some(retval) = self.site(half).retval.clone() else {
                    let message = format!("nothing returns at {}", self.here(half));
                    let help = match half {
                        Half::Entry => "leave out the `entry.`",
                        Half::Here => {
                            "`retval` is known where something returns: `span:...`, `kretprobe`, `fexit`, `uretprobe`, \
                             `tracepoint:syscalls:sys_exit_*`"
                        }
                    };
                    return Err(self.error_help(span, message, help));
                };
                self.read(DataClass::Arguments, span);
                self.argument(&retval, span, half)
            }
            "curtask" => Ok(self.current_task()),
            "ppid" => self.task_member(&["real_parent", "tgid"], span),
            "pcomm" => self.task_member(&["group_leader", "comm"], span),
            "ncpus" => {
                let int = Int { size: 4, signed: false };
                Ok(Typed::Int(Value::Const(self.kernel.possible_cpus().into()), IntType::new(int, "u32")))
            }
            "func" => {
                let function = self.site(half).function.clone();
                if function.is_empty() {
                    let message = format!("no function is traced at {}", self.here(half));
                    return Err(self.error_help(span, message, "`probe` is the attach point"));
                }
                Ok(self.name(NameKind::Function, function))
            }
            "probe" => Ok(self.name(NameKind::Point, self.target.point.clone())),
            "probetype" => {
                let kind = self.target.point.split(':').next().unwrap_or_default();
                Ok(Typed::Literal(kind.as_bytes().to_vec()))
            }
            "kstack" | "ustack" => self.stack(name, None, span, half),
            "usermode" => {
                self.has_registers(span, half)?;
                self.uses(half).registers = true;
                let (offset, mask) = registers::USER_MODE;
                let value = Value::Load(Place::Context(offset), U64);
                let value = fold::binary(BinaryOp::BitAnd, false, value, Value::Const(mask));
                Ok(Typed::Int(fold::binary(BinaryOp::Equal, false, value, Value::Const(mask)), computed(BOOL)))
            }
            _ if name.strip_prefix("arg").is_some_and(|n| n.parse::<usize>().is_ok()) => self.positional(name, span, half),
            "args" => {
                let help = self.arguments_help(half);
                Err(self.error_help(span, "`args` alone is no value", help))
            }
            "entry" => Err(self.error_help(
                span,
                "`entry` alone is no value",
                "name what was at the entry: `entry.args.NAME`, `entry.cpu`",
            )),
            "true" | "false" => Ok(Typed::Int(Value::Const(u64::from(name == "true")), computed(BOOL))),
            _ => match self.types().enum_constant(name) {
                Some(constant) => {
                    let typ = IntType::new(constant.int, self.types().ctype(constant.id)).literal();
                    Ok(Typed::Int(Value::Const(constant.value), typ))
                }
                None => Err(self.unknown(name, span, half)),
            },
        }
    }

    /// A name of the target: fixed, unless one program may serve this place and others.
    fn name(&mut self, kind: NameKind, name: String) -> Typed {
        if !self.target.site.multi {
            return Typed::Literal(name.into_bytes());
        }
        let capacity = Names::capacity(&name);
        match kind {
            NameKind::Function => self.names.function = Some(name),
            NameKind::Point => self.names.point = Some(name),
        }
        Typed::Text(Text::Name(kind, capacity), format!("char[{capacity}]"))
    }

    /// `arg0`, `arg1` ...
    fn positional(&mut self, name: &str, span: &Range<usize>, half: Half) -> Result<Typed> {
        let positional = &self.site(half).positional;
        let number = name.strip_prefix("arg").and_then(|n| n.parse::<usize>().ok());
        match number.and_then(|n| positional.get(n)).cloned() {
            Some(argument) => {
                self.read(DataClass::Arguments, span);
                self.argument(&argument, span, half)
            }
            None if positional.is_empty() => {
                let message = format!("{} has no numbered arguments", self.here(half));
                let help = self.arguments_help(half);
                Err(self.error_help(span, message, help))
            }
            None => {
                let message = format!("{} has the arguments arg0 to arg{}", self.here(half), positional.len() - 1);
                Err(self.error(span, message))
            }
        }
    }

    fn choose(&mut self, condition: &Expr, then: &Expr, otherwise: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let condition = Box::new(self.condition(condition, half)?);
        match (self.expr(then, half)?, self.expr(otherwise, half)?) {
            (Typed::Int(a, at), Typed::Int(b, bt)) => {
                let signed = common_sign((&a, &at), (&b, &bt));
                let typ = match at == bt {
                    true => at,
                    // One type by two names.
                    false if at.int == bt.int && at.int.size < 8 => IntType::new(at.int, at.ctype),
                    false => computed(Int { size: 8, signed }),
                };
                Ok(Typed::Int(Value::Choose(condition, Box::new(a), Box::new(b)), typ))
            }
            (a @ (Typed::Text(..) | Typed::Literal(_)), b @ (Typed::Text(..) | Typed::Literal(_))) => {
                let text = |typed| match typed {
                    Typed::Text(text, _) => text,
                    Typed::Literal(bytes) => Text::Literal(bytes),
                    _ => Text::Comm,
                };
                let text = Text::Choose(condition, Box::new(text(a)), Box::new(text(b)));
                let ctype = format!("char[{}]", text.capacity());
                Ok(Typed::Text(text, ctype))
            }
            (a, b) => {
                let message = format!("one side of the `:` is {}, the other {}", a.describe(), b.describe());
                Err(self.error_help(span, message, "both are integers, or both are text"))
            }
        }
    }

    fn unknown(&self, name: &str, span: &Range<usize>, half: Half) -> Diagnostic {
        let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, help)| (*help).to_owned());
        let has = |site: &Site| site.arguments.iter().any(|a| a.name == name);
        let entry = self.target.entry.as_ref().filter(|_| half == Half::Entry || !has(self.site(Half::Here)));
        let help = if let Some(help) = elsewhere {
            help
        } else if entry.is_some_and(has) {
            format!("did you mean `entry.args.{name}`?")
        } else if has(self.site(half)) {
            format!("did you mean `args.{name}`?")
        } else if functions::names().any(|f| f == name) {
            format!("it is a function: `{name}(...)`")
        } else if aggregate::NAMES.contains(&name) {
            format!("it is assigned to a map: `@m = {name}(...)`")
        } else if self.types().find_type(&format!("struct {name}")).is_some() {
            format!("did you mean `struct {name}`?")
        } else if let Some(like) = suggest(name, builtins::names()).or_else(|| self.constant_like(name)) {
            format!("did you mean `{like}`?")
        } else {
            format!("there are {}, and the constants of this kernel's enums", builtins::names().collect::<Vec<_>>().join(", "))
        };
        self.error_help(span, format!("`{name}` is not known"), help)
    }

    /// A constant of an enum that is like the name. Only those that begin alike are looked at: there are tens of thousands.
    fn constant_like(&self, name: &str) -> Option<&str> {
        let begin: String = name.chars().take(3).collect();
        suggest(name, self.types().names("vmlinux", Named::Constant, |constant| constant.starts_with(&begin)))
    }

    fn arguments_help(&self, half: Half) -> String {
        let (site, here) = (self.site(half), self.here(half));
        let names: Vec<&str> = site.arguments.iter().map(|a| a.name.as_str()).collect();
        if !names.is_empty() {
            format!("{here} has {}", names.join(", "))
        } else if let Some(last) = site.positional.len().checked_sub(1) {
            format!("{here} has no names for its arguments: they are `arg0` to `arg{last}`")
        } else if site.retval.is_some() && self.target.entry.is_none() {
            "where a function returns its arguments are gone: a `span:` has them, as `entry.args.NAME`".to_owned()
        } else {
            format!("{here} has no arguments")
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
            _ => self.object_member(base, member, half),
        }
    }

    fn entry(&mut self, inner: &Expr, span: &Range<usize>) -> Result<Typed> {
        if self.target.entry.is_none() {
            let message = format!("{} is no span and has no entry", self.target.point);
            return Err(self.error_help(span, message, "attach to `span:KIND:TARGET`"));
        }
        match self.expr(inner, Half::Entry)? {
            Typed::Int(value, typ) => Ok(Typed::Int(Value::Saved(self.save(Save::Int(value))), typ)),
            // It has the same at both ends.
            name @ Typed::Text(Text::Name(..), _) => Ok(name),
            Typed::Text(text, ctype) => {
                let text = self.short(text, span)?;
                let keep = text.capacity();
                Ok(Typed::Text(Text::Saved { index: self.save(Save::Text(text)), keep }, ctype))
            }
            Typed::Literal(bytes) => Ok(Typed::Literal(bytes)),
            Typed::Stack(stack, naming) => {
                let depth = stack.depth();
                Ok(Typed::Stack(Stack::Saved { index: self.save(Save::Stack(stack)), depth }, naming))
            }
            other => {
                let message =
                    format!("a span keeps integers, text and call stacks from its entry, and this is {}", other.describe());
                Err(self.error_help(span, message, "name a member of it"))
            }
        }
    }

    /// The number under which the entry half keeps it.
    pub(super) fn save(&mut self, save: Save) -> usize {
        self.saves.iter().position(|saved| *saved == save).unwrap_or_else(|| {
            self.saves.push(save);
            self.saves.len() - 1
        })
    }

    pub(super) fn args(&mut self, member: &Ident, span: &Range<usize>, half: Half) -> Result<Typed> {
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
            // Kernels differ in what their functions take and their records have.
            return Err(Diagnostic { missing: true, ..self.error_help(&member.span, message, help) });
        };
        self.read(DataClass::Arguments, span);
        self.argument(&argument, span, half)
    }

    fn argument(&mut self, argument: &Argument, span: &Range<usize>, half: Half) -> Result<Typed> {
        let ctype = &argument.ctype;
        self.uses(half).arguments = true;
        match argument.value {
            ArgumentValue::Int(place, int) => {
                // A register is read as a whole: perf events allow nothing else (pe_prog_is_valid_access(), kernel/trace/bpf_trace.c).
                let narrow = self.site(half).context == ContextKind::Registers && int.size < 8;
                let value = match narrow {
                    true => Value::Convert(int, Box::new(Value::Load(place, U64))),
                    false => Value::Load(place, int),
                };
                Ok(Typed::Int(value, IntType::new(int, ctype)))
            }
            ArgumentValue::Pointer(place, space) => {
                let to = self.pointee(argument);
                Ok(Typed::Int(Value::Pointer(place), IntType::pointer(space, to, ctype)))
            }
            ArgumentValue::Chars { offset, size } => Ok(Typed::Text(Text::Chars { offset, size }, ctype.clone())),
            ArgumentValue::DataLoc { offset, relative } => {
                Ok(Typed::Text(Text::DataLoc { offset, relative, keep: DEFAULT_TEXT }, ctype.clone()))
            }
            ArgumentValue::Array { offset, int, length } => Ok(Typed::Array(Array { offset, int, length, ctype: ctype.clone() })),
            ArgumentValue::Constant(n, int) => Ok(Typed::Int(Value::Const(n.cast_unsigned()), IntType::new(int, ctype))),
            ArgumentValue::Memory(address, int) => {
                self.read(DataClass::UserMemory, span);
                let register = |offset| Value::Load(Place::Context(offset), U64);
                let mut base = address.base.map_or(Value::Const(0), register);
                if let Some((index, scale)) = address.index {
                    let index = fold::binary(BinaryOp::Multiply, false, register(index), Value::Const(scale.into()));
                    base = fold::binary(BinaryOp::Add, false, base, index);
                }
                let base = fold::binary(BinaryOp::Add, false, base, Value::Const(address.displacement.cast_unsigned()));
                let field = MemoryField { base, access: Access::User, offset: 0, int, bits: None, pointer: false };
                Ok(Typed::Int(Value::Field(Box::new(field)), IntType::new(int, ctype)))
            }
            ArgumentValue::Other => Err(self.error(span, format!("a value of type `{ctype}` can't be used here"))),
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let (l, r) = (self.expr(left, half)?, self.expr(right, half)?);
        if let Some(same) = self.same_bytes(op, (&l, left), (&r, right), span, half)? {
            return Ok(same);
        }
        let ((lv, lt), (rv, rt)) = match (l, r) {
            (Typed::Int(lv, lt), Typed::Int(rv, rt)) => ((lv, lt), (rv, rt)),
            (Typed::Text(text, _), Typed::Literal(literal)) => return self.text_is(op, text, literal, span, &right.span),
            (Typed::Literal(literal), Typed::Text(text, _)) => return self.text_is(op, text, literal, span, &left.span),
            (Typed::Text(a, _), Typed::Text(b, _)) => return self.same_text(op, a, b, span),
            (Typed::Int(lv, lt), Typed::Object(object)) => ((lv, lt), self.address_of(object)),
            (Typed::Object(object), Typed::Int(rv, rt)) => (self.address_of(object), (rv, rt)),
            (Typed::Literal(l), Typed::Literal(r)) => {
                let equal = equality(op).ok_or_else(|| self.no_text(op, span))?;
                return Ok(Typed::Int(Value::Const(u64::from((l == r) == equal)), computed(BOOL)));
            }
            (l, r) => {
                let text = |typed: &Typed| matches!(typed, Typed::Text(..) | Typed::Literal(_));
                let message = format!("`{}` has {} on its left and {} on its right", op.as_str(), l.describe(), r.describe());
                let help = (text(&l) != text(&r)).then(|| match equality(op) {
                    Some(_) => "text is compared with text: `comm == \"cat\"`, `str(x) == \"cat\"`".to_owned(),
                    None => "text is not computed with; `strlen(x)` is how long it is".to_owned(),
                });
                return Err(Diagnostic { help, ..self.error(span, message) });
            }
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
            _ => common_sign((&lv, &lt), (&rv, &rt)),
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
        let mut typ = IntType { literal: lt.literal && rt.literal, ..computed(int) };
        // A pointer with an offset is a pointer still.
        if matches!(op, BinaryOp::Add | BinaryOp::Subtract) {
            typ.space = lt.space.or(rt.space);
            typ.to = lt.to.or(rt.to);
        }
        let (lv, rv) = self.scaled(op, (lv, &lt), (rv, &rt));
        Ok(Typed::Int(fold::binary(op, signed, lv, rv), typ))
    }

    /// A pointer whose type is known goes by whole elements, as in C.
    fn scaled(&self, op: BinaryOp, (lv, lt): (Value, &IntType), (rv, rt): (Value, &IntType)) -> (Value, Value) {
        let scale = |of: &IntType, value: Value| match of.to.and_then(|to| self.pointee_size(to)) {
            Some(size) if size > 1 => fold::binary(BinaryOp::Multiply, false, value, Value::Const(size.into())),
            _ => value,
        };
        match op {
            BinaryOp::Add | BinaryOp::Subtract if lt.to.is_some() && rt.space.is_none() => {
                let rv = scale(lt, rv);
                (lv, rv)
            }
            BinaryOp::Add if rt.to.is_some() && lt.space.is_none() => {
                let lv = scale(rt, lv);
                (lv, rv)
            }
            _ => (lv, rv),
        }
    }

    fn no_text(&self, op: BinaryOp, span: &Range<usize>) -> Diagnostic {
        self.error_help(span, format!("`{}` does not work on text", op.as_str()), "compare text with `==` or `!=`")
    }

    fn same_text(&self, op: BinaryOp, left: Text, right: Text, span: &Range<usize>) -> Result<Typed> {
        let equal = equality(op).ok_or_else(|| self.no_text(op, span))?;
        let (left, right) = (self.short(left, span)?, self.short(right, span)?);
        Ok(Typed::Int(Value::SameText { left, right, equal }, computed(BOOL)))
    }

    pub(super) fn text_is(
        &self,
        op: BinaryOp,
        text: Text,
        literal: Vec<u8>,
        span: &Range<usize>,
        at: &Range<usize>,
    ) -> Result<Typed> {
        let equal = equality(op).ok_or_else(|| self.no_text(op, span))?;
        // A name of the same probe may be longer at another target.
        if let Text::Name(_, capacity) = text
            && literal.len() > capacity as usize
        {
            return Ok(Typed::Int(Value::Const(u64::from(!equal)), computed(BOOL)));
        }
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
            // A path is found from its end: to know its front takes the whole.
            Text::Path(path) => Text::Path(Box::new(ir::Path { keep: MAX_TEXT, ..*path })),
            text => text,
        };
        Ok(Typed::Int(Value::TextIs { text, literal, equal, whole: true }, computed(BOOL)))
    }
}

/// Of the two operators that compare text: whether it is asked to be the same.
pub(super) fn equality(op: BinaryOp) -> Option<bool> {
    match op {
        BinaryOp::Equal => Some(true),
        BinaryOp::NotEqual => Some(false),
        _ => None,
    }
}
