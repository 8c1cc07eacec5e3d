//! Functions, one method each.

use std::ops::Range;

use super::{
    Checker, DEFAULT_TEXT, Half, MAX_LITERAL, MAX_TEXT, Result,
    ir::{Bytes, Helper, Save, Stack, Text, Value},
    types::{BOOL, IntType, Pointee, Typed, U64, computed},
};
use crate::{
    aggregate,
    attach::{ContextKind, Place, Space, glob},
    diagnostic::{Diagnostic, suggest},
    kernel::{
        SourceError,
        btf::{Int, Shape},
        registers,
    },
    needs::DataClass,
    output::Hook,
    record::Naming,
    syntax::{
        WHOLE_MAP_HELP,
        ast::{BinaryOp, Expr, ExprKind, Ident, MapAccess},
    },
};

/// The most frames of a stack that are kept (`PERF_MAX_STACK_DEPTH`, include/uapi/linux/perf_event.h), and how many are without a word.
const MAX_FRAMES: u32 = 127;
/// The longest string that `strcontains` looks for: it is looked for at every place, and each takes code.
const MAX_NEEDLE: usize = 32;

/// Each function and how it is written.
const FUNCTIONS: [(&str, &str); 35] = [
    ("bswap", "bswap(x)"),
    ("buf", "buf(pointer, LENGTH), buf(array)"),
    ("cgroup_path", "cgroup_path(cgroup)"),
    ("cgroupid", "cgroupid(\"/sys/fs/cgroup/system.slice\")"),
    ("has_key", "has_key(@m[k]), has_key(@m, k)"),
    ("is_err", "is_err(pointer)"),
    ("kaddr", "kaddr(\"jiffies_64\")"),
    ("kptr", "kptr(x)"),
    ("kstack", "kstack(), kstack(FRAMES)"),
    ("kstr", "kstr(pointer), kstr(pointer, LENGTH)"),
    ("ksym", "ksym(address)"),
    ("len", "len(@m)"),
    ("macaddr", "macaddr(array)"),
    ("nsecs", "nsecs(monotonic), nsecs(boot), nsecs(tai)"),
    ("ntop", "ntop(x), ntop(AF_INET6, array)"),
    ("path", "path(struct path), path(struct path, LENGTH)"),
    ("pton", "pton(\"127.0.0.1\"), pton(\"::1\")"),
    ("reg", "reg(\"ip\")"),
    ("signal_name", "signal_name(args.sig)"),
    ("sizeof", "sizeof(struct sock), sizeof(x)"),
    ("str", "str(pointer), str(pointer, LENGTH)"),
    ("strcontains", "strcontains(text, \"needle\")"),
    ("strerror", "strerror(errno)"),
    ("strlen", "strlen(text)"),
    ("strncmp", "strncmp(text, \"string\", LENGTH)"),
    ("syscall_name", "syscall_name(number)"),
    ("uaddr", "uaddr(\"counter\")"),
    ("uptr", "uptr(x)"),
    ("ustack", "ustack(), ustack(FRAMES)"),
    ("ustr", "ustr(pointer), ustr(pointer, LENGTH)"),
    ("usym", "usym(address)"),
    // With types between their parentheses, which the parser knows.
    ("container_of", "container_of(pointer, struct task_struct, member)"),
    ("offsetof", "offsetof(struct task_struct, member)"),
    // Statements.
    ("clear", "clear(@m)"),
    ("delete", "delete(@m[k])"),
];

/// What bpftrace has and this language has not, or has in another way.
const ELSEWHERE: [(&str, &str); 26] = [
    ("printf", SHOWN),
    ("print", SHOWN),
    ("time", SHOWN),
    ("strftime", SHOWN),
    ("join", SHOWN),
    ("exit", SHOWN),
    ("cat", "no probe reads files or starts programs"),
    ("system", "no probe reads files or starts programs"),
    ("zero", WHOLE_MAP_HELP),
    ("clear", "it is a statement, without a value: `clear(@m);`"),
    ("delete", "it is a statement, without a value: `delete(@m[k]);`"),
    ("find", "`has_key(@m, k)` says whether it is there, `@m[k]` what it is"),
    ("getopt", "a plugin has its `config`"),
    ("percpu_kaddr", "what each CPU has for itself can't be found by name"),
    ("strstr", "`strcontains(text, \"needle\")` says whether it is there"),
    ("globmatch", "`strcontains(text, \"needle\")`, or `strncmp(text, \"begin\", LENGTH)`"),
    ("memcmp", "text and bytes compare by `==`: `buf(x, 16) == buf(y, 16)`"),
    ("strcap", "`sizeof(x)`"),
    ("signal", UNTOUCHED),
    ("signal_thread", UNTOUCHED),
    ("override", UNTOUCHED),
    ("skboutput", "`buf` records bytes; the plugin writes files, where the bundle grants it"),
    ("errorf", SHOWN),
    ("warnf", SHOWN),
    ("assert", SHOWN),
    ("unwatch", "a watchpoint is there until the run ends"),
];

const SHOWN: &str = "a probe records, its plugin shows: `emit` what is to be shown. `portcullis trace` has `printf`, `print`, `time`, `join`, `exit`";
const UNTOUCHED: &str = "nothing here changes what is traced";

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}

/// The text in an array of bytes; with `keep`, as much of it. What is not kept whole is read as any text that may be longer.
pub(super) fn array_text(address: Value, space: Space, size: u32, keep: Option<u32>) -> Typed {
    let address = Box::new(address);
    let keep = keep.map_or(size, |keep| keep.min(size)).min(MAX_TEXT);
    let text = match keep < size {
        true => Text::Pointer { pointer: address, space, keep },
        false => Text::Array { address, space, size },
    };
    Typed::Text(text, format!("char[{keep}]"))
}

/// That a function does not take so many arguments.
pub(super) fn other_count(name: &str, arguments: usize) -> String {
    match arguments {
        0 => format!("`{name}` takes arguments"),
        1 => format!("`{name}` does not take 1 argument"),
        n => format!("`{name}` does not take {n} arguments"),
    }
}

impl Checker<'_> {
    pub(super) fn call(&mut self, function: &Ident, arguments: &[Expr], span: &Range<usize>, half: Half) -> Result<Typed> {
        let name = function.name.as_str();
        match (name, arguments) {
            ("str" | "kstr" | "ustr", [pointer]) => self.string(name, pointer, None, span, half),
            ("str" | "kstr" | "ustr", [pointer, length]) => self.string(name, pointer, Some(length), span, half),
            ("buf", [array]) => self.buffer(array, None, span, half),
            ("buf", [pointer, length]) => self.buffer(pointer, Some(length), span, half),
            ("strlen", [text]) => {
                let text = self.text_of(text, half)?;
                Ok(Typed::Int(Value::TextLength(text), computed(U64)))
            }
            ("strncmp", [left, right, length]) => self.begins_alike(left, right, length, span, half),
            ("strcontains", [text, needle]) => self.contains(text, needle, half),
            ("bswap", [operand]) => {
                let (value, typ) = self.int(operand, half)?;
                match typ.int.size {
                    1 => Ok(Typed::Int(value, typ)),
                    size => {
                        let int = Int { size, signed: false };
                        Ok(Typed::Int(Value::Swap(size, Box::new(value)), IntType::new(int, format!("u{}", 8 * u32::from(size)))))
                    }
                }
            }
            ("ntop", [address]) => self.address(address, span, half),
            ("ntop", [family, address]) => {
                // The address is as long as it is, whatever its family.
                self.int(family, half)?;
                self.address(address, span, half)
            }
            ("macaddr", [address]) => {
                let bytes = self.bytes_at(address, Some(6), 6, span, half)?;
                if bytes.length() != 6 {
                    let message = format!("an address of a device has 6 bytes, and this has {}", bytes.length());
                    return Err(self.error(&address.span, message));
                }
                Ok(Typed::Bytes(bytes, Naming::Mac, "u8[6]".to_owned()))
            }
            ("path", [path]) => self.path(path, None, span, half),
            ("path", [path, length]) => self.path(path, Some(length), span, half),
            ("pton", [text]) => self.network_address(text),
            ("ksym", [address]) => self.named(address, Naming::KernelSymbol, half),
            ("usym", [address]) => {
                let (value, _) = self.int(address, half)?;
                Ok(Typed::Stack(Stack::Address(Box::new(value)), Naming::UserSymbol))
            }
            ("syscall_name", [number]) => self.named(number, Naming::Syscall, half),
            ("signal_name", [number]) => self.named(number, Naming::Signal, half),
            ("strerror", [number]) => self.named(number, Naming::Errno, half),
            ("cgroup_path", [cgroup]) => self.named(cgroup, Naming::Cgroup, half),
            ("kptr", [pointer]) => self.in_space(pointer, Space::Kernel, half),
            ("uptr", [pointer]) => self.in_space(pointer, Space::User, half),
            ("is_err", [pointer]) => {
                // IS_ERR_VALUE() of include/linux/err.h: the last page of the address space.
                let (value, _) = self.int(pointer, half)?;
                let last = Value::Const(4095_u64.wrapping_neg());
                let value = super::fold::binary(BinaryOp::GreaterEqual, false, value, last);
                Ok(Typed::Int(value, computed(BOOL)))
            }
            ("cgroupid", [path]) => self.cgroup_id(path),
            ("kaddr", [symbol]) => self.kernel_address(symbol),
            ("uaddr", [symbol]) => self.user_address(symbol, span, half),
            ("reg", [register]) => self.register(register, span, half),
            ("nsecs", [clock]) => self.clock(clock),
            ("kstack" | "ustack", []) => self.stack(name, None, span, half),
            ("kstack" | "ustack", [depth]) => self.stack(name, Some(depth), span, half),
            ("sizeof", [of]) => self.size_of(of, half),
            ("len", [map]) => match &map.kind {
                // Its error.
                ExprKind::Map(_) if half == Half::Entry => self.expr(map, half),
                ExprKind::Map(map) => self.len(map),
                _ => Err(self.error_help(&map.span, "`len` takes a map", "`len(@m)`; how long a text is says `strlen`")),
            },
            ("has_key", [map, keys @ ..]) => match &map.kind {
                ExprKind::Map(map) => {
                    let end = keys.last().map_or(map.span.end, |key| key.span.end);
                    let keys = map.keys.iter().chain(keys).cloned().collect();
                    self.has_key(&MapAccess { keys, span: map.span.start..end, ..map.clone() })
                }
                _ => Err(self.error_help(&map.span, "`has_key` takes an element of a map", "`has_key(@m[k])`")),
            },
            // As bpftrace allows: `pid()`.
            (_, []) if super::builtins::names().any(|builtin| builtin == name) => self.builtin(name, span, half),
            _ => Err(self.no_such_call(function, arguments, span)),
        }
    }

    fn no_such_call(&self, function: &Ident, arguments: &[Expr], span: &Range<usize>) -> Diagnostic {
        let name = function.name.as_str();
        let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, help)| *help);
        if matches!(name, "clear" | "delete") {
            return self.error_help(&function.span, format!("`{name}` is no value"), elsewhere.unwrap_or_default());
        }
        if let Some((_, usage)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
            return self.error_help(span, other_count(name, arguments.len()), format!("it is written {usage}"));
        }
        if aggregate::NAMES.contains(&name) {
            let help = format!("it is assigned to a map: `@m = {name}(...)`");
            return self.error_help(&function.span, format!("`{name}` is no value by itself"), help);
        }
        if super::builtins::names().any(|builtin| builtin == name) {
            return self.error_help(span, other_count(name, arguments.len()), format!("it is written `{name}`"));
        }
        let help = match (elsewhere, suggest(name, names().chain(aggregate::NAMES))) {
            (Some(help), _) => help.to_owned(),
            (None, Some(like)) => format!("did you mean `{like}`?"),
            (None, None) => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.error_help(&function.span, format!("there is no function `{name}`"), help)
    }

    /// A constant between 1 and `most`.
    pub(super) fn constant(&mut self, expr: &Expr, what: &str, most: u32, half: Half) -> Result<u32> {
        match self.int(expr, half)?.0 {
            Value::Const(n) if (1..=u64::from(most)).contains(&n) => Ok(n as u32),
            _ => Err(self.error(&expr.span, format!("{what} must be a constant between 1 and {most}"))),
        }
    }

    fn string(&mut self, name: &str, pointer: &Expr, length: Option<&Expr>, span: &Range<usize>, half: Half) -> Result<Typed> {
        let limit = match length {
            None => DEFAULT_TEXT,
            Some(length) => self.constant(length, "the length", MAX_TEXT, half)?,
        };
        let ctype = format!("char[{limit}]");
        match self.expr(pointer, half)? {
            Typed::Int(_, typ) if typ.is_no_pointer() => {
                let message = format!("`{name}` needs a pointer, and this is of type `{}`", typ.ctype);
                Err(self.error(&pointer.span, message))
            }
            Typed::Int(value, typ) => {
                let space = match name {
                    "kstr" => Space::Kernel,
                    "ustr" => Space::User,
                    _ => typ.space.unwrap_or(self.own_space()),
                };
                self.read_memory(space, span);
                Ok(Typed::Text(Text::Pointer { pointer: Box::new(value), space, keep: limit }, ctype))
            }
            // Text already: with a length of its own, where it has no fixed size.
            Typed::Text(Text::DataLoc { offset, relative, .. }, _) => {
                Ok(Typed::Text(Text::DataLoc { offset, relative, keep: limit }, ctype))
            }
            Typed::Text(Text::Array { address, space, size }, _) => Ok(array_text(*address, space, size, length.map(|_| limit))),
            Typed::Text(text, ctype) => Ok(Typed::Text(text, ctype)),
            // An array of bytes that is text: `u8 name[16]`.
            Typed::Object(object) => {
                let space = object.space;
                let size =
                    self.types().size(object.id).filter(|_| matches!(self.types().shape(object.id), Some(Shape::Array { .. })));
                let (value, _) = self.address_of(object);
                self.read_memory(space, span);
                Ok(match size {
                    Some(size) if size > 0 => array_text(value, space, size, length.map(|_| limit)),
                    _ => Typed::Text(Text::Pointer { pointer: Box::new(value), space, keep: limit }, ctype),
                })
            }
            Typed::Literal(_) => Err(self.error_help(
                &pointer.span,
                format!("`{name}` needs a pointer, and this is a string"),
                "it is text already",
            )),
            other => Err(self.error(&pointer.span, format!("`{name}` needs a pointer, and this is {}", other.describe()))),
        }
    }

    /// An expression that must be text.
    fn text_of(&mut self, expr: &Expr, half: Half) -> Result<Text> {
        match self.expr(expr, half)? {
            Typed::Text(text, _) => self.short(text, &expr.span),
            Typed::Literal(bytes) => self.short(Text::Literal(bytes), &expr.span),
            other => {
                let message = format!("text is needed here, and this is {}", other.describe());
                Err(self.error_help(&expr.span, message, "what a pointer points to is text by `str(x)`"))
            }
        }
    }

    pub(super) fn literal(&self, expr: &Expr, what: &str) -> Result<String> {
        match &expr.kind {
            ExprKind::Text(text) => Ok(text.clone()),
            _ => Err(self.error_help(&expr.span, format!("{what} must be a string"), "as in `\"...\"`")),
        }
    }

    fn begins_alike(&mut self, left: &Expr, right: &Expr, length: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let length = self.constant(length, "the length", MAX_LITERAL as u32, half)? as usize;
        let (text, mut literal, at) = match (self.expr(left, half)?, self.expr(right, half)?) {
            (Typed::Literal(left), Typed::Literal(right)) => {
                let begin = |text: &[u8]| text[..length.min(text.len())].to_vec();
                return Ok(Typed::Int(Value::Const(u64::from(begin(&left) != begin(&right))), computed(BOOL)));
            }
            (Typed::Text(text, _), Typed::Literal(literal)) => (text, literal, right),
            (Typed::Literal(literal), Typed::Text(text, _)) => (text, literal, left),
            _ => return Err(self.error_help(span, "`strncmp` compares text with a string", "two texts compare by `==`")),
        };
        // Both end before the length: then as a whole.
        if literal.len() < length {
            return self.text_is(BinaryOp::NotEqual, text, literal, span, &at.span);
        }
        literal.truncate(length);
        match self.text_is(BinaryOp::NotEqual, text, literal, span, &at.span)? {
            Typed::Int(Value::TextIs { text, literal, equal, .. }, typ) => {
                Ok(Typed::Int(Value::TextIs { text, literal, equal, whole: false }, typ))
            }
            other => Ok(other),
        }
    }

    fn contains(&mut self, text: &Expr, needle: &Expr, half: Half) -> Result<Typed> {
        let needle_text = self.literal(needle, "what is looked for")?.into_bytes();
        let text = self.text_of(text, half)?;
        if needle_text.len() > MAX_NEEDLE {
            let message = format!("the string has {} bytes, and {MAX_NEEDLE} is the most to be looked for", needle_text.len());
            return Err(self.error(&needle.span, message));
        }
        let value = match needle_text.is_empty() {
            true => Value::Const(1),
            false => Value::Contains(text, needle_text),
        };
        Ok(Typed::Int(value, computed(BOOL)))
    }

    fn buffer(&mut self, array: &Expr, length: Option<&Expr>, span: &Range<usize>, half: Half) -> Result<Typed> {
        let length = length.map(|length| self.constant(length, "the length", MAX_TEXT, half)).transpose()?;
        let bytes = self.bytes_at(array, length, MAX_TEXT, span, half)?;
        let ctype = format!("u8[{}]", bytes.length());
        Ok(Typed::Bytes(bytes, Naming::Plain, ctype))
    }

    fn too_many(&self, size: u32, most: u32, span: &Range<usize>) -> Diagnostic {
        let help = if most == MAX_TEXT { "say how many: `buf(x, 64)`" } else { "`buf(x)` takes bytes that are no address" };
        self.error_help(span, format!("that is {size} bytes, and {most} is the most"), help)
    }

    /// The bytes of an array or struct, or so many that a pointer points to.
    pub(super) fn bytes_at(
        &mut self,
        from: &Expr,
        length: Option<u32>,
        most: u32,
        span: &Range<usize>,
        half: Half,
    ) -> Result<Bytes> {
        let (address, space, size) = match self.expr(from, half)? {
            Typed::Array(array) => {
                let length = length.unwrap_or(array.size()).min(array.size());
                if half == Half::Entry || length > most {
                    return Err(self.too_many(length, most, span));
                }
                return Ok(Bytes::Context { offset: array.offset, length });
            }
            // So is text of a fixed size in a record.
            Typed::Text(Text::Chars { offset, size }, _) => {
                return Ok(Bytes::Context { offset, length: length.unwrap_or(size).min(size).min(most) });
            }
            Typed::Object(object) => {
                let (space, size) = (object.space, self.types().size(object.id));
                (self.address_of(object).0, space, size)
            }
            Typed::Text(Text::Array { address, space, size }, _) => (*address, space, Some(size)),
            Typed::Int(value, typ) if !typ.is_no_pointer() => {
                let space = typ.space.unwrap_or(self.own_space());
                // Of single bytes there are as many as there are.
                let size = typ.to.and_then(|to| self.pointee_size(to)).filter(|size| length.is_none() && *size > 1);
                (value, space, size)
            }
            other => {
                let message = format!("bytes in memory are needed here, and this is {}", other.describe());
                return Err(self.error_help(&from.span, message, "an array, a struct, or a pointer"));
            }
        };
        let length = match (length, size) {
            (Some(length), Some(size)) if size > 0 => length.min(size),
            (Some(length), _) => length,
            (None, Some(size)) if (1..=most).contains(&size) => size,
            (None, Some(size)) if size > most => {
                return Err(self.too_many(size, most, span));
            }
            _ => return Err(self.error_help(span, "how many bytes that is, is not known", "say how many: `buf(x, 64)`")),
        };
        self.read_memory(space, span);
        Ok(Bytes::Memory { address: Box::new(address), space, length })
    }

    /// An address of the internet protocol: 4 bytes or 16, in network order.
    fn address(&mut self, expr: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let bytes = match self.expr(expr, half)? {
            Typed::Int(value, typ) if typ.space.is_none() => Bytes::Int { value: Box::new(value), length: 4 },
            Typed::Bytes(bytes, ..) => bytes,
            Typed::Text(Text::Array { .. }, _) | Typed::Object(_) | Typed::Array(_) => {
                self.bytes_at(expr, None, 16, span, half)?
            }
            other => {
                let message =
                    format!("`ntop` takes an integer of 4 bytes, or an array of 4 or 16, and this is {}", other.describe());
                let help = matches!(other, Typed::Int(..)).then(|| "name what it points to: `*x`, `x->member`".to_owned());
                return Err(Diagnostic { help, ..self.error(&expr.span, message) });
            }
        };
        match bytes.length() {
            length @ (4 | 16) => Ok(Typed::Bytes(bytes, Naming::Inet, format!("u8[{length}]"))),
            length => Err(self.error(&expr.span, format!("an address has 4 or 16 bytes, and this has {length}"))),
        }
    }

    /// An integer that the host names.
    fn named(&mut self, operand: &Expr, naming: Naming, half: Half) -> Result<Typed> {
        let (value, typ) = self.int(operand, half)?;
        Ok(Typed::Int(value, IntType { naming, ..typ }))
    }

    fn cgroup_id(&self, path: &Expr) -> Result<Typed> {
        let text = self.literal(path, "the path of a cgroup")?;
        match self.kernel.cgroup_id(&text) {
            Ok(Some(id)) => Ok(Typed::Int(Value::Const(id), computed(U64))),
            Ok(None) => {
                let help = "it is a directory, as in `cgroupid(\"/sys/fs/cgroup/system.slice\")`";
                let error = self.error_help(&path.span, format!("there is no cgroup `{text}`"), help);
                Err(Diagnostic { missing: true, ..error })
            }
            Err(error) => Err(self.source(&path.span, &error)),
        }
    }

    fn kernel_address(&self, symbol: &Expr) -> Result<Typed> {
        let text = self.literal(symbol, "the name of a symbol")?;
        match self.kernel.symbol(&text) {
            Ok(Some(symbol)) => Ok(Typed::Int(Value::Const(symbol.start), IntType::pointer(Space::Kernel, None, "void *"))),
            Ok(None) => {
                let error =
                    self.error_help(&symbol.span, format!("this kernel has no symbol `{text}`"), "/proc/kallsyms has them all");
                Err(Diagnostic { missing: true, ..error })
            }
            Err(error) => Err(self.source(&symbol.span, &error)),
        }
    }

    /// Where a symbol of the traced program is in the process: as far from the probed instruction as in the file.
    fn user_address(&mut self, symbol: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let name = self.literal(symbol, "the name of a symbol")?;
        let entry = self.target.entry.as_ref();
        let Hook::Uprobe { path, offset, returns, .. } = &entry.unwrap_or(&self.target.site).hook else {
            let message = format!("{} is in no program", self.here(half));
            return Err(self.error_help(span, message, "uprobes and USDT probes are; `kaddr` is for the kernel"));
        };
        if *returns {
            let message = "where a function returns, no register says where its program or library was loaded";
            return Err(self.error_help(span, message, "a span knows it from the entry: `span:uprobe:BINARY:FUNCTION`"));
        }
        if glob::is_pattern(&name) {
            return Err(self.error(&symbol.span, "a symbol is named whole: it has no wildcards"));
        }
        let found = match self.kernel.user_symbol(path, &name, *offset) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let message = format!("`{path}` has no symbol `{name}`");
                let error =
                    self.error_help(&symbol.span, message, "`readelf -Ws` lists them; a stripped file has those that others use");
                return Err(Diagnostic { missing: true, ..error });
            }
            Err(error) => return Err(self.source(&symbol.span, &error)),
        };
        let kept = entry.is_some() && half == Half::Here;
        self.read(DataClass::Arguments, span);
        self.uses(if kept { Half::Entry } else { half }).registers = true;
        let here = Value::Load(Place::Context(registers::INSTRUCTION_POINTER), U64);
        let here = if kept { Value::Saved(self.save(Save::Int(here))) } else { here };
        let address = super::fold::binary(BinaryOp::Add, false, here, Value::Const(found.distance.cast_unsigned()));
        let (to, ctype) = match found.size {
            1 | 2 | 4 | 8 => {
                let ctype = format!("uint{}_t", 8 * found.size);
                (self.types().find_type(&ctype).map(|found| Pointee { id: found.base, levels: 0 }), format!("{ctype} *"))
            }
            _ => (None, "void *".to_owned()),
        };
        Ok(Typed::Int(address, IntType::pointer(Space::User, to, ctype)))
    }

    fn source(&self, span: &Range<usize>, error: &SourceError) -> Diagnostic {
        self.error(span, error.to_string())
    }

    /// That there are registers at that place.
    pub(super) fn has_registers(&self, span: &Range<usize>, half: Half) -> Result<()> {
        if self.site(half).context != ContextKind::Registers {
            let message = format!("{} has no registers", self.here(half));
            return Err(self.error_help(span, message, "kprobes, uprobes and perf events have them"));
        }
        Ok(())
    }

    fn register(&mut self, register: &Expr, span: &Range<usize>, half: Half) -> Result<Typed> {
        let name = self.literal(register, "the name of a register")?;
        self.has_registers(span, half)?;
        let Some(offset) = registers::offset(&name) else {
            let error = self.error(&register.span, format!("there is no register `{name}`"));
            let help = match suggest(&name, registers::names()) {
                Some(like) => format!("did you mean `{like}`?"),
                None => format!("there are {}", registers::names().collect::<Vec<_>>().join(", ")),
            };
            return Err(Diagnostic { help: Some(help), ..error });
        };
        self.read(DataClass::Arguments, span);
        self.uses(half).registers = true;
        Ok(Typed::Int(Value::Load(Place::Context(offset), U64), computed(U64)))
    }

    fn clock(&self, clock: &Expr) -> Result<Typed> {
        let features = self.kernel.features();
        let (value, there, since) = match &clock.kind {
            ExprKind::Name(name) if name == "monotonic" => (Value::Time, true, ""),
            ExprKind::Name(name) if name == "boot" => (Value::Helper(Helper::BootTime), features.time_boot, "5.8"),
            ExprKind::Name(name) if name == "tai" => (Value::Helper(Helper::TaiTime), features.time_tai, "6.1"),
            _ => {
                return Err(self.error_help(&clock.span, "there is no such clock", "there are monotonic, boot and tai"));
            }
        };
        if !there {
            let message = format!("this kernel's programs can't ask that clock; it takes Linux {since}");
            let error = self.error_help(&clock.span, message, "`nsecs` is CLOCK_MONOTONIC");
            return Err(Diagnostic { missing: true, ..error });
        }
        Ok(Typed::Int(value, computed(U64)))
    }

    pub(super) fn stack(&mut self, name: &str, depth: Option<&Expr>, span: &Range<usize>, half: Half) -> Result<Typed> {
        if self.site(half).context == ContextKind::Nothing {
            let message = format!("{} has no call stack", self.here(half));
            return Err(self.error_help(span, message, "the host runs it itself, once"));
        }
        if self.iterated().is_some() {
            let message = format!("{} has no call stacks", self.here(half));
            return Err(self.error_help(
                span,
                message,
                "the body runs in the host, and not where the task is that it is told of",
            ));
        }
        let depth = match depth {
            None => MAX_FRAMES,
            Some(depth) => self.constant(depth, "the number of frames", MAX_FRAMES, half)?,
        };
        self.read(DataClass::Stacks, span);
        let stack = if name == "kstack" { Stack::Kernel(depth) } else { Stack::User(depth) };
        Ok(Typed::Stack(stack, Naming::Plain))
    }

    fn size_of(&mut self, of: &Expr, half: Half) -> Result<Typed> {
        let size = match self.expr(of, half)? {
            Typed::Int(_, typ) => typ.int.size.into(),
            Typed::Text(text, _) => text.capacity(),
            Typed::Literal(bytes) => bytes.len() as u32 + 1,
            Typed::Bytes(bytes, ..) => bytes.length(),
            Typed::Object(object) => match self.types().size(object.id) {
                Some(size) => size,
                None => return Err(self.error(&of.span, "this has no size")),
            },
            Typed::Array(array) => array.size(),
            other @ Typed::Stack(..) => return Err(self.error(&of.span, format!("{} has no size", other.describe()))),
        };
        Ok(Typed::Int(Value::Const(size.into()), computed(U64).literal()))
    }
}
