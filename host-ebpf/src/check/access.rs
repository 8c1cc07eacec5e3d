//! Maps in statements and expressions.

use std::ops::Range;

use super::{
    Checker, Half, Result,
    ir::{Key, KeyPart, Stack, StatementKind, Text, Value},
    maps::{Declared, KeyType, MAX_ELEMENTS, Use, ValueType},
    types::{IntType, S64, Typed, U64, computed},
};
use crate::{
    aggregate::{self, Content, SeriesOf},
    diagnostic::{Diagnostic, suggest},
    kernel::btf::Int,
    syntax::{
        ast::{BinaryOp, Expr, ExprKind, Ident, MapAccess},
        last_name,
    },
};

/// The kinds of map that can be declared, as bpftrace names them. A map of aggregations is per CPU whatever it is called.
const KINDS: [(&str, Declared); 4] = [
    ("hash", Declared::Hash),
    ("lruhash", Declared::LruHash),
    ("percpuhash", Declared::Hash),
    ("percpulruhash", Declared::LruHash),
];

/// What a time series keeps of each interval.
const SERIES: [(&str, SeriesOf); 5] =
    [("last", SeriesOf::Last), ("sum", SeriesOf::Sum), ("avg", SeriesOf::Avg), ("min", SeriesOf::Min), ("max", SeriesOf::Max)];

/// The most intervals that a time series keeps.
const MAX_INTERVALS: u32 = 1_000;

/// The most buckets that a linear histogram can have, as in bpftrace.
const MAX_LINEAR_BUCKETS: u32 = 1002;

impl Checker<'_> {
    fn here_use(&self, span: &Range<usize>) -> Use {
        Use { probe: self.spec.name.clone(), part: self.part, span: span.clone(), text: self.text(span).to_owned() }
    }

    /// The map's number and the key of one of its elements.
    fn element(&mut self, map: &MapAccess) -> Result<(usize, Key)> {
        let index = self.maps.index(&map.name.name);
        let (mut key, mut types) = (Key::new(), Vec::new());
        for part in &map.keys {
            let typed = self.expr(part, Half::Here)?;
            let (part, typ) = self.key_part(typed, part)?;
            key.push(part);
            types.push(typ);
        }
        if !self.kernel.features().large_keys {
            shorten(&mut key, &mut types);
        }
        let here = self.here_use(&map.span);
        self.maps.name_keys(index, map.keys.iter().map(last_name));
        if let Err((known, first)) = self.maps.keys(index, &types, here) {
            let list = |keys: &[KeyType]| match keys {
                [] => "no key".to_owned(),
                keys => format!("the key [{}]", keys.iter().map(KeyType::describe).collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`@{}` has {} here and {} elsewhere", map.name.name, list(&types), list(&known));
            let help = format!("probe \"{}\" has `{}`; all keys of a map are of the same types", first.probe, first.text);
            let span = if map.keys.is_empty() { &map.name.span } else { &map.span };
            return Err(self.error_help(span, message, help));
        }
        Ok((index, key))
    }

    fn key_part(&mut self, typed: Typed, expr: &Expr) -> Result<(KeyPart, KeyType)> {
        Ok(match typed {
            Typed::Int(value, typ) => {
                (KeyPart::Int(value), KeyType::Int { signed: typ.int.signed, ctype: typ.ctype, naming: typ.naming })
            }
            Typed::Text(text, _) => {
                let text = self.short(text, &expr.span)?;
                let capacity = text.capacity();
                (KeyPart::Text(text), KeyType::Text { capacity })
            }
            Typed::Literal(bytes) => {
                let text = self.short(Text::Literal(bytes), &expr.span)?;
                let capacity = text.capacity();
                (KeyPart::Text(text), KeyType::Text { capacity })
            }
            Typed::Bytes(bytes, naming, _) => {
                let length = bytes.length();
                (KeyPart::Bytes(bytes), KeyType::Bytes { length, naming })
            }
            Typed::Stack(stack, naming) => {
                let depth = stack.depth();
                (KeyPart::Stack(stack), KeyType::Stack { depth, naming })
            }
            other @ (Typed::Object(_) | Typed::Array(_)) => {
                let message = format!("a key can't be {}", other.describe());
                return Err(self.error_help(&expr.span, message, "name a member of it, or take its bytes: `buf(x, LENGTH)`"));
            }
        })
    }

    /// `span`: the statement.
    fn content(&mut self, index: usize, map: &MapAccess, content: Content, span: &Range<usize>) -> Result<()> {
        let here = self.here_use(span);
        let Err((known, first)) = self.maps.content(index, content, here) else { return Ok(()) };
        let name = |content: Content| match content {
            Content::Value => "an assigned value".to_owned(),
            other => format!("`{}`", other.name()),
        };
        let message = match known.name() == content.name() {
            true => format!("`@{}` is {} with other arguments elsewhere", map.name.name, name(content)),
            false => format!("`@{}` is {} here and {} elsewhere", map.name.name, name(content), name(known)),
        };
        let help = format!("probe \"{}\" has `{}`; use another map", first.probe, first.text);
        Err(self.error_help(&map.name.span, message, help))
    }

    pub(super) fn assign_map(
        &mut self,
        map: &MapAccess,
        op: Option<BinaryOp>,
        value: &Expr,
        span: &Range<usize>,
    ) -> Result<StatementKind> {
        if let (None, ExprKind::Call(function, arguments)) = (op, &value.kind)
            && aggregate::NAMES.contains(&function.name.as_str())
        {
            return self.aggregate(map, function, arguments, &value.span, span);
        }
        let (index, key) = self.element(map)?;
        self.content(index, map, Content::Value, span)?;
        if let Some(op @ (BinaryOp::Add | BinaryOp::Subtract)) = op {
            let (mut value, typ) = self.int(value, Half::Here)?;
            self.assigned_int(index, map, computed(Int { size: 8, ..typ.int }), span)?;
            if op == BinaryOp::Subtract {
                value = super::fold::unary(crate::syntax::ast::UnaryOp::Negate, value);
            }
            return Ok(StatementKind::Add { map: index, key, value });
        }
        let combines = op.is_some() && !key.is_empty();
        let combined;
        let value = match op {
            None => value,
            Some(op) => {
                let left = Expr { kind: ExprKind::Map(map.clone()), span: map.name.span.clone() };
                combined = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(value.clone())), span: span.clone() };
                &combined
            }
        };
        match self.expr(value, Half::Here)? {
            Typed::Int(value, typ) => {
                self.assigned_int(index, map, typ, span)?;
                Ok(match value {
                    Value::Binary { op, signed, left, right } if combines && *left == Value::Element(index, key.clone()) => {
                        StatementKind::Change { map: index, key, op, signed, value: *right }
                    }
                    value => StatementKind::Set { map: index, key, value },
                })
            }
            Typed::Text(text, _) => self.set_text((index, map), key, text, value, span),
            Typed::Literal(bytes) => self.set_text((index, map), key, Text::Literal(bytes), value, span),
            Typed::Object(object) => {
                let (value, typ) = self.address_of(object);
                self.assigned_int(index, map, typ, span)?;
                Ok(StatementKind::Set { map: index, key, value })
            }
            other => {
                let message = format!("a map's value is an integer or text, and this is {}", other.describe());
                Err(self.error_help(&value.span, message, "make it a key: `@m[kstack] = count()`"))
            }
        }
    }

    fn set_text(
        &mut self,
        (index, map): (usize, &MapAccess),
        key: Key,
        text: Text,
        value: &Expr,
        span: &Range<usize>,
    ) -> Result<StatementKind> {
        let text = self.short(text, &value.span)?;
        let here = self.here_use(span);
        if !self.maps.value(index, ValueType::Text(text.capacity()), here) {
            return Err(self.other_value(index, map, "text", "an integer"));
        }
        Ok(StatementKind::SetText { map: index, key, value: text })
    }

    fn assigned_int(&mut self, index: usize, map: &MapAccess, typ: IntType, span: &Range<usize>) -> Result<()> {
        let typ = IntType { int: Int { size: 8, ..typ.int }, ..typ };
        let here = self.here_use(span);
        let fits = self.maps.value(index, ValueType::Int(typ), here);
        if fits { Ok(()) } else { Err(self.other_value(index, map, "an integer", "text")) }
    }

    fn other_value(&self, index: usize, map: &MapAccess, here: &str, elsewhere: &str) -> Diagnostic {
        let message = format!("`@{}` is {here} here and {elsewhere} elsewhere", map.name.name);
        let help = match &self.maps.all[index].valued {
            Some(first) => format!("probe \"{}\" has `{}`; all values of a map are of one type", first.probe, first.text),
            None => "all values of a map are of one type".to_owned(),
        };
        self.error_help(&map.name.span, message, help)
    }

    fn aggregate(
        &mut self,
        map: &MapAccess,
        function: &Ident,
        arguments: &[Expr],
        span: &Range<usize>,
        statement: &Range<usize>,
    ) -> Result<StatementKind> {
        let (index, key) = self.element(map)?;
        let name = function.name.as_str();
        let usage = match name {
            "count" => "count()".to_owned(),
            "hist" => "hist(x), hist(x, BITS)".to_owned(),
            "lhist" => "lhist(x, MIN, MAX, STEP)".to_owned(),
            "tseries" => "tseries(x, INTERVAL, INTERVALS), tseries(x, 1s, 60, \"avg\")".to_owned(),
            _ => format!("{name}(x)"),
        };
        let usage = format!("it is written {usage}");
        let fits = match name {
            "count" => arguments.is_empty(),
            "hist" => matches!(arguments.len(), 1 | 2),
            "lhist" => arguments.len() == 4,
            "tseries" => matches!(arguments.len(), 3 | 4),
            _ => arguments.len() == 1,
        };
        if !fits {
            return Err(self.error_help(span, super::functions::other_count(name, arguments.len()), usage));
        }
        let (value, typ) = match arguments.first() {
            Some(value) => self.int(value, Half::Here)?,
            None => (Value::Const(1), computed(U64)),
        };
        let mut constants = Vec::new();
        let mut of = SeriesOf::Last;
        for (i, argument) in arguments.iter().enumerate().skip(1) {
            if ("tseries", 3) == (name, i) {
                let text = self.literal(argument, "what a time series keeps")?;
                match SERIES.iter().find(|(name, _)| *name == text) {
                    Some((_, series)) => of = *series,
                    None => {
                        let names: Vec<&str> = SERIES.iter().map(|(name, _)| *name).collect();
                        let message = format!("`{text}` is nothing that a time series keeps");
                        let help = match suggest(&text, names.iter().copied()) {
                            Some(like) => format!("did you mean `{like}`?"),
                            None => format!("there are {}", names.join(", ")),
                        };
                        return Err(self.error_help(&argument.span, message, help));
                    }
                }
                continue;
            }
            match self.int(argument, Half::Here)?.0 {
                Value::Const(n) => constants.push(n.cast_signed()),
                _ => return Err(self.error_help(&argument.span, format!("`{name}` takes constants here"), usage)),
            }
        }
        let content = match (name, constants.as_slice()) {
            ("count", _) => Content::Count,
            ("sum", _) => Content::Sum,
            ("min", _) => Content::Min,
            ("max", _) => Content::Max,
            ("avg", _) => Content::Avg,
            ("stats", _) => Content::Stats,
            ("hist", bits) => match bits.first().copied().unwrap_or(0) {
                bits @ 0..=5 => Content::Hist { bits: bits as u8 },
                _ => {
                    let at = arguments.get(1).map_or(span, |argument| &argument.span);
                    return Err(self.error_help(
                        at,
                        "a power of two is parted by 0 to 5 bits",
                        "0 is one bucket for each, 5 is 32",
                    ));
                }
            },
            ("tseries", &[interval, buckets]) => match (u64::try_from(interval), u32::try_from(buckets)) {
                (Ok(interval @ 1..), Ok(buckets @ 1..=MAX_INTERVALS)) => Content::TimeSeries { interval, buckets, of },
                _ => {
                    let message = format!("a time series has 1 to {MAX_INTERVALS} intervals of 1 ns at least");
                    let at = &arguments[if interval < 1 { 1 } else { 2 }].span;
                    return Err(self.error_help(at, message, usage));
                }
            },
            ("lhist", &[min, max, step]) => {
                let content = Content::LinearHist { min, max, step };
                if step <= 0 || max <= min {
                    let at = if step <= 0 { arguments[3].span.clone() } else { arguments[1].span.start..arguments[2].span.end };
                    return Err(self.error_help(&at, "the buckets go from a smaller to a larger value by steps above 0", usage));
                }
                if content.buckets().is_none_or(|buckets| buckets > MAX_LINEAR_BUCKETS) {
                    let message = format!("that is more than {} buckets", MAX_LINEAR_BUCKETS - 2);
                    return Err(self.error_help(span, message, "take a larger step"));
                }
                content
            }
            _ => return Err(self.error_help(span, format!("`{name}` takes other arguments"), usage)),
        };
        self.content(index, map, content, statement)?;
        // A positive constant does not make a map signed.
        if typ.int.signed && !matches!(value, Value::Const(n) if i64::try_from(n).is_ok()) {
            self.maps.all[index].signed = true;
        }
        let series = matches!(content, Content::TimeSeries { .. });
        Ok(StatementKind::Aggregate { map: index, key, value, series })
    }

    pub(super) fn declare_map(&mut self, map: &Ident, kind: &Ident, size: &Expr, span: &Range<usize>) -> Result<()> {
        let Some((_, declared)) = KINDS.iter().find(|(name, _)| *name == kind.name) else {
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            let message = format!("`{}` is no kind of map", kind.name);
            let help = match suggest(&kind.name, names.iter().copied()) {
                Some(like) => format!("did you mean `{like}`?"),
                None => format!("there are {}", names.join(", ")),
            };
            return Err(self.error_help(&kind.span, message, help));
        };
        let size = self.constant(size, "the number of elements", MAX_ELEMENTS, Half::Here)?;
        let index = self.maps.index(&map.name);
        let here = self.here_use(span);
        match &self.maps.all[index].declared {
            Some((kind, elements, first)) if (*kind, *elements) != (*declared, size) => {
                let message = format!("`@{}` is declared in another way elsewhere", map.name);
                let help = format!("probe \"{}\" has `{}`; declare it once", first.probe, first.text);
                Err(self.error_help(&map.span, message, help))
            }
            Some(_) => Ok(()),
            None => {
                self.maps.all[index].declared = Some((*declared, size, here));
                Ok(())
            }
        }
    }

    pub(super) fn delete(&mut self, map: &MapAccess) -> Result<StatementKind> {
        let index = self.maps.index(&map.name.name);
        if map.keys.is_empty() && self.maps.all[index].keys.as_ref().is_some_and(|(keys, _)| !keys.is_empty()) {
            let name = &map.name.name;
            let help = format!("one element is `delete(@{name}[key])`, all are `clear(@{name})`");
            return Err(self.error_help(&map.span, "`delete` takes out one element of a map", help));
        }
        let (index, key) = self.element(map)?;
        self.is_read(index, map);
        if key.is_empty() {
            self.one_value(index, map, "delete")?;
        }
        Ok(StatementKind::Delete { map: index, key })
    }

    /// Of a map without keys: that it is a value, which a program can make 0.
    ///
    /// What each CPU keeps for itself it can't: another CPU is adding to it, and the host subtracts what a plugin took of it.
    fn one_value(&self, index: usize, map: &MapAccess, function: &str) -> Result<()> {
        if self.maps.all[index].content.as_ref().is_none_or(|(content, _)| *content == Content::Value) {
            return Ok(());
        }
        let name = &map.name.name;
        let message = format!("`@{name}` is kept by each CPU for itself, and a program can't {function} what others keep");
        let help =
            format!("the plugin empties it, by `take` or `clear` of its import `maps`; with a key, `@{name}[0]`, a body can");
        Err(self.error_help(&map.name.span, message, help))
    }

    /// The number of a map that is named as a whole, and whether it has keys; `None` while nobody has said so.
    fn whole(&mut self, map: &MapAccess, function: &str, of_one: &str) -> Result<(usize, Option<bool>)> {
        let name = &map.name.name;
        if !map.keys.is_empty() {
            let help = format!("write `{function}(@{name})`; of one element there is `{of_one}`");
            return Err(self.error_help(&map.span, format!("`{function}` takes a whole map"), help));
        }
        let index = self.maps.index(name);
        self.is_read(index, map);
        Ok((index, self.maps.all[index].keys.as_ref().map(|(keys, _)| !keys.is_empty())))
    }

    /// That a program can go through a map. Where it can't, the rest of the probe still says what the map is, and is checked first.
    fn for_each(&mut self, map: &MapAccess, help: &str) {
        if !self.kernel.features().for_each_map && self.lacks.is_none() {
            let message = "this kernel's programs can't go through a map: that takes bpf_for_each_map_elem, of Linux 5.13";
            self.lacks = Some(Diagnostic { missing: true, ..self.error_help(&map.span, message, help) });
        }
    }

    pub(super) fn clear(&mut self, map: &MapAccess) -> Result<StatementKind> {
        let (index, keys) = self.whole(map, "clear", "delete(@m[key])")?;
        if keys == Some(false) {
            self.one_value(index, map, "clear")?;
            return Ok(StatementKind::Delete { map: index, key: Key::new() });
        }
        if keys == Some(true) {
            self.for_each(map, "the plugin does it, by `clear` of its import `maps`");
        }
        Ok(StatementKind::Clear { map: index })
    }

    /// How many keys a map has.
    pub(super) fn len(&mut self, map: &MapAccess) -> Result<Typed> {
        let (index, keys) = self.whole(map, "len", "has_key(@m[key])")?;
        let name = &map.name.name;
        if keys == Some(false) {
            let help = format!("`len` counts the keys of a map that has some, such as `@{name}[pid]`");
            return Err(self.error_help(&map.span, format!("`@{name}` has no keys"), help));
        }
        if let Some((content, _)) = &self.maps.all[index].content
            && content.buckets().is_some()
        {
            let what = content.name();
            let message =
                format!("`@{name}` is a `{what}`, which has many elements for each key, and a program can't tell its keys");
            let help = "keep them in a map beside it: `@keys[key] = 1`, of which there is `len(@keys)`; the plugin can count what it reads";
            return Err(self.error_help(&map.span, message, help));
        }
        if keys == Some(true) {
            self.for_each(map, "the plugin counts what it reads by its import `maps`");
        }
        Ok(Typed::Int(Value::Len(index), computed(S64)))
    }

    /// An element's value.
    pub(super) fn map_value(&mut self, map: &MapAccess) -> Result<Typed> {
        let (index, key) = self.element(map)?;
        let known = &self.maps.all[index];
        if let Some((content, first)) = known.content.clone()
            && content != Content::Value
        {
            let message =
                format!("`@{}` is a `{}`, which each CPU keeps for itself: it has no value here", map.name.name, content.name());
            let help = format!("the plugin reads it as a whole (probe \"{}\" has `{}`)", first.probe, first.text);
            return Err(self.error_help(&map.name.span, message, help));
        }
        match known.value.clone() {
            Some(ValueType::Int(typ)) => Ok(Typed::Int(Value::Element(index, key), typ)),
            Some(ValueType::Text(keep)) => Ok(Typed::Text(Text::Element { map: index, key, keep }, format!("char[{keep}]"))),
            None => {
                self.is_read(index, map);
                Ok(Typed::Int(Value::Element(index, key), computed(S64)))
            }
        }
    }

    /// A later probe may say what the map's values are; the next pass knows.
    fn is_read(&mut self, index: usize, map: &MapAccess) {
        if self.maps.all[index].unknown.is_none() {
            self.maps.all[index].unknown = Some(self.here_use(&map.span));
        }
    }

    pub(super) fn has_key(&mut self, map: &MapAccess) -> Result<Typed> {
        let (index, key) = self.element(map)?;
        self.is_read(index, map);
        Ok(Typed::Int(Value::HasKey(index, key), computed(super::types::BOOL)))
    }
}

/// What a key can have where the kernel has no large ones (`MAX_BPF_STACK`, include/linux/filter.h).
const SMALL_KEY: u32 = 512;

/// Takes as few frames into a key as fit: kernels before 5.16 have keys of 512 bytes at most.
fn shorten(key: &mut Key, types: &mut [KeyType]) {
    let stacks = types.iter().filter(|typ| matches!(typ, KeyType::Stack { .. })).count() as u32;
    if stacks == 0 {
        return;
    }
    // A histogram's bucket may come behind.
    let others: u32 = 8 + types.iter().map(|typ| if matches!(typ, KeyType::Stack { .. }) { 0 } else { typ.size() }).sum::<u32>();
    let most = (SMALL_KEY.saturating_sub(others) / stacks / 8).saturating_sub(1).max(1);
    for (part, typ) in key.iter_mut().zip(types) {
        if let (
            KeyPart::Stack(Stack::Kernel(depth) | Stack::User(depth) | Stack::Saved { depth, .. }),
            KeyType::Stack { depth: typ, .. },
        ) = (part, typ)
        {
            *depth = (*depth).min(most);
            *typ = *depth;
        }
    }
}
